"""A classifier of output lengths: which of ten buckets that the training's outputs fill alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from .features import Features
from .intervals import LEVELS
from .trees import boosted, drawn

BUCKETS = 10  # at most: fewer where many outputs are equal
ROUNDS = 20
MIN_CLASSES = 2  # that xgboost takes: of constant outputs one stays empty


def bucket_edges(output: np.ndarray, buckets: int = BUCKETS) -> np.ndarray:
    """f8[at most buckets - 1], rising: bucket k holds edges[k-1] < output <= edges[k], of equal mass but for ties."""
    inner = np.quantile(output, np.arange(1, buckets) / buckets, method="inverted_cdf")
    return np.unique(inner[inner < output.max()])


def bucket_of(output: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """i8[rows]: the bucket of each."""
    return np.searchsorted(edges, output, side="left")


@dataclass(frozen=True, eq=False)
class Buckets:
    """P(bucket) by boosted trees; the prediction is the mean of the buckets' mean outputs, weighed by it.

    The mean of the likeliest bucket, which is what `bucket` says, has 12 to 24 % more absolute error and is -35 to
    +14 % off in sum (sample, Azure conversations and code).
    """

    booster: Any
    edges: np.ndarray  # f8[buckets - 1]
    means: np.ndarray  # f8[buckets]: of the training outputs in it
    ends: tuple[float, float]  # shortest and longest output in training

    @classmethod
    def learn(cls, known: pl.DataFrame, features: Features, matrix: np.ndarray, seed: int) -> "Buckets":
        """From rows that are all done, by arrival, and their features."""
        known, matrix = drawn(known, matrix, seed)
        output = known["output_tokens"].cast(pl.Float64).to_numpy()
        edges = bucket_edges(output)
        bucket = bucket_of(output, edges)
        means = np.bincount(bucket, output, len(edges) + 1) / np.bincount(bucket, minlength=len(edges) + 1)
        parameters = {"objective": "multi:softprob", "num_class": max(len(means), MIN_CLASSES), "min_child_weight": 5}
        booster = boosted(matrix, bucket, features, parameters, seed, ROUNDS)
        return cls(booster, edges, means, (float(output.min()), float(output.max())))

    def predict(self, requests: pl.DataFrame, matrix: np.ndarray) -> np.ndarray:
        """f8[rows]."""
        return np.asarray(self._shares(matrix) @ self.means)

    def bucket(self, requests: pl.DataFrame, matrix: np.ndarray) -> np.ndarray:
        """i8[rows]: the likeliest."""
        return np.asarray(self._shares(matrix).argmax(axis=1))

    def quantiles(self, requests: pl.DataFrame, matrix: np.ndarray) -> np.ndarray:
        """f8[rows, LEVELS]: linear within a bucket."""
        below = np.cumsum(self._shares(matrix), axis=1)
        tops = np.concatenate([self.edges, [self.ends[1]]])
        bottoms = np.concatenate([[self.ends[0]], self.edges])
        out = np.empty((requests.height, len(LEVELS)))
        for q, level in enumerate(LEVELS):
            k = np.minimum((below < level).sum(axis=1), len(tops) - 1)
            start = np.where(k > 0, np.take_along_axis(below, np.maximum(k - 1, 0)[:, None], 1)[:, 0], 0.0)
            inside = np.take_along_axis(below, k[:, None], 1)[:, 0] - start
            part = np.clip((level - start) / np.maximum(inside, 1e-9), 0.0, 1.0)
            out[:, q] = bottoms[k] + part * (tops[k] - bottoms[k])
        return np.maximum(out, 1.0)

    def _shares(self, matrix: np.ndarray) -> np.ndarray:
        raw = self.booster.inplace_predict(matrix).astype(np.float64)
        known = raw.reshape(len(matrix), max(len(self.means), MIN_CLASSES))[:, : len(self.means)]
        return np.asarray(known / known.sum(axis=1, keepdims=True))

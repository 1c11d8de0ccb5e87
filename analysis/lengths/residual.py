"""Re-prediction: how much more to expect of an output that outlived its prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..windows import PRIOR_OUTPUT_TOKENS
from .features import level_codes

ALL = "all"  # services together

MIN_TAIL = 10  # rows that outlive a grid point for its expected rest to be learned


@dataclass(frozen=True, eq=False)
class Rest:
    """What `residual_by_bucket` found, for the services it was learned of; the last row is of all, for others."""

    services: tuple[str, ...]
    grid: np.ndarray  # f8[G], rising from 0
    tokens: np.ndarray  # f8[services + 1, buckets, G] >= 1

    @classmethod
    def learn(cls, known: pl.DataFrame, predicted: np.ndarray, edges: Sequence[float]) -> "Rest":
        """Of rows that were done before the cut (service, output_tokens), and what is predicted of them."""
        services = tuple(known["service"].cast(pl.String).unique().drop_nulls().sort().to_list())
        grid, own = residual_by_bucket(known, predicted, edges, services)
        every = known.with_columns(service=pl.lit(ALL))
        return cls(services, grid, np.concatenate([own, residual_by_bucket(every, predicted, edges, [ALL])[1]]))

    def outputs(self, requests: pl.DataFrame, bucket: np.ndarray, generated: float) -> np.ndarray:
        """f8[rows]: E[output | output > generated], by service and the bucket (i8[rows]) of what is predicted."""
        at = max(int(np.searchsorted(self.grid, generated, side="right")) - 1, 0)
        code = level_codes(requests["service"], self.services).astype(np.int64)
        return np.asarray(generated + self.tokens[code, bucket, at])


def residual_table(training: pl.DataFrame, services: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(grid f8[G], tokens f8[services, G]): E[output - g | output > g] at g = grid, 0 and half octaves up.

    For requests that generated as much as predicted and go on: the entry of the largest grid point not above
    what is generated is how much more to expect, at least 1. Learned from `training` (service, output_tokens;
    rows done before the cut); where fewer than MIN_TAIL outlive g, the value of the last g where enough do.
    A service without rows takes those of all; without any, PRIOR_OUTPUT_TOKENS.
    """
    rows = training.select(pl.col("service").cast(pl.String), pl.col("output_tokens").cast(pl.Float64)).filter(
        pl.col("output_tokens") >= 1
    )
    grid = _grid(rows["output_tokens"].to_numpy())
    every = np.sort(rows["output_tokens"].to_numpy())
    tokens = np.empty((len(services), len(grid)))
    for s, service in enumerate(services):
        own = np.sort(rows.filter(pl.col("service") == service)["output_tokens"].to_numpy())
        tokens[s] = _mean_residual(own if len(own) >= MIN_TAIL else every, grid)
    return grid, tokens


def residual_by_bucket(
    training: pl.DataFrame, predicted: np.ndarray, edges: Sequence[float], services: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(grid f8[G], tokens f8[services, buckets, G]): `residual_table`, also by the bucket of what was predicted.

    predicted: of the rows of `training`. A cell that few requests are in takes its service's row. On the half of a
    trace that was not trained on, requests that outlived their prediction were told what is left with this error and
    bias, tokens (by service alone in brackets): sample 433 +13 (578 +240), Azure conversations 43 +3 (130 +112),
    Azure code 51 -9 (53 -3), ServeGen 68 0 (161 +131): a short answer that goes on is not as long as a long one.
    """
    rows = training.select(
        pl.col("service").cast(pl.String),
        pl.col("output_tokens").cast(pl.Float64),
        bucket=pl.Series(np.searchsorted(np.asarray(edges, dtype=np.float64), predicted), dtype=pl.Int64),
    ).filter(pl.col("output_tokens") >= 1)
    grid, by_service = residual_table(rows, services)
    tokens = np.repeat(by_service[:, None, :], len(edges) + 1, axis=1)
    number = {service: s for s, service in enumerate(services)}
    for (service, bucket), part in rows.group_by("service", "bucket"):
        if part.height >= MIN_TAIL and service in number:
            tokens[number[str(service)], int(str(bucket))] = _mean_residual(
                np.sort(part["output_tokens"].to_numpy()), grid
            )
    return grid, tokens


def _grid(output: np.ndarray) -> np.ndarray:
    """0 and half octaves up to the longest."""
    octaves = np.log2(max(float(output.max()), 2.0)) if len(output) else 1.0
    return np.unique(np.concatenate([[0.0], np.round(2.0 ** np.arange(0, octaves + 0.5, 0.5))]))


def _mean_residual(output: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """E[output - g | output > g] of rising outputs."""
    if not len(output):
        return np.full(len(grid), PRIOR_OUTPUT_TOKENS)
    beyond = np.searchsorted(output, grid, side="right")
    count = len(output) - beyond
    above = np.concatenate([np.cumsum(output[::-1])[::-1], [0.0]])[beyond]
    enough = count >= min(MIN_TAIL, len(output))
    rest = np.where(enough, above / np.maximum(count, 1) - grid, np.nan)
    last = np.flatnonzero(enough)[-1]  # g = 0 always is: every output is at least 1
    rest[last:] = rest[last]
    return np.maximum(rest, 1.0)

"""A predictor of any kind, trained before a cut: what it falls back to, its quantiles, what is refused."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from ..windows import PRIOR_OUTPUT_TOKENS
from .buckets import bucket_edges, bucket_of
from .floors import InputBin, Median
from .intervals import LEVELS, Shift, split
from .kinds import PREDICTORS
from .trees import QuantileTrees

MIN_ROWS = {"median": 1, "input-bin": 20, "trees": 500, "buckets": 500}  # below, a kind only learns noise
SAID = {"input-bin": "mean by input length", "median": "median"}


@dataclass(frozen=True, eq=False)
class LengthPredictor:
    """Output tokens of a request from what a router knows when it arrives, learned from what was done before cut_s."""

    cut_s: float
    kind: str  # as asked for
    note: str | None = None  # why it is of another kind, where it is
    rows: int = 0  # known before the cut
    model: Any = None
    spread: Any = None  # has quantiles(requests), learned without the calibration rows
    shift: Shift | None = None
    edges: tuple[float, ...] = ()  # of equal-mass buckets of the training outputs
    longest: float = np.inf  # output seen in training

    @classmethod
    def train(
        cls, requests: pl.DataFrame, *, cut_s: float, kind: str = "trees", seed: int = 0, intervals: bool = False
    ) -> "LengthPredictor":
        """From the rows done before cut_s; `requests` may hold others. UserError (exit 2) for an unknown kind.

        Columns arrival_s, done_s, service, tier, region, tenant, input_tokens, output_tokens, and where known
        max_tokens and session_id. With few rows it falls back, and says so in `note`: to means by input bin, to the
        median, to PRIOR_OUTPUT_TOKENS. With `intervals` it has `quantiles` as well, which takes five times as long.
        """
        kinds = {kind: PREDICTORS.load(kind), "input-bin": InputBin, "median": Median}
        known = known_by(requests, cut_s)
        n = known.height
        if n == 0:
            said = f"no request was done before the cut: outputs are taken as {PRIOR_OUTPUT_TOKENS:g} tokens"
            return cls(cut_s, kind, said)
        output = known["output_tokens"].cast(pl.Float64).to_numpy()
        name, model = next((name, of) for name, of in kinds.items() if n >= MIN_ROWS.get(name, MIN_ROWS["trees"]))
        fallen = f"only {n} requests were done before the cut: outputs are predicted by their {SAID.get(name)}"
        trained = cls(
            cut_s, kind, None if name == kind else fallen, n, model.learn(known, seed),
            edges=tuple(bucket_edges(output).tolist()), longest=float(output.max()),
        )  # fmt: skip
        return trained._with_intervals(known, name, model, seed) if intervals else trained

    def _with_intervals(self, known: pl.DataFrame, name: str, model: Any, seed: int) -> "LengthPredictor":
        """Quantiles learned on the training part but its end, and shifted by how they did there."""
        early, late = split(known)
        if early.height < MIN_ROWS.get(name, MIN_ROWS["trees"]) // 2 or early.is_empty():
            return replace(self, spread=Median.learn(known), shift=None)
        spread = (QuantileTrees if name == "trees" else model).learn(early, seed)
        # rows of before the calibration part stay in sight: what was done by then is known by then
        guess = np.sort(spread.quantiles(known)[-late.height :], axis=1)
        return replace(self, spread=spread, shift=Shift.learn(late, guess))

    def predict(self, requests: pl.DataFrame) -> np.ndarray:
        """f8[rows] >= 1, aligned with `requests`: arrival_s, service, input_tokens, and what else is known.

        Where it also has output_tokens and done_s, a tenant's completed requests inform its later ones.
        """
        if self.model is None:
            return np.full(requests.height, PRIOR_OUTPUT_TOKENS)
        return np.asarray(np.clip(self.model.predict(requests), 1.0, self.longest))

    def quantiles(self, requests: pl.DataFrame) -> np.ndarray | None:
        """f8[rows, LEVELS] >= 1, rising along levels; None where trained without `intervals`, or on nothing."""
        if self.spread is None:
            return None
        guess = np.sort(self.spread.quantiles(requests), axis=1)
        return np.asarray(np.maximum(self.shift(requests, guess) if self.shift else guess, 1.0))

    def bucket(self, requests: pl.DataFrame) -> np.ndarray:
        """i8[rows]: the bucket (of `edges`) predicted; a classifier's likeliest, else that of the prediction."""
        told = getattr(self.model, "bucket", None)
        return np.asarray(told(requests)) if told else bucket_of(self.predict(requests), np.array(self.edges))

    def elsewhere(self) -> "LengthPredictor":
        """For a trace whose times are not those of the training: nothing to look back on, no time of day."""
        parts = {
            name: replace(part, features=part.features.elsewhere())
            for name, part in (("model", self.model), ("spread", self.spread))
            if hasattr(part, "features")
        }
        return replace(self, **parts)  # type: ignore[arg-type]


def train(requests: pl.DataFrame, *, cut_s: float, kind: str = "trees", seed: int = 0) -> LengthPredictor:
    """A predictor of a kind of PREDICTORS; as `LengthPredictor.train`."""
    return LengthPredictor.train(requests, cut_s=cut_s, kind=kind, seed=seed)


def known_by(requests: pl.DataFrame, cut_s: float) -> pl.DataFrame:
    """The rows with an output that was there before cut_s, by arrival."""
    # arrival as well: a clock that is wrong in the source must not let an answer through
    done = (pl.col("done_s") < cut_s) & (pl.col("arrival_s") < cut_s)
    return requests.filter(done & (pl.col("output_tokens") >= 1)).sort("arrival_s", maintain_order=True)


__all__ = ["LEVELS", "LengthPredictor", "known_by", "train"]

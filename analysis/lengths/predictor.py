"""A predictor of any kind, trained before a cut: what it falls back to, its quantiles, what is refused."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from ..progress import Tell, part, silent
from ..windows import PRIOR_OUTPUT_TOKENS
from .buckets import bucket_edges, bucket_of
from .features import Features
from .floors import InputBin, Median
from .intervals import LEVELS, Shift, split
from .kinds import PREDICTORS
from .residual import Rest
from .trees import QuantileTrees

# shares of the time of a million requests, measured: of what is learned, and of what is told of requests
MATRIX, LEARNED, REST, SPREAD = 0.07, 0.2, 0.3, 0.85
POINT = 0.22
AT_ONCE = 1 << 17  # requests whose quantiles are predicted together
MIN_ROWS = {"median": 1, "input-bin": 20}  # below, a kind only learns noise
MANY = 500  # likewise, of all others
SAID = {"input-bin": "mean by input length", "median": "median"}


@dataclass(frozen=True, eq=False)
class LengthPredictor:
    """Output tokens of a request from what a router knows when it arrives, learned from what was done before cut_s."""

    cut_s: float
    kind: str  # as asked for
    note: str | None = None  # why it is of another kind, where it is
    rows: int = 0  # known before the cut
    features: Features | None = None  # what model and spread look at; None: input length at most
    model: Any = None
    spread: Any = None  # has quantiles, learned without the calibration rows
    shift: Shift | None = None
    edges: tuple[float, ...] = ()  # of equal-mass buckets of the training outputs
    longest: float = np.inf  # output seen in training
    services: tuple[str, ...] = ()  # of the requests known before the cut
    rest: Rest | None = None  # what is left of those that go on; with `intervals` alone

    @classmethod
    def train(
        cls,
        requests: pl.DataFrame,
        *,
        cut_s: float,
        kind: str = "trees",
        seed: int = 0,
        intervals: bool = False,
        tell: Tell = silent,
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
        name, of = next((name, of) for name, of in kinds.items() if n >= MIN_ROWS.get(name, MANY))
        fallen = f"only {n} requests were done before the cut: outputs are predicted by their {SAID.get(name)}"
        features = None if name in SAID else Features.learn(known)
        matrix = features.matrix(known) if features else None
        tell(MATRIX)
        model = of.learn(known, features, matrix, seed)
        tell(LEARNED)
        # a classifier's own, from the rows drawn for it: its buckets are numbered by them
        edges = getattr(model, "edges", None)
        edges = bucket_edges(output) if edges is None else edges
        predictor = cls(
            cut_s, kind, None if name == kind else fallen, n, features, model,
            edges=tuple(edges.tolist()), longest=float(output.max()),
            services=tuple(known["service"].cast(pl.String).unique().drop_nulls().sort().to_list()),
        )  # fmt: skip
        if not intervals:
            return predictor
        predictor = replace(predictor, rest=Rest.learn(known, predictor._point(known, matrix), predictor.edges))
        tell(REST)
        early, late = split(known)
        if early.sum() < MIN_ROWS.get(name, MANY) // 2 or not early.any():
            return replace(predictor, spread=Median.learn(known))  # too few to calibrate on
        some = None if matrix is None else matrix[early]
        spreading: Any = QuantileTrees if name == "trees" else of
        spread = spreading.learn(known.filter(early), features, some, seed)
        tell(SPREAD)
        there = None if matrix is None else matrix[late]
        guess = np.sort(spread.quantiles(known.filter(late), there), axis=1)
        return replace(predictor, spread=spread, shift=Shift.learn(known.filter(late), guess))

    def predict(self, requests: pl.DataFrame) -> np.ndarray:
        """f8[rows] >= 1, aligned with `requests`: arrival_s, service, input_tokens, and what else is known.

        Where it also has output_tokens and done_s, a tenant's completed requests inform its later ones.
        """
        return self._point(requests, self._matrix(requests))

    def quantiles(self, requests: pl.DataFrame) -> np.ndarray | None:
        """f8[rows, LEVELS] >= 1, rising along levels; None where trained without `intervals`, or on nothing."""
        return self._levels(requests, self._matrix(requests))

    def told(self, requests: pl.DataFrame, tell: Tell = silent) -> pl.DataFrame:
        """All of it: predicted_tokens, bucket (of `edges`), and of LEVELS q_0.025 ... where there are any.

        A classifier's bucket is the likeliest, else it is that of the prediction.
        """
        matrix = self._matrix(requests)
        tell(MATRIX)
        point = self._point(requests, matrix)
        tell(POINT)
        classify = getattr(self.model, "bucket", None)
        bucket = classify(requests, matrix) if classify else bucket_of(point, np.array(self.edges))
        levels = self._levels(requests, matrix, part(tell, POINT, 1.0))
        quantiles = {} if levels is None else {f"q_{level}": levels[:, q] for q, level in enumerate(LEVELS)}
        return pl.DataFrame({"predicted_tokens": point, "bucket": bucket} | quantiles)

    def outliving(self, requests: pl.DataFrame, predicted: np.ndarray, generated: float) -> np.ndarray:
        """f8[rows]: E[output | output > generated] by service and by the bucket of `predicted` (of `predict`).

        At most the request's max_tokens. Where it was trained without `intervals` or on nothing: the larger of what is
        predicted and `generated` + 1.
        """
        if self.rest is None:
            return capped(requests, np.maximum(predicted, generated + 1.0))
        return capped(requests, self.rest.outputs(requests, bucket_of(predicted, np.array(self.edges)), generated))

    def elsewhere(self) -> "LengthPredictor":
        """For a trace whose times are not those of the training: nothing to look back on, no time of day."""
        return replace(self, features=self.features.elsewhere() if self.features else None)

    def _matrix(self, requests: pl.DataFrame) -> np.ndarray | None:
        return self.features.matrix(requests) if self.features else None

    def _point(self, requests: pl.DataFrame, matrix: np.ndarray | None) -> np.ndarray:
        if self.model is None:
            return capped(requests, np.full(requests.height, PRIOR_OUTPUT_TOKENS))
        return capped(requests, np.clip(self.model.predict(requests, matrix), 1.0, self.longest))

    def _levels(self, requests: pl.DataFrame, matrix: np.ndarray | None, tell: Tell = silent) -> np.ndarray | None:
        if self.spread is None:
            return None
        parts = []
        for at in range(0, max(requests.height, 1), AT_ONCE):
            rows = slice(at, at + AT_ONCE)
            parts.append(self.spread.quantiles(requests[rows], None if matrix is None else matrix[rows]))
            tell(min((at + AT_ONCE) / max(requests.height, 1), 1.0))
        guess = np.sort(np.concatenate(parts), axis=1)
        return capped(requests, np.maximum(self.shift(requests, guess) if self.shift else guess, 1.0))


def train(requests: pl.DataFrame, *, cut_s: float, kind: str = "trees", seed: int = 0) -> LengthPredictor:
    """A predictor of a kind of PREDICTORS; as `LengthPredictor.train`."""
    return LengthPredictor.train(requests, cut_s=cut_s, kind=kind, seed=seed)


def capped(requests: pl.DataFrame, tokens: np.ndarray) -> np.ndarray:
    """f8[rows, ...]: no answer is longer than the request's max_tokens, where it states one of at least 1."""
    if "max_tokens" not in requests.columns:
        return tokens
    limit = requests.select(pl.when(pl.col("max_tokens") >= 1).then("max_tokens").cast(pl.Float64).fill_null(np.inf))
    return np.asarray(np.minimum(tokens, limit.to_series().to_numpy().reshape(-1, *(1,) * (tokens.ndim - 1))))


def known_by(requests: pl.DataFrame, cut_s: float) -> pl.DataFrame:
    """The rows with an output that was there before cut_s, by arrival."""
    # arrival as well: a clock that is wrong in the source must not let an answer through
    done = (pl.col("done_s") < cut_s) & (pl.col("arrival_s") < cut_s)
    return requests.filter(done & (pl.col("output_tokens") >= 1)).sort("arrival_s", maintain_order=True)

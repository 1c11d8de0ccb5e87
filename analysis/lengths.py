"""Output length at arrival: a predictor trained before the cut, its floors, and what outlived predictions grow by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from .lengths_features import Features
from .windows import PRIOR_OUTPUT_TOKENS

MIN_TREES = 500  # training rows below which trees only learn noise
MIN_BINS = 20  # training rows below which input bins do
MAX_ROWS = 200_000  # trained on, drawn with the seed; more changed no score by 1 %
MIN_TAIL = 10  # rows that outlive a grid point for its expected rest to be learned
ROUNDS = 30  # 60 at half the rate: the same errors, 350 k predictions/s instead of 580 k


@dataclass(frozen=True, eq=False)
class InputBinMean:
    """E[output | service, half octave of the input] (Aladdin's estimate); means of the service or all elsewhere."""

    bins: pl.DataFrame  # service, bin, mean
    services: pl.DataFrame  # service, service_mean
    mean: float

    @classmethod
    def learn(cls, training: pl.DataFrame) -> "InputBinMean":
        """From service, input_tokens, output_tokens; at least one row."""
        rows = training.select(*_bin(), pl.col("output_tokens").cast(pl.Float64))
        bins = rows.group_by("service", "bin").agg(mean=pl.mean("output_tokens"), n=pl.len())
        services = rows.group_by("service").agg(service_mean=pl.mean("output_tokens"))
        return cls(bins.filter(pl.col("n") >= 5).drop("n"), services, float(rows["output_tokens"].mean()))  # type: ignore[arg-type]

    def predict(self, requests: pl.DataFrame) -> np.ndarray:
        """f8[rows] >= 1."""
        joined = (
            requests.select(*_bin())
            .join(self.bins, on=["service", "bin"], how="left", maintain_order="left", nulls_equal=True)
            .join(self.services, on="service", how="left", maintain_order="left")
        )
        mean = joined.select(pl.coalesce("mean", "service_mean").fill_null(self.mean)).to_series()
        return np.asarray(np.maximum(mean.to_numpy(), 1.0))


@dataclass(frozen=True, eq=False)
class LengthPredictor:
    """Expected output tokens of a request from what a router knows when it arrives.

    Gradient-boosted trees on ln(output), scaled back per service so that predictions sum to the outputs: load
    is a sum, so bias matters more than the typical error. Measured after three cuts of four traces: squared
    error on tokens is 2 to 10 % long on resampled production traces where this is within 2 %, and has 3 to
    14 % more absolute but 4 to 11 % less squared error there; on Azure conversations it is the better by 2 to
    4 %. Absolute error and unscaled logarithms predict medians, 17 % short on the sample and about 50 % and
    40 % on code completion. A gamma loss diverged on the production traces' tails.
    """

    cut_s: float
    note: str | None  # why it is not the trees, where it is not
    trees: Any = None
    features: Features | None = None
    scale: tuple[dict[str, float], float] = ({}, 1.0)  # by service; of unknown services
    bins: InputBinMean | None = None
    median: float = PRIOR_OUTPUT_TOKENS
    longest: float = np.inf  # output seen in training

    @classmethod
    def train(cls, requests: pl.DataFrame, *, cut_s: float, seed: int = 0) -> "LengthPredictor":
        """From the rows done before cut_s; `requests` may hold others.

        Columns arrival_s, done_s, service, tier, region, tenant, input_tokens, output_tokens. With few rows it
        falls back, and says so in `note`: to means by input bin, to the median, to PRIOR_OUTPUT_TOKENS.
        """
        # arrival as well: a clock that is wrong in the source must not let an answer through
        done = (pl.col("done_s") < cut_s) & (pl.col("arrival_s") < cut_s)
        known = requests.filter(done & (pl.col("output_tokens") >= 1)).sort("arrival_s", maintain_order=True)
        n = known.height
        if n == 0:
            return cls(
                cut_s, f"no request was done before the cut: outputs are taken as {PRIOR_OUTPUT_TOKENS:g} tokens"
            )
        output = known["output_tokens"].cast(pl.Float64).to_numpy()
        only = f"only {n} requests were done before the cut: outputs are predicted by their"
        floor = cls(cut_s, f"{only} median", median=float(np.median(output)), longest=float(output.max()))
        if n < MIN_BINS:
            return floor
        floor = replace(floor, note=f"{only} mean by input length", bins=InputBinMean.learn(known))
        if n < MIN_TREES:
            return floor
        return floor._grow(known, output, seed)

    def _grow(self, known: pl.DataFrame, output: np.ndarray, seed: int) -> "LengthPredictor":
        import xgboost

        features = Features.learn(known)
        matrix = features.matrix(known)
        if len(output) > MAX_ROWS:
            drawn = np.sort(np.random.default_rng(seed).choice(len(output), MAX_ROWS, replace=False))
            known, matrix, output = known[drawn], matrix[drawn], output[drawn]
        data = xgboost.QuantileDMatrix(
            matrix, np.log(output), feature_types=features.types, enable_categorical=True, max_bin=128, nthread=1
        )
        # one thread: two have been seen five times slower than one on a small machine
        parameters = {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_bin": 128,
            "max_depth": 5,
            "eta": 0.3,
            "min_child_weight": 20,
            "nthread": 1,
            "seed": seed,
        }
        trees = xgboost.train(parameters, data, ROUNDS)
        return replace(
            self,
            note=None,
            trees=trees,
            features=features,
            scale=_scale(known, output, np.exp(trees.inplace_predict(matrix))),
        )

    def predict(self, requests: pl.DataFrame) -> np.ndarray:
        """f8[rows] >= 1, aligned with `requests`: arrival_s, service, tier, region, tenant, input_tokens.

        Where it also has output_tokens and done_s, a tenant's completed requests inform its later ones.
        """
        if self.trees is not None and self.features is not None:
            raw = np.exp(self.trees.inplace_predict(self.features.matrix(requests)).astype(np.float64))
            by_service, elsewhere = self.scale
            scale = requests.select(
                pl.col("service")
                .cast(pl.String)
                .replace_strict(list(by_service), list(by_service.values()), default=elsewhere, return_dtype=pl.Float64)
            )
            return np.asarray(np.clip(raw * scale.to_series().to_numpy(), 1.0, self.longest))
        if self.bins is not None:
            return self.bins.predict(requests)
        return np.full(requests.height, max(self.median, 1.0))

    def scores(self, requests: pl.DataFrame) -> pl.DataFrame:
        """Errors on the rows that arrive from the cut on, beside the floors: never in-sample.

        Columns predictor (predicted, input-bin mean, median), service (null: all), n, mae_tokens, acc_100 (share
        within 100 tokens), bias_tokens (mean of predicted - true).
        """
        rows = requests.with_columns(predicted=self.predict(requests)).filter(
            (pl.col("arrival_s") >= self.cut_s) & (pl.col("output_tokens") >= 1)
        )
        columns = {"predicted": rows["predicted"].to_numpy(), "median": np.full(rows.height, self.median)}
        if self.bins is not None:
            columns["input-bin mean"] = self.bins.predict(rows)
        service, true = rows["service"].cast(pl.String), rows["output_tokens"].cast(pl.Float64)
        errors = pl.concat(
            pl.DataFrame(
                {"predictor": [name] * rows.height, "service": service, "error": guess - true.to_numpy()},
                schema_overrides={"predictor": pl.String},
            )
            for name, guess in columns.items()
        )
        error = pl.col("error")
        measures = {
            "n": pl.len().cast(pl.Int64),
            "mae_tokens": error.abs().mean(),
            "acc_100": (error.abs() <= 100).mean(),
            "bias_tokens": error.mean(),
        }
        each = errors.group_by("predictor", "service").agg(**measures)
        every = (
            errors.group_by("predictor")
            .agg(**measures)
            .select("predictor", pl.lit(None, pl.String).alias("service"), *measures)
        )
        return pl.concat([every, each]).sort("predictor", "service", nulls_last=False)


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
    longest = rows["output_tokens"].max()
    octaves = np.log2(max(float(longest), 2.0)) if isinstance(longest, float) else 1.0
    grid = np.unique(np.concatenate([[0.0], np.round(2.0 ** np.arange(0, octaves + 0.5, 0.5))]))
    every = np.sort(rows["output_tokens"].to_numpy())
    tokens = np.empty((len(services), len(grid)))
    for s, service in enumerate(services):
        own = np.sort(rows.filter(pl.col("service") == service)["output_tokens"].to_numpy())
        tokens[s] = _mean_residual(own if len(own) >= MIN_TAIL else every, grid)
    return grid, tokens


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


def _scale(known: pl.DataFrame, output: np.ndarray, raw: np.ndarray) -> tuple[dict[str, float], float]:
    """Factors that make predictions sum to the outputs, by service and for unknown ones (Duan's smearing)."""
    sums = (
        pl.DataFrame({"service": known["service"].cast(pl.String), "output": output, "raw": raw.astype(np.float64)})
        .group_by("service", maintain_order=True)
        .agg(pl.sum("output"), pl.sum("raw"))
    )
    by_service = dict(zip(sums["service"].to_list(), (sums["output"] / sums["raw"]).to_list(), strict=True))
    return by_service, float(output.sum() / raw.sum())


def _bin() -> tuple[pl.Expr, pl.Expr]:
    half_octave = (pl.col("input_tokens").cast(pl.Float64).clip(1.0).log(2.0) * 2).floor().cast(pl.Int32)
    return pl.col("service").cast(pl.String), half_octave.alias("bin")

"""What `train` and `predict` find: a predictor, what it says, and how far off it was where that is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from ..trace import TraceMeta
from .buckets import bucket_of
from .intervals import LEVELS
from .modelform import Facts
from .predictor import LengthPredictor
from .residual import residual_table

SCHEMA_VERSION = "1.0"
COLUMNS = {
    "calibration.level": "quantile",
    "calibration.below": "share of true outputs at most the predicted quantile",
    "buckets.bucket": "of ten that the training outputs fill alike, by the true output",
    "buckets.from_tokens": "outputs above this",
    "buckets.to_tokens": "and at most this; null: open",
    "buckets.mean_true": "mean true output in it",
    "buckets.mean_predicted": "mean prediction for these",
    "importance.gain": "share of the loss that splits on it took away, in training",
    "rest.generated_tokens": "tokens generated already",
    "rest.expected_tokens": "how many more to expect, as learned before the cut: E[output - g | output > g]",
    "rest.true_tokens": "how many more there were, mean over held-out requests that outlived g",
    "rest.n": "held-out requests that did",
}


@dataclass(frozen=True)
class Lengths:
    """A run of `train` or `predict`. Tables: `scores.COLUMNS`, COLUMNS; empty where nothing could be scored."""

    verb: Literal["train", "predict"]
    trace: TraceMeta
    predictor: LengthPredictor
    facts: Facts
    settings: Mapping[str, Any]
    scores: pl.DataFrame
    calibration: pl.DataFrame  # level, service (null: all), n, below
    buckets: pl.DataFrame  # bucket, from_tokens, to_tokens, n, mean_true, mean_predicted, mae_tokens
    importance: pl.DataFrame  # feature, meaning, gain
    rest: pl.DataFrame  # service, generated_tokens, expected_tokens, true_tokens, n
    predictions: pl.DataFrame  # of `predict`: a row a request
    notes: tuple[str, ...]

    @property
    def surely_unseen(self) -> bool:
        """Whether what is scored is known not to have been trained on: by its times, or by the trace itself."""
        return bool(self.settings.get("times_compared", True))

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """By name, those that are stored with a run."""
        named = {"scores": self.scores, "calibration": self.calibration, "buckets": self.buckets}
        return named | {"importance": self.importance, "rest": self.rest}

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "trace": self.trace.model_dump(mode="json", exclude={"source"}),  # a path: it differs by machine
            "settings": dict(self.settings),
            "trained": self.facts.told(),
            "notes": list(self.notes),
            **{name: table.to_dicts() for name, table in self.tables.items()},
        }


def calibration(rows: pl.DataFrame) -> pl.DataFrame:
    """Of scored rows (service, true, q_0.025 ...): how often the truth lay at or below each quantile."""
    there = [level for level in LEVELS if f"q_{level}" in rows.columns]
    parts = []
    for level in there:
        below = (pl.col("true") <= pl.col(f"q_{level}")).mean()
        measures = {"n": pl.len().cast(pl.Int64), "below": below}
        each = rows.group_by("service").agg(**measures).sort("service")
        every = rows.select(pl.lit(None, pl.String).alias("service"), **measures).head(1 if rows.height else 0)
        parts += [part.select(pl.lit(level).alias("level"), "service", "n", "below") for part in (every, each)]
    schema = {"level": pl.Float64, "service": pl.String, "n": pl.Int64, "below": pl.Float64}
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def by_bucket(rows: pl.DataFrame, edges: tuple[float, ...]) -> pl.DataFrame:
    """Of scored rows (true, predicted_tokens): predicted against true by the true output's bucket."""
    ends = [0.0, *edges, None]
    found = (
        rows.select("true", "predicted_tokens", bucket=pl.Series(bucket_of(rows["true"].to_numpy(), np.array(edges))))
        .group_by("bucket")
        .agg(
            n=pl.len().cast(pl.Int64),
            mean_true=pl.mean("true"),
            mean_predicted=pl.mean("predicted_tokens"),
            mae_tokens=(pl.col("true") - pl.col("predicted_tokens")).abs().mean(),
        )
        .sort("bucket")
    )
    limits = pl.DataFrame(
        {"bucket": range(len(edges) + 1), "from_tokens": ends[:-1], "to_tokens": ends[1:]},
        schema={"bucket": pl.Int64, "from_tokens": pl.Float64, "to_tokens": pl.Float64},
    )
    return limits.join(found, on="bucket", how="inner").sort("bucket")


def importance(predictor: LengthPredictor) -> pl.DataFrame:
    """Features by the share of gain, the largest first; empty for predictors without trees."""
    from .features import NUMBERS

    schema = {"feature": pl.String, "meaning": pl.String, "gain": pl.Float64}
    booster = getattr(predictor.model, "booster", None)
    if booster is None or predictor.features is None:
        return pl.DataFrame(schema=schema)
    gains = booster.get_score(importance_type="total_gain")  # f0, f1, ...: the features have no names in there
    total = sum(gains.values()) or 1.0
    rows = [
        (name, NUMBERS.get(name, f"the request's {name}"), float(gains.get(f"f{i}", 0.0)) / total)
        for i, name in enumerate(predictor.features.names)
    ]
    return pl.DataFrame(rows, schema=schema, orient="row").sort("gain", "feature", descending=[True, False])


def rest(known: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """The re-prediction curve learned on `known`, beside what became of `later`; by service, and null for all."""
    services = [None, *known["service"].cast(pl.String).unique().sort().to_list()]
    parts = []
    for service in services:
        of = [rows if service is None else rows.filter(pl.col("service") == service) for rows in (known, later)]
        if of[0].is_empty():
            continue
        one = of[0].with_columns(service=pl.lit("all")) if service is None else of[0]
        grid, tokens = residual_table(one, ["all" if service is None else service])
        true = of[1]["output_tokens"].cast(pl.Float64).to_numpy()
        beyond = [true[true > g] - g for g in grid]
        part = {
            "service": [service] * len(grid),
            "generated_tokens": grid,
            "expected_tokens": tokens[0],
            "true_tokens": [float(b.mean()) if len(b) else None for b in beyond],
            "n": [len(b) for b in beyond],
        }
        parts.append(pl.DataFrame(part, schema_overrides={"service": pl.String, "true_tokens": pl.Float64}))
    schema = {
        "service": pl.String, "generated_tokens": pl.Float64, "expected_tokens": pl.Float64,
        "true_tokens": pl.Float64, "n": pl.Int64,
    }  # fmt: skip
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)

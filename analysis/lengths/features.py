"""What a router knows of a request at its arrival, as numbers for the length predictor."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ..windows import DAY_S

CATEGORIES = ("service", "tier", "region", "tenant")
MAX_LEVELS = 200  # of a category, the most frequent; the others share one level
RECENT = 32  # completed requests whose mean output is a tenant's recent length
KEY = ("service", "tenant")


@dataclass(frozen=True, eq=False)
class Features:
    """The encoding learned on the training rows: category levels, and the last completions of every tenant."""

    levels: dict[str, tuple[str, ...]]
    hour: bool  # whether the hour of the day is a feature
    history: pl.DataFrame  # service, tenant, arrival_s, done_s, output_tokens

    @classmethod
    def learn(cls, training: pl.DataFrame) -> "Features":
        """From rows that are all done: CATEGORIES, arrival_s, done_s, input_tokens, output_tokens."""
        levels = {}
        for name in CATEGORIES:
            counts = training.select(pl.col(name).cast(pl.String)).drop_nulls().to_series().value_counts()
            frequent = counts.sort(["count", name], descending=[True, False]).head(MAX_LEVELS)
            levels[name] = tuple(frequent[name].to_list())
        history = _outcomes(training).sort("done_s").group_by(KEY, maintain_order=True).tail(RECENT)
        # before every hour was seen twice it only says how late it is, and trees extend that into the future:
        # with it, outputs on one hour of Azure conversations came out a fifth too short, without it 2 % too long
        span_s = _span_s(training)
        return cls(levels, span_s >= 2 * DAY_S * 0.99, history)

    @property
    def types(self) -> list[str]:
        """xgboost feature types: q number, c category; one per column of `matrix`."""
        return ["c"] * len(CATEGORIES) + ["q"] * (4 if self.hour else 2)

    def matrix(self, requests: pl.DataFrame) -> np.ndarray:
        """f4[rows, features], NaN where nothing is known; rows as in `requests`.

        A tenant's recent output counts requests with done_s < this arrival_s only: those of `requests`, where
        it has output_tokens and done_s, and remembered ones that arrived before its first row.
        """
        columns = [pl.col(c).cast(pl.String) for c in CATEGORIES]
        coded = requests.select(
            column.replace_strict(
                list(self.levels[name]),
                list(range(len(self.levels[name]))),
                default=len(self.levels[name]),
                return_dtype=pl.Float32,
            ).fill_null(len(self.levels[name]))
            for name, column in zip(CATEGORIES, columns, strict=True)
        )
        numbers = [requests.select(pl.col("input_tokens").cast(pl.Float32).log1p()).to_series(), self._recent(requests)]
        if self.hour:
            angle = requests["arrival_s"] % DAY_S * (2 * np.pi / DAY_S)
            numbers += [angle.sin(), angle.cos()]
        parts = [*coded.get_columns(), *numbers]
        # xgboost reads row by row: copying into its order here costs less than striding there
        matrix = np.empty((requests.height, len(parts)), dtype=np.float32)
        for i, part in enumerate(parts):
            matrix[:, i] = part.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        return matrix

    def _recent(self, requests: pl.DataFrame) -> pl.Series:
        """ln(1 + mean output of the tenant's last RECENT completions by each arrival); null: none."""
        rows = requests.select(*_key(), "arrival_s").with_row_index("row")
        outcomes = self.history
        if {"output_tokens", "done_s"} <= set(requests.columns) and requests.height:
            before = self.history.filter(pl.col("arrival_s") < requests["arrival_s"].min())
            outcomes = pl.concat([before, _outcomes(requests)])
        means = (
            outcomes.sort("done_s", "arrival_s", "output_tokens")  # a total order: rows may come in any
            .with_columns(recent=pl.col("output_tokens").rolling_mean(RECENT, min_samples=1).over(KEY).log1p())
            .select(*KEY, "done_s", "recent")
        )
        joined = rows.sort("arrival_s").join_asof(
            means,
            left_on="arrival_s",
            right_on="done_s",
            by=list(KEY),
            check_sortedness=False,
            allow_exact_matches=False,  # done as it arrives (a duration of 0) is its own answer
        )
        return joined.sort("row")["recent"]


def _key() -> list[pl.Expr]:
    return [pl.col("service").cast(pl.String), pl.col("tenant").cast(pl.String).fill_null("")]


def _outcomes(requests: pl.DataFrame) -> pl.DataFrame:
    known = requests.filter(pl.col("output_tokens").is_not_null() & pl.col("done_s").is_not_null())
    # done before it arrives is a broken clock, and would reveal the answer to the question
    done = pl.max_horizontal("done_s", "arrival_s").alias("done_s")
    return known.select(*_key(), "arrival_s", done, pl.col("output_tokens").cast(pl.Float64))


def _span_s(training: pl.DataFrame) -> float:
    first, last = training["arrival_s"].min(), training["arrival_s"].max()
    return float(last) - float(first) if training.height else 0.0  # type: ignore[arg-type]

"""The recorded fleet's replay beside what the trace observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.policies.backtest import worst_error

from ..format import many, text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COLUMNS = (
    Column("policy", "Fleet"),
    Column("service", "Service", brief=True),
    Column("metric", "Metric", brief=True),
    Column("n", "Observed", "count", brief=True),
    Column("not_completed", "Not completed in the replay", "count"),
    Column("observed_p50_s", "Observed p50", "duration_s"),
    Column("replayed_p50_s", "Replayed p50", "duration_s"),
    Column("p50_error", "Error at p50", "change", brief=True),
    Column("observed_p95_s", "Observed p95", "duration_s"),
    Column("replayed_p95_s", "Replayed p95", "duration_s"),
    Column("p95_error", "Error at p95", "change", brief=True),
    Column("median_error", "Median error by request", "share", brief=True),
    Column("observed_within", "Observed within the SLO", "share"),
    Column("replayed_within", "Replayed within the SLO", "share"),
)


def section(result: Evaluation) -> Section | None:
    """How far the replay of the fleet as it was is from what was observed; nothing where nothing was observed."""
    if result.backtest.is_empty():
        return None
    shown = result.backtest.with_columns(
        metric=pl.col("metric").str.to_uppercase(), service=pl.col("service").fill_null("all")
    )
    return Section(
        "backtest",
        "Back-test",
        finding(result.backtest),
        tables=(table("Latency of the recorded fleet, observed and replayed", shown, COLUMNS, "backtest.parquet"),),
        notes=(
            "Errors are replayed / observed - 1, over the evaluated requests with an observed latency. They hold the "
            "profile's error, the replay's, and whatever the fleet did that its file does not say.",
        ),
    )


def finding(table: pl.DataFrame) -> str:
    """The largest error of a percentile."""
    n: int = table["n"].max()  # type: ignore[assignment]
    worst = worst_error(table)
    assert worst is not None
    error, which = worst
    return (
        f"The replay of {text(table['policy'][0])} is off by {error:+.0%} where it is off most ({which}), over "
        f"{many(n, 'observed request')}."
    )

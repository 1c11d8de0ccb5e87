"""How the sections about forecasts call metrics and horizons, and what they have in common."""

from __future__ import annotations

import polars as pl

from ..format import span
from ..section import Column

METRICS = {
    "total_tokens": "total tokens",
    "prompt_tokens": "prompt tokens",
    "output_tokens": "output tokens",
    "requests": "requests",
}
MAIN = "total_tokens"  # the metric that headlines
FLOOR = "last-value"  # beside every model
SCORES = (
    Column("wape", "WAPE", "share", brief=True),
    Column("to_last_value", "of last value's", "number", brief=True),
    Column("mape", "MAPE", "share"),
    Column("rrmse", "RRMSE", "share"),
    Column("bias", "Bias", "change", brief=True),
    Column("pinball", "Pinball", "share"),
    Column("coverage_80", "in 80 %", "share", brief=True),
    Column("coverage_95", "in 95 %", "share", brief=True),
)


def said(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with metrics and horizons in words."""
    rows = rows.with_columns(pl.col("metric").replace(METRICS)) if "metric" in rows.columns else rows
    if "horizon_s" not in rows.columns:
        return rows
    return rows.with_columns(horizon=pl.col("horizon_s").map_elements(span, return_dtype=pl.String))


def ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """By horizon, then metric as METRICS lists them, then WAPE."""
    place = pl.col("metric").replace_strict({m: k for k, m in enumerate(METRICS)}, return_dtype=pl.Int32)
    return rows.sort("horizon_s", place, "wape", maintain_order=True, nulls_last=True)


def unbrief(*columns: Column) -> tuple[Column, ...]:
    """The columns, for a table that the terminal leaves to the report."""
    return tuple(Column(c.name, c.label, c.kind) for c in columns)


def axis_unit(shortest_s: float) -> tuple[str, float]:
    """(name, seconds) of the largest unit of which the shortest horizon has one at least."""
    units = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
    return next(((name, length_s) for name, length_s in units.items() if shortest_s >= length_s), ("seconds", 1.0))

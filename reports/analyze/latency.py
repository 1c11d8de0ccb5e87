"""Latencies as the trace recorded them: what users saw, before any replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import duration
from ..section import Column, Section, table
from .tables import GROUPS, precision, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

NAMES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E", "queue_s": "Queue"}
COLUMNS = (
    Column("name", "Of", brief=True),
    Column("by", "Grouped by", brief=True),
    Column("metric", "Latency", brief=True),
    Column("n", "n", "count", brief=True),
    *(Column(p, p, "duration_s", brief=True) for p in ("p50", "p90", "p95", "p99")),
    Column("p999", "p99.9", "duration_s"),
    Column("max", "max", "duration_s"),
)


def section(result: Analysis) -> Section | None:
    """Absent where the trace has no latency."""
    found = rows(result, "latency")
    if found.is_empty():
        return None
    shown = found.with_columns(pl.col("by").replace(GROUPS), pl.col("metric").replace(NAMES))
    return Section(
        "latency",
        "Observed latency",
        finding(found),
        tables=(table(f"Observed latencies of answered requests, {precision(found)}", shown, COLUMNS),),
        notes=("As the source measured them; lmaas does not know its vantage point.",),
    )


def finding(found: pl.DataFrame) -> str:
    """Median and p99 over all requests of the first latency there is."""
    whole = found.filter(pl.col("by") == "all")
    for metric, name in NAMES.items():
        of = whole.filter(pl.col("metric") == metric)
        if of.height:
            median, tail, n = of.select("p50", "p99", "n").row(0)
            return f"Observed {name}: {duration(median)} at the median, {duration(tail)} at p99, over {n:,} requests."
    return "The trace records latencies for parts of its requests only."

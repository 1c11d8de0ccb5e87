"""Latencies as the trace recorded them: what users saw, before any replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import duration, span
from ..palette import Style
from ..section import Column, Figure, Section, table
from .tables import GROUPS, precision, rows, told_apart

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
    found = told_apart(rows(result, "latency"))
    if found.is_empty():
        return None
    loads = rows(result, "latency_load")
    shown = found.with_columns(pl.col("by").replace(GROUPS), pl.col("metric").replace(NAMES))
    return Section(
        "latency",
        "Observed latency",
        finding(found),
        tables=(table(f"Observed latencies of answered requests, {precision(found)}", shown, COLUMNS),),
        figures=(against_load(loads),) if loads.height else (),
        notes=("As the source measured them; lmaas does not know its vantage point.",),
    )


def against_load(loads: pl.DataFrame) -> Figure:
    """Median and p95 of the first latency there is, over the mean rate of ten levels of load."""
    metric = loads["metric"][0]
    of, name = loads.filter(metric=metric), NAMES[metric]
    data = [
        figures.line(
            f"{name} {p}",
            {"x": figures.rounded(of["mean_rps"])},
            of[p],
            Style(color, "solid", mark),
            mode="lines+markers",
        )
        for p, mark, color in (("p50", "circle", "@blue"), ("p95", "diamond", "@orange"))
    ]
    window = span(of["window_s"][0])
    layout = figures.layout(
        figures.axis(f"requests per second, mean of the level's windows of {window}", rangemode="tozero"),
        figures.axis(f"{name}, seconds", type="log"),
        showlegend=True,
    )
    columns = (
        Column("metric", "Latency"),
        Column("level", "Level", "count"),
        Column("windows", "Windows", "count"),
        Column("mean_rps", "Mean req/s", "number"),
        Column("min_rps", "Least req/s", "number"),
        Column("max_rps", "Most req/s", "number"),
        Column("n", "n", "count"),
        Column("p50", "p50", "duration_s"),
        Column("p95", "p95", "duration_s"),
    )
    shown = loads.with_columns(pl.col("metric").replace(NAMES))
    data_table = table(
        f"Observed latency by load: windows of {window} in ten levels, percentiles within 1 %", shown, columns
    )
    return Figure({"data": data, "layout": layout}, f"Observed {name} against load; logarithmic.", data_table, 320)


def finding(found: pl.DataFrame) -> str:
    """Median and p99 over all requests of the first latency there is."""
    whole = found.filter(pl.col("by") == "all")
    for metric, name in NAMES.items():
        of = whole.filter(pl.col("metric") == metric)
        if of.height:
            median, tail, n = of.select("p50", "p99", "n").row(0)
            return f"Observed {name}: {duration(median)} at the median, {duration(tail)} at p99, over {n:,} requests."
    return "The trace records latencies for parts of its requests only."

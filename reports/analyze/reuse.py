"""Prefix reuse: how much of the prompts has been seen before, and what caches of every size would save of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..format import number, share, span
from ..palette import series
from ..section import Column, Figure, Section, table
from .tables import GROUPS, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

SMALL_CACHE = 10_000  # tokens: smaller ones are not drawn
TIME_MARKS = (1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 8 * 3600.0, 2 * 86_400.0, 7 * 86_400.0)  # s, on the axis
SHOWN = 5  # services drawn beside all together
COLUMNS = (
    Column("name", "Of"),
    Column("by", "Grouped by"),
    Column("requests", "Requests", "count"),
    Column("block_reuse", "Blocks seen before", "share"),
    Column("input_tokens", "Input tokens", "count"),
    Column("hit_tokens", "Tokens saved", "count"),
    Column("reuse", "Share saved", "share"),
    Column("session_reuse", "Within its session", "share"),
    Column("across_reuse", "By sharing between sessions", "share"),
    Column("reuse_se", "Standard error", "share"),
)
INTERVALS = (
    Column("name", "Of"),
    Column("by", "Grouped by"),
    Column("n", "Blocks found", "count"),
    Column("p50_s", "p50", "duration_s"),
    Column("p90_s", "p90", "duration_s"),
    Column("p95_s", "p95", "duration_s"),
    Column("p99_s", "p99", "duration_s"),
)
SAVED = (
    Column("hit_tokens", "Tokens saved", "count"),
    Column("reuse", "Share saved", "share"),
    Column("of_unlimited", "Of what is saved without limits", "share"),
    Column("reuse_se", "Standard error", "share"),
)


def section(result: Analysis) -> Section | None:
    """Absent where the trace has no block hashes."""
    found = rows(result, "prefix")
    if found.is_empty():
        return None
    several = found.height > 2
    tables = [
        table("What a cache of unlimited size would save", found.with_columns(by=found["by"].replace(GROUPS)), COLUMNS)
    ]
    intervals = rows(result, "prefix_intervals")
    if intervals.height:
        shown = intervals.with_columns(by=intervals["by"].replace(GROUPS))
        tables.append(table("Time since the last use of blocks that are found, within 1 %", shown, INTERVALS))
    drawn = (_sizes(rows(result, "prefix_sizes"), several), _kept(rows(result, "prefix_kept")))
    return Section(
        "reuse",
        "Prefix reuse",
        finding(found, rows(result, "prefix_sizes")),
        tables=tuple(tables),
        figures=tuple(figure for figure in drawn if figure),
        notes=notes(found),
    )


def finding(found: pl.DataFrame, sizes: pl.DataFrame) -> str:
    """What an unlimited cache saves, and how large one that saves most of it is."""
    whole = found.filter(pl.col("by") == "all").row(0, named=True)
    first = "" if whole["read_share"] == 1 else f" of the first {whole['requests']:,} requests"
    unlimited = f"A prefix cache without limits would save {share(whole['reuse'] or 0.0)} of the prompt tokens{first}"
    most = sizes.filter((pl.col("by") == "all") & (pl.col("of_unlimited") >= 0.9)).head(1)
    if most.is_empty() or most["cache_tokens"][0] <= sizes["cache_tokens"].min():
        return f"{unlimited}."
    each = " for each service" if found.height > 2 else ""
    return f"{unlimited}; nine tenths of that take {number(most['cache_tokens'][0], 3)} tokens of cache{each}."


def notes(found: pl.DataFrame) -> tuple[str, ...]:
    """How to read it, whether it was sampled, and whether all requests were looked at."""
    said = [
        "Each service has one cache, in which a prompt is found and kept at its arrival: a real fleet has a cache each "
        "replica, fills it later, and saves less unless requests are routed by prefix.",
    ]
    whole = found.filter(pl.col("by") == "all").row(0, named=True)
    if whole["looked_at"] < 1:
        said.append(f"Estimated from {share(whole['looked_at'])} of the distinct blocks, drawn by their hashes.")
    if whole["read_share"] < 1:
        said.append(
            f"Only the first {share(whole['read_share'])} of the trace's requests were looked at: caches may do better "
            "or worse later. Look at other parts with --since and --until."
        )
    return tuple(said)


def _sizes(found: pl.DataFrame, several: bool) -> Figure | None:
    what = "each service's cache" if several else "the cache"
    caption = f"Share of the prompt tokens saved by the size of {what}; the least recently used blocks go first."
    x = figures.axis("tokens of cache", type="log", tickformat="~s", dtick=1)
    if found.height:
        least = min(SMALL_CACHE, float(found["cache_tokens"].to_numpy().max()) / 100)
        found = found.filter(pl.col("cache_tokens") >= least)
    return _figure(found, "cache_tokens", x, caption, Column("cache_tokens", "Tokens of cache", "count"))


def _kept(found: pl.DataFrame) -> Figure | None:
    caption = (
        "Share of the prompt tokens saved by how long blocks are kept after their last use, in a cache of any size."
    )
    marks = [s for s in TIME_MARKS if found.height and s in found["kept_s"]]
    x = figures.axis("kept after the last use", type="log", tickvals=marks, ticktext=[span(s) for s in marks])
    return _figure(found, "kept_s", x, caption, Column("kept_s", "Kept", "span_s"))


def _figure(found: pl.DataFrame, across: str, x: dict[str, Any], caption: str, first: Column) -> Figure | None:
    if found.is_empty() or not found["reuse"].max():
        return None
    names = ["all", *found.filter(pl.col("by") == "service")["name"].unique(maintain_order=True).head(SHOWN)]
    styles = series(names)
    data: list[dict[str, Any]] = []
    for name in names:
        part = found.filter((pl.col("by") == ("all" if name == "all" else "service")) & (pl.col("name") == name))
        look = {"mode": "lines+markers", "hovertemplate": "%{y:.1f} %"}
        data.append(figures.line(name, {"x": figures.rounded(part[across])}, 100 * part["reuse"], styles[name], **look))
    y = figures.axis("% of prompt tokens", rangemode="tozero")
    layout = figures.layout(x, y, showlegend=len(names) > 1)
    columns = (Column("name", "Of"), first, *SAVED)
    return Figure({"data": data, "layout": layout}, caption, table(caption, found, columns), 320)

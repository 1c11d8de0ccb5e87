"""Prompt and answer lengths, and how far one foretells the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..format import number, text
from ..palette import Style
from ..section import Column, Figure, Section, Table, table
from .tables import GROUPS, precision, rows, told_apart

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

METRICS = {"input_tokens": "ISL (input tokens)", "output_tokens": "OSL (output tokens)"}
MARKS = {
    "p50": ("circle", "@blue"),
    "p90": ("square", "@sky"),
    "p95": ("diamond", "@orange"),
    "p99": ("triangle-up", "@vermillion"),
}
SHOWN = 12  # groups drawn


def section(result: Analysis) -> Section | None:
    """Percentiles by group, and their rank correlation."""
    found = told_apart(rows(result, "lengths"))
    if found.is_empty():
        return None
    labelled = found.with_columns(pl.col("by").replace(GROUPS), pl.col("metric").replace(METRICS))
    tables = [table(f"Lengths of answered requests, {precision(found)}", labelled, _columns())]
    related = told_apart(rows(result, "correlation"))
    if related.height:
        related = related.filter(pl.col("spearman").is_not_null())
    if related.height:
        columns = (
            Column("name", "Of"),
            Column("by", "Grouped by"),
            Column("n", "n", "count"),
            Column("spearman", "Spearman", "number"),
        )
        labelled = related.with_columns(pl.col("by").replace(GROUPS))
        tables.append(table("Rank correlation of input and output length", labelled, columns))
    drawn = tuple(
        _figure(found.filter(pl.col("metric") == m), label) for m, label in METRICS.items() if m in set(found["metric"])
    )
    return Section("lengths", "Lengths", finding(found, related), tables=tuple(tables), figures=drawn)


def finding(found: pl.DataFrame, related: pl.DataFrame) -> str:
    """The typical request and the long one."""
    parts = []
    for metric, word in (("input_tokens", "prompt"), ("output_tokens", "answer")):
        of = found.filter((pl.col("by") == "all") & (pl.col("metric") == metric))
        if of.height:
            parts.append(
                f"a median {word} has {number(of['p50'][0])} tokens, one in a hundred more than {number(of['p99'][0])}"
            )
    if not parts:
        return "No request states its length."
    sentence = "; ".join(parts)
    whole = related.filter(pl.col("by") == "all") if related.height else related
    if whole.height and abs(whole["spearman"][0]) >= 0.3:
        how = "together" if whole["spearman"][0] > 0 else "against each other"
        sentence += f"; the two rise {how} (rank correlation {number(whole['spearman'][0], 2)})"
    return sentence[0].upper() + sentence[1:] + "."


def _columns() -> tuple[Column, ...]:
    stats = ("mean", "min", "p50", "p90", "p95", "p99", "max")
    return (
        Column("name", "Of"),
        Column("by", "Grouped by"),
        Column("metric", "Length"),
        Column("n", "n", "count"),
        *(Column(s, s, "number") for s in stats),
    )


def _figure(found: pl.DataFrame, label: str) -> Figure:
    """One row a group, one mark a percentile, on a logarithmic axis."""
    order = {"all": 0, "tier": 1, "service": 2, "region": 3}
    drawn = found.sort(
        pl.col("by").replace_strict(order, default=9, return_dtype=pl.Int8), pl.col("n"), descending=[False, True]
    ).head(SHOWN)
    names = [_name(r) for r in drawn.iter_rows(named=True)]
    data = [
        figures.marks(p, drawn[p], names, Style(color, "solid", symbol), hovertemplate="%{x:,.4~g}")
        for p, (symbol, color) in MARKS.items()
    ]
    y = figures.axis("", type="category", categoryorder="array", categoryarray=names[::-1])
    x = figures.axis("tokens", type="log", dtick="D2", tickformat="~s")
    shown = _shown(drawn)
    return Figure(
        {"data": data, "layout": figures.layout(x, y, hovermode="y unified")},
        f"{label}: percentiles by group, logarithmic.",
        shown,
        120 + 30 * len(names),
    )


def _name(row: dict[str, Any]) -> str:
    return "all" if row["by"] == "all" else f"{row['by']} {figures.label(row['name'], 24)}"


def _shown(drawn: pl.DataFrame) -> Table:
    columns = (Column("name", "Of"), Column("by", "Grouped by"), *(Column(p, p, "number") for p in MARKS))
    return table(
        f"{text(METRICS[drawn['metric'][0]])}, percentiles", drawn.with_columns(pl.col("by").replace(GROUPS)), columns
    )

"""What sharing capacity between regions, tiers and services would save, and how alike their loads are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.analysis.workload.pooling import best

from .. import figures
from ..format import percent, span
from ..palette import series
from ..section import Column, Figure, Section, table
from .tables import GROUPS, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

ACROSS = {"region": "regions", "tier": "tiers", "service": "services", "all": "everything"}
MEASURES = {"requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens"}
SAVED = (
    Column("across", "Shared across"),
    Column("measure", "Measure"),
    Column("pools", "Pools", "count"),
    Column("shared_pools", "made", "count"),
    Column("sum_of_peaks", "Sum of peaks, per s", "number"),
    Column("peak_of_sums", "Peak of sums, per s", "number"),
    Column("saving", "Spared", "share"),
    Column("saving_p99", "Spared at p99", "share"),
    Column("windows", "Windows", "count"),
    Column("saving_by_chance", "By chance", "share"),
    Column("window_s", "of", "span_s"),
)
ALIKE = (
    Column("a", "One"),
    Column("b", "Other"),
    Column("by", "Kind"),
    Column("correlation", "Correlation of requests per window", "number"),
)
SHOWN = 12  # groups of a matrix


def section(result: Analysis) -> Section | None:
    """Absent where there is one pool, or fewer than ten whole windows."""
    saved, alike = rows(result, "pooling"), rows(result, "load_correlation")
    if saved.is_empty():
        return None
    window = span(saved["window_s"][0])
    shown = saved.with_columns(pl.col("across").replace(ACROSS), pl.col("measure").replace(MEASURES))
    tables = [table(f"Capacity for the peaks of windows of {window}, apart and shared", shown, SAVED)]
    drawn = [_saving(saved, window)]
    by = _most(alike)
    if by:
        drawn.append(_matrix(alike.filter(by=by), by))
    elif alike.height:
        tables.append(table("How alike loads are", alike.with_columns(pl.col("by").replace(GROUPS)), ALIKE))
    note = (
        "A pool is a service in a region and tier. Sharing is taken as perfect: no distance, any machine serves any "
        "service. Short windows save more, for independent noise evens out too.",
    )
    return Section(
        "pooling",
        "Sharing capacity",
        finding(saved),
        tables=tuple(tables),
        figures=tuple(drawn),
        notes=note,
    )


def finding(saved: pl.DataFrame) -> str:
    """The one dimension whose sharing spares most beyond chance, of all measures at least."""
    r = best(saved)
    if r is not None:
        return (
            f"Sharing across {ACROSS[r['across']]} would spare at least {percent(r['saving'])} of the capacity that "
            f"separate peaks need, of requests as of tokens (windows of {span(r['window_s'])}); chance alone would "
            f"spare {percent(r['saving_by_chance'])}."
        )
    everything = saved.filter(across="all").row(0, named=True)
    return f"Sharing everything would spare {percent(everything['saving'])} of the capacity for the peaks."


def _saving(saved: pl.DataFrame, window: str) -> Figure:
    """One row a dimension, one mark a measure."""
    order = [a for a in ACROSS if a in set(saved["across"])]
    styles = series(MEASURES)
    data = []
    for measure, label in MEASURES.items():
        of = {r["across"]: r["saving"] for r in saved.filter(measure=measure).iter_rows(named=True)}
        names = [a for a in order if a in of]
        if names:
            shares, places = [100 * of[a] for a in names], [ACROSS[a] for a in names]
            data.append(figures.marks(label, shares, places, styles[measure], hovertemplate="%{x:.1f} %"))
    x = figures.axis("% of the capacity for separate peaks that sharing would spare", range=[0, 100])
    y = figures.axis("", type="category", categoryorder="array", categoryarray=[ACROSS[a] for a in order][::-1])
    layout = figures.layout(x, y, hovermode="y unified", showlegend=True)
    wide = saved.pivot("measure", index="across", values="saving").with_columns(pl.col("across").replace(ACROSS))
    columns = (Column("across", "Shared across"), *(Column(m, label, "share") for m, label in MEASURES.items()))
    caption = f"What sharing would spare: 1 less the peak of the sum over the sum of the peaks, windows of {window}."
    shown = table("Spared by sharing", wide, columns, "pooling.parquet")
    return Figure({"data": data, "layout": layout}, caption, shown, 130 + 40 * len(order))


def _most(alike: pl.DataFrame) -> str | None:
    """The dimension with the most groups, from three on; two are one number."""
    if alike.is_empty():
        return None
    groups = {by: of["a"].n_unique() + 1 for (by,), of in alike.partition_by("by", as_dict=True).items()}
    best = max(sorted(groups), key=lambda by: groups[by])
    return best if groups[best] > 2 else None


def _matrix(alike: pl.DataFrame, by: str) -> Figure:
    pairs = {(r["a"], r["b"]): r["correlation"] for r in alike.iter_rows(named=True)}
    names = sorted({name for pair in pairs for name in pair})[:SHOWN]
    labels = [figures.label(n, 24) for n in names]
    z = [[1.0 if a == b else pairs.get((a, b), pairs.get((b, a))) for a in names] for b in names]
    heat = {
        "type": "heatmap",
        "x": labels,
        "y": labels,
        "z": [figures.rounded(line) for line in z],
        "zmin": -1,
        "zmax": 1,
        "colorscale": [[0, "@vermillion"], [0.5, "@page"], [1, "@blue"]],
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "%{x} and %{y}: %{z:.2f}<extra></extra>",
        "texttemplate": "%{z:.2f}",
        "colorbar": {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": 11, "color": "@muted"}},
    }
    x, y = figures.axis("", type="category"), figures.axis("", type="category", autorange="reversed")
    # room for the buttons above the scale
    layout = figures.layout(x, y, hovermode="closest", margin={"l": 56, "r": 16, "t": 36, "b": 48})
    caption = f"Correlation of the requests per window, by {by}: below 0, one is busy when the other is not."
    shown = table("How alike loads are", alike.with_columns(pl.col("by").replace(GROUPS)), ALIKE)
    return Figure({"data": [heat], "layout": layout}, caption, shown, 160 + 36 * len(names))

"""What the trees go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..format import percent
from ..section import Column, Figure, Section, table

if TYPE_CHECKING:
    from lmaas.analysis.lengths.result import Lengths

COLUMNS = (Column("feature", "Feature"), Column("meaning", "What it is"), Column("gain", "Share of gain", "share"))


def section(result: Lengths) -> Section | None:
    """Absent for predictors without trees."""
    rows = result.importance
    if rows.is_empty():
        return None
    best = rows.row(0, named=True)
    return Section(
        "importance",
        "What it goes by",
        f"Most of what it learned, {percent(best['gain'])}, is from '{best['feature']}': {best['meaning']}.",
        tables=(table("Features by their share of the gain in training", rows, COLUMNS, "importance.parquet"),),
        figures=(_figure(rows),) if rows.height > 1 else (),
        notes=(
            "Gain: how much splits on a feature lowered the loss in training. It says what was used, not what causes.",
        ),
    )


def _figure(rows: pl.DataFrame) -> Figure:
    names = rows["feature"].to_list()
    bars: dict[str, Any] = {
        "type": "bar",
        "orientation": "h",
        "name": "gain",
        "x": figures.rounded(rows["gain"]),
        "y": names,
    }
    bars["marker"] = {"color": "@blue"}
    y = figures.axis("", type="category", categoryorder="array", categoryarray=names[::-1])
    layout = figures.layout(figures.axis("share of gain", tickformat=".0%"), y, hovermode="closest")
    shown = table("Features by gain", rows, COLUMNS, "importance.parquet")
    return Figure(
        {"data": [bars], "layout": layout}, "Share of the training gain by feature.", shown, 110 + 26 * len(names)
    )

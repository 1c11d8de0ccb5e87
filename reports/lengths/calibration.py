"""Whether quantiles hold: how often the truth lay below each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import percent
from ..palette import Style, series
from ..section import Column, Figure, Section, table

if TYPE_CHECKING:
    from lmaas.analysis.lengths.result import Lengths

SERVICES = 6  # drawn, the largest
COLUMNS = (
    Column("level", "Quantile", "share"),
    Column("service", "Service"),
    Column("n", "n", "count"),
    Column("below", "True at or below", "share"),
    Column("off", "Off by, points", "number"),
)


def section(result: Lengths) -> Section | None:
    """Nominal against achieved, by service."""
    if result.calibration.is_empty():
        return None
    rows = result.calibration.with_columns(
        service=pl.col("service").fill_null("all"), off=100 * (pl.col("below") - pl.col("level"))
    )
    return Section(
        "calibration",
        "Calibration",
        finding(rows),
        tables=(table("Quantiles by service", rows, COLUMNS, "calibration.parquet"),),
        figures=(_figure(rows),),
        notes=(
            "Quantiles are learned on the first 80 % of the training requests and shifted, by service, by what they "
            "missed on the rest (split conformal); where lengths change after the cut, they miss again.",
        ),
    )


def finding(rows: pl.DataFrame) -> str:
    """The worst quantile over all requests."""
    every = rows.filter(service="all")
    worst = every.sort(pl.col("off").abs(), descending=True).row(0, named=True)
    level, below = percent(worst["level"]), percent(worst["below"])
    return f"Over all requests the quantile that is furthest off is that of {level}: {below} lay at or below it."


def _figure(rows: pl.DataFrame) -> Figure:
    names = rows.filter(pl.col("level") == rows["level"].min()).sort("n", descending=True)["service"].to_list()
    names = ["all", *[name for name in names if name != "all"][:SERVICES]]
    styles = series(names)
    data = [
        figures.line(
            "as it should be", {"x": [0.0, 1.0]}, [0.0, 1.0], Style("@muted", "dash", "circle"), hoverinfo="skip"
        )
    ]
    for name in names:
        own = rows.filter(service=name).sort("level")
        dots = figures.marks(name, own["level"], figures.rounded(own["below"]), styles[name])
        data.append(dots | {"mode": "lines+markers", "line": {"color": styles[name].color, "dash": styles[name].dash}})
    x = figures.axis("quantile", tickformat=".0%", range=[0, 1])
    y = figures.axis("share of true lengths at or below", tickformat=".0%", range=[0, 1])
    shown = table("Quantiles by service", rows.filter(pl.col("service").is_in(names)), COLUMNS, "calibration.parquet")
    spec = {"data": data, "layout": figures.layout(x, y, hovermode="closest")}
    return Figure(spec, "Share of true lengths at or below each predicted quantile.", shown, 380)

"""Re-prediction: how much more to expect of an output that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import number
from ..palette import series
from ..section import Column, Figure, Section, table

if TYPE_CHECKING:
    from lmaas.analysis.lengths.result import Lengths

SERVICES = 5  # drawn
FEW = 30  # held-out requests below which their mean is not drawn
COLUMNS = (
    Column("service", "Service"),
    Column("generated_tokens", "Generated", "count"),
    Column("expected_tokens", "More expected", "number"),
    Column("true_tokens", "More came", "number"),
    Column("n", "n", "count"),
)


def section(result: Lengths) -> Section | None:
    """The curve learned before the cut, beside what became of held-out requests."""
    if result.rest.is_empty():
        return None
    rows = result.rest.with_columns(service=pl.col("service").fill_null("all"))
    return Section(
        "rest",
        "When an output goes on",
        finding(rows),
        tables=(table("Expected rest by tokens generated", rows, COLUMNS, "rest.parquet"),),
        figures=(_figure(rows),),
        notes=(
            "E[output - g | output > g] of the training part: what policies add to a prediction that was outlived.",
        ),
    )


def finding(rows: pl.DataFrame) -> str:
    """From none to where the mean was outlived."""
    every = rows.filter(service="all")
    first = every.row(0, named=True)
    later = every.filter(pl.col("generated_tokens") >= first["expected_tokens"])
    said = f"A request is expected to generate {number(first['expected_tokens'], 3)} tokens"
    if later.is_empty():
        return f"{said}; none outlived that by much."
    then = later.row(0, named=True)
    came = "" if then["true_tokens"] is None else f" ({number(then['true_tokens'], 3)} came)"
    generated, expected = number(then["generated_tokens"], 3), number(then["expected_tokens"], 3)
    return f"{said}; one that has generated {generated} and goes on, {expected} more{came}."


def _figure(rows: pl.DataFrame) -> Figure:
    names = rows.group_by("service", maintain_order=True).len()["service"].to_list()[: SERVICES + 1]
    styles = series(names)
    data = []
    for name in names:
        own = rows.filter(pl.col("service") == name, pl.col("generated_tokens") > 0)
        enough = own.filter(pl.col("n") >= FEW)
        x = {"x": figures.rounded(own["generated_tokens"])}
        data.append(figures.line(f"{name}, expected", x, own["expected_tokens"], styles[name]))
        dots = figures.marks(
            f"{name}, came", enough["generated_tokens"], figures.rounded(enough["true_tokens"]), styles[name]
        )
        dots["marker"] |= {"size": 7}
        data.append(dots)
    x_axis = figures.axis("tokens generated", type="log", dtick="D2", tickformat="~s")
    y_axis = figures.axis("more tokens", type="log", dtick="D2", tickformat="~s")
    shown = table("Expected rest", rows.filter(pl.col("service").is_in(names)), COLUMNS, "rest.parquet")
    spec = {"data": data, "layout": figures.layout(x_axis, y_axis, hovermode="closest")}
    return Figure(spec, "Lines: expected from the training part. Marks: mean of held-out requests.", shown, 420)

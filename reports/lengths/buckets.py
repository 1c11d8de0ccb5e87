"""Predicted against true, by how long the output was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import number
from ..palette import Style
from ..section import Column, Figure, Section, table

if TYPE_CHECKING:
    from lmaas.analysis.lengths.result import Lengths

COLUMNS = (
    Column("range", "True output, tokens"),
    Column("n", "n", "count"),
    Column("mean_true", "Mean true", "number"),
    Column("mean_predicted", "Mean predicted", "number"),
    Column("mae_tokens", "MAE, tokens", "number"),
)


def section(result: Lengths) -> Section | None:
    """Absent where nothing is scored, or all outputs are alike."""
    if result.buckets.height < 2:
        return None
    caption = "By true output, in buckets that the training's outputs fill alike"
    rows = result.buckets.with_columns(range=pl.Series([_range(r) for r in result.buckets.to_dicts()]))
    return Section(
        "buckets",
        "Predicted against true",
        finding(rows),
        tables=(table(caption, rows, COLUMNS, "buckets.parquet"),),
        figures=(_figure(rows),),
        notes=(
            "Any predictor that does not know the answer predicts long outputs too short and short ones too long: the "
            "mean of what is like a request lies between.",
        ),
    )


def finding(rows: pl.DataFrame) -> str:
    """Both ends."""
    short, long = rows.row(0, named=True), rows.row(-1, named=True)
    return (
        f"Outputs of {short['range']} tokens, {number(short['mean_true'], 3)} on average, are predicted at "
        f"{number(short['mean_predicted'], 3)}; those of {long['range']}, {number(long['mean_true'], 3)} on average, "
        f"at {number(long['mean_predicted'], 3)}."
    )


def _range(row: dict[str, float | None]) -> str:
    low, high = row["from_tokens"], row["to_tokens"]
    if high is None:
        return f"over {number(low or 0.0)}"
    return f"up to {number(high)}" if not low else f"{number(low + 1)} to {number(high)}"


def _figure(rows: pl.DataFrame) -> Figure:
    labels = rows["range"].to_list()
    data = [
        figures.marks("true, mean", rows["mean_true"], labels, Style("@ink", "solid", "circle")),
        figures.marks("predicted, mean", rows["mean_predicted"], labels, Style("@blue", "solid", "diamond")),
    ]
    y = figures.axis("true output, tokens", type="category", categoryorder="array", categoryarray=labels[::-1])
    x = figures.axis("tokens", type="log", dtick="D2", tickformat="~s")
    shown = table("Predicted against true", rows, COLUMNS, "buckets.parquet")
    spec = {"data": data, "layout": figures.layout(x, y, hovermode="y unified")}
    return Figure(
        spec, "Mean prediction beside the mean true output, by true output; logarithmic.", shown, 120 + 30 * len(labels)
    )

"""What predictors are worth: GPU-hours at equal attainment against the error of what the policy was told."""

from __future__ import annotations

from typing import Any

import polars as pl

from .. import figures
from ..format import change, number, percent, share, text
from ..palette import Style, series
from ..section import Column, Figure, Table, table

FLOOR = {"demand": "last-value", "lengths": "median"}
ERROR = {
    "demand": Column("error", "WAPE of total tokens", "share"),
    "lengths": Column("error", "Mean error, tokens", "number"),
}
TITLE = {
    "demand": "Cost of equal attainment by forecaster (headroom searched: foresight)",
    "lengths": "Cost of equal attainment by length predictor (headroom searched: foresight)",
}
NOTE = (
    "Worth: the same policy, its headroom searched on the evaluated part until it attains the target, which is "
    "foresight in every row; what predictors learn is from before. None: no prediction, so of demand a fleet that "
    "reacts (hpa) or of the mean training demand (static-mean), of lengths a router that reads none (least-requests)."
)


def finding(worth: pl.DataFrame) -> str:
    """What the best forecaster saves and what the truth would."""
    rows = worth.filter(pl.col("part") == "demand", pl.col("gpu_hours_matched").is_not_null())
    known = rows.filter(~pl.col("foresight"), ~pl.col("predictor").str.starts_with("none")).sort(
        "gpu_hours_matched", maintain_order=True
    )
    truth = rows.filter(pl.col("injected") == 0)
    floor = rows.filter(pl.col("predictor") == FLOOR["demand"])
    if known.is_empty() or floor.is_empty():
        return "No forecaster attains the target at any headroom, so none has a price."
    best = known.row(0, named=True)
    low, high = (floor[f"gpu_hours_matched_{end}"][0] for end in ("low", "high"))
    bound = f"; the truth itself would save {_saved(truth['change'][0])}" if truth.height else ""
    if best["predictor"] == FLOOR["demand"] or best["gpu_hours_matched_high"] >= low:
        width = percent((high - low) / low)
        nobody = "no forecaster is cheaper than the last value beyond what was resolved"
        return f"At equal attainment {nobody} ({width}){bound}."
    saved = f"{text(best['predictor'])} saves {_saved(best['change'])} of last-value's GPU-hours"
    return f"At equal attainment {saved}{bound}."


def _saved(relative: float) -> str:
    return percent(-relative) if relative < 0 else f"nothing ({change(relative)})"


def lost(worth: pl.DataFrame) -> list[str]:
    """A sentence on every predictor that no headroom makes attain: it has no price, and no mark in the figure."""
    rows = worth.filter(~pl.col("attains")).with_columns(pl.col("why").fill_null("not known"))
    return [
        f"{text(row['predictor'])}{_off(row['injected'])} ({row['part']}) attains nowhere: {text(row['why'])}."
        for row in rows.to_dicts()
    ]


def _off(injected: float | None) -> str:
    return f", off by {percent(injected)}," if injected else ""


def tables(worth: pl.DataFrame) -> tuple[Table, ...]:
    """One table a part, as tried."""
    return tuple(_table(worth.filter(pl.col("part") == part), part) for part in FLOOR)


def _table(rows: pl.DataFrame, part: str) -> Table:
    off = pl.when(pl.col("injected") > 0).then(
        pl.col("predictor") + ", off by " + (100 * pl.col("injected")).round(1).cast(pl.String) + " %"
    )
    columns = [
        Column("predictor", "Predictor"),
        ERROR[part],
        Column("headroom_matched", "Headroom needed", "share"),
        Column("gpu_hours_matched", "GPU-h at the target", "number"),
        Column("gpu_hours_matched_low", "from", "number"),
        Column("gpu_hours_matched_high", "to", "number"),
        Column("change", f"against {FLOOR[part]}", "change"),
        Column("gap_closed", "of the gap to the truth", "share"),
    ]
    return table(TITLE[part], rows.with_columns(predictor=off.otherwise("predictor")), columns, "worth.parquet")


def figure(worth: pl.DataFrame, attain: float) -> Figure | None:
    """Error against GPU-hours: a mark a forecaster, a line for the truth with injected errors."""
    rows = worth.filter(pl.col("part") == "demand", pl.col("gpu_hours_matched").is_not_null())
    told = rows.filter(pl.col("error").is_not_null())
    if told.is_empty():
        return None
    curve = told.filter(pl.col("injected").is_not_null()).sort("injected")
    marks = told.filter(pl.col("injected").is_null())
    styles = series(marks["predictor"].to_list())
    hover = "WAPE %{x:.1f} % · %{y:,.4~g} GPU-h"
    data: list[dict[str, Any]] = []
    if curve.height:
        line = figures.line("truth, off by what is injected", {"x": figures.rounded(100 * curve["error"])},
                            curve["gpu_hours_matched"], Style("@ink", "dot", "circle"))  # fmt: skip
        data.append(line | {"mode": "lines+markers", "hovertemplate": hover})
    data += [
        figures.marks(row["predictor"], [100 * row["error"]], figures.rounded([row["gpu_hours_matched"]]),
                      styles[row["predictor"]], hovertemplate=hover)
        for row in marks.to_dicts()
    ]  # fmt: skip
    none = rows.filter(pl.col("error").is_null())
    layout = figures.layout(
        figures.axis("WAPE of total tokens, as told to the policy, %", rangemode="tozero"),
        figures.axis(f"GPU-hours at {share(attain)} attained"),
        hovermode="closest",
        shapes=[figures.rule("y", float(h)) for h in none["gpu_hours_matched"]],
    )
    without = ", ".join(f"{text(row['predictor'])} {number(row['gpu_hours_matched'])}" for row in none.to_dicts())
    caption = "GPU-hours at equal attainment against the error of the demand forecast"
    caption += f". Dashed: no prediction ({without})." if without else "."
    return Figure({"data": data, "layout": layout}, caption, _table(worth.filter(pl.col("part") == "demand"), "demand"))

"""What was forecast against what came, with intervals, and how often what came lay in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..format import percent, span, text
from ..palette import Style
from ..section import Column, Figure, Section, table
from .words import MAIN, METRICS, ordered, said

if TYPE_CHECKING:
    from lmaas.analysis.forecasting.study import Forecasted

FIELDS = ("actual", "forecast", "q0.025", "q0.1", "q0.9", "q0.975")


def section(result: Forecasted) -> Section | None:
    """The first model's forecasts of the largest series at every horizon, and coverage of all."""
    model = result.settings["models"][0]
    rows = ordered(result.scores.filter(pl.col("coverage_80").is_not_null()))
    of = result.windows.filter(
        pl.col("model") == model, pl.col("tier").is_null(), pl.col("type").is_null(), pl.col("metric") == MAIN
    )
    if of.is_empty() or rows.is_empty():
        return None
    size = of.group_by("service", "origin").agg(pl.col("actual").sum()).sort("actual", "service", "origin")
    service, origin = size.row(-1)[:2]
    drawn = of.filter(pl.col("service") == service, pl.col("origin") == origin)
    columns = (
        Column("horizon", "Horizon"), Column("metric", "Metric"), Column("model", "Model"),
        Column("windows", "Windows", "count"), Column("coverage_80", "in the 80 % interval", "share"),
        Column("coverage_95", "in the 95 % interval", "share"), Column("pinball", "Pinball", "share"),
    )  # fmt: skip
    horizons = drawn["horizon_s"].unique().sort().to_list()
    return Section(
        "intervals",
        "Forecast with its intervals against what came",
        finding(rows, model),
        tables=(table("How often what came lay in the interval", said(rows), columns, "scores.parquet"),),
        figures=tuple(
            _figure(result, drawn.filter(pl.col("horizon_s") == h), f"{text(model)}, {span(h)} ahead: {METRICS[MAIN]} "
                    f"per window of {text(service)} from {text(origin)}, the largest series.")
            for h in dict.fromkeys((horizons[0], horizons[-1]))
        ),
        notes=(
            "Intervals come from the errors of forecasts issued before whose windows had ended (conformal calibration) "
            "and follow what they miss; coverage is counted over windows that had no part in their own interval.",
        ),
    )  # fmt: skip


def finding(rows: pl.DataFrame, model: str) -> str:
    """Coverage of the first model over horizons and metrics."""
    of = rows.filter(pl.col("model") == model)
    if of.is_empty():
        return "Too few forecasts had come due to calibrate intervals."
    low80, high80 = of["coverage_80"].min(), of["coverage_80"].max()
    low95, high95 = of["coverage_95"].min(), of["coverage_95"].max()
    return (
        f"What came lay in {text(model)}'s 80 % interval {percent(low80)} to {percent(high80)} of the time, "  # type: ignore[arg-type]
        f"in its 95 % interval {percent(low95)} to {percent(high95)}, over horizons and metrics."  # type: ignore[arg-type]
    )


def _figure(result: Forecasted, rows: pl.DataFrame, caption: str) -> Figure:
    clock = figures.Clock(result.trace.epoch, result.settings["end_s"])
    window = float(result.settings["window_s"])
    start, end = float(rows["start_s"].min()), float(rows["start_s"].max()) + window  # type: ignore[arg-type]
    step = figures.buckets(end - start, window, len(FIELDS))
    grid = figures.peaks(rows, step, start, end, FIELDS)
    x = clock.regular(start, step)
    hidden = {"line": {"width": 0}, "hoverinfo": "skip"}
    area = {"fill": "tonexty", "fillcolor": "@area"}
    blank = Style("@muted", "solid", "circle")
    data: list[dict[str, Any]] = [
        figures.line("95 % low", x, grid["q0.025"], blank, **hidden, showlegend=False),
        figures.line("95 % interval", x, grid["q0.975"], blank, **hidden, **area),
        figures.line("80 % low", x, grid["q0.1"], blank, **hidden, showlegend=False),
        figures.line("80 % interval", x, grid["q0.9"], blank, **hidden, **area),
        figures.line("actual", x, grid["actual"], Style("@ink", "solid", "circle")),
        figures.line("forecast", x, grid["forecast"], Style("@blue", "solid", "circle")),
    ]
    times = pl.Series("time", [clock.write(start + i * step) for i in range(grid.height)], dtype=pl.String)
    columns = [Column("time", "Window from"), *(Column(name, name, "number") for name in FIELDS)]
    spec = {"data": data, "layout": figures.layout(clock.axis(), figures.axis(METRICS[MAIN], rangemode="tozero"))}
    return Figure(spec, caption, table(caption, grid.with_columns(times), columns, "windows.parquet"))

"""Rhythm and change: hours of the week, seasons, changes of level, drift, and what of it can be foretold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import change, percent, span
from ..palette import Style
from ..section import Column, Figure, Section, Table, table
from .tables import rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

DRAWN = 10  # changes of level as lines in a figure
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NAMES = {
    "rate": "Requests per second",
    "input_per_request": "Input tokens per request",
    "output_per_request": "Output tokens per request",
}
CHANGES = (
    Column("name", "Of"),
    Column("time", "From"),
    Column("before", "Level before", "number"),
    Column("after", "Level after", "number"),
    Column("change", "Change", "change"),
)
TRENDS = (
    Column("name", "Of"),
    Column("change", "Over the trace", "change"),
    Column("change_low", "95 % from", "change"),
    Column("change_high", "to", "change"),
    Column("per_day", "Per day", "change"),
    Column("clear", "Clear"),
)
SEASONS = (
    Column("component", "Component"),
    Column("cycles", "Periods", "count"),
    Column("strength", "Strength", "number"),
    Column("by_chance", "By chance", "number"),
)
WEEKDAYS = (
    Column("kind", "Days (UTC)"),
    Column("days", "Days", "count"),
    Column("mean_rps", "Mean req/s", "number"),
    Column("rate_low", "Lowest day", "number"),
    Column("rate_high", "Highest day", "number"),
    Column("input_per_request", "ISL, mean", "number"),
    Column("output_per_request", "OSL, mean", "number"),
    Column("hour", "Busiest hour from"),
)
LAGS = (
    Column("lag", "Lag"),
    Column("window_s", "Windows of", "span_s"),
    Column("autocorrelation", "Autocorrelation", "number"),
    Column("noise", "By chance", "number"),
)
FORECASTS = (
    Column("metric", "Of"),
    Column("ahead", "Horizon"),
    Column("window_s", "Windows of", "span_s"),
    Column("method", "Method"),
    Column("wape", "WAPE", "share"),
    Column("to_last_value", "To last value", "number"),
    Column("noise", "Poisson noise", "share"),
    Column("n", "Windows", "count"),
)


def section(result: Analysis) -> Section | None:
    """Absent where the trace is too short for any of it."""
    clock = figures.Clock(result.trace.epoch, result.trace.span_s)
    found = tuple(_tables(result, clock))
    hours = rows(result, "hour_of_week")
    if not found and hours.is_empty():
        return None
    jumps = _of_rate(rows(result, "changes"))
    drawn = (
        *([heat_map(hours)] if hours.height else []),
        *([change_figure(rows(result, "load"), jumps, clock)] if jumps.height else []),
    )
    return Section(
        "rhythm",
        "Rhythm and change",
        finding(result, clock),
        tables=found,
        figures=drawn,
        notes=tuple(_notes(result)),
    )


def finding(result: Analysis, clock: figures.Clock) -> str:
    """The largest change of the rate, and how well the next window is foretold."""
    jumps, trends, best = (rows(result, name) for name in ("changes", "trends", "predictability"))
    said = []
    jumps = _of_rate(jumps)
    if jumps.height:
        largest = jumps.sort(pl.col("change").log1p().abs(), descending=True).row(0, named=True)
        times = "once" if jumps.height == 1 else f"{jumps.height} times, most by"
        by = " by" if jumps.height == 1 else ""
        where = "" if clock.epoch else " on the trace's clock"
        most = f"{change(largest['change'])} at {clock.write(largest['at_s'])}{where}"
        said.append(f"The level of the load changes {times}{by} {most}")
    elif trends.height:
        said.append("No lasting change of the load's level stands out")
    if best.height:
        b = best.filter("best", metric="requests").sort("horizon_s")
        for r in b.head(1).iter_rows(named=True):
            said.append(f"forecasts of the next {span(r['window_s'])} are off by {percent(r['wape'])} at best")
    sentence = "; ".join(said) or "The trace is too short for changes of level or forecasts"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _of_rate(jumps: pl.DataFrame) -> pl.DataFrame:
    return jumps.filter(pl.col("metric") == "rate") if jumps.height else jumps


def _tables(result: Analysis, clock: figures.Clock) -> list[Table]:
    named = pl.col("metric").replace_strict(NAMES).alias("name")
    found = []
    for name, caption, columns, more in (
        ("changes", "Changes of level", CHANGES, (named,)),
        ("trends", "Drift: growth along a straight line", TRENDS, (named,)),
        ("season_strength", "Strength of trend and seasons (MSTL), 0 to 1", SEASONS, ()),
        ("weekdays", "Weekdays and weekends", WEEKDAYS, (pl.format("{}:00", "busiest_hour").alias("hour"),)),
        ("autocorrelation", "Autocorrelation of requests per window", LAGS, ()),
        ("predictability", "Forecasts of the second half of the trace", FORECASTS, (_ahead(),)),
    ):
        shown = rows(result, name)
        if shown.height:
            if "at_s" in shown.columns:
                times = [clock.write(s) for s in shown["at_s"]]
                shown = shown.with_columns(pl.Series("time", times, dtype=pl.String))
            found.append(table(caption, shown.with_columns(more), columns))
    return found


def _ahead() -> pl.Expr:
    hour = pl.col("horizon_s") > pl.col("window_s")
    return pl.when(hour).then(pl.lit("1 h ahead")).otherwise(pl.lit("next window")).alias("ahead")


def _notes(result: Analysis) -> list[str]:
    said = []
    trends = rows(result, "trends")
    if trends.height:
        removed = trends["rhythm_removed"][0]
        said.append(
            f"Levels and drift are those of the logarithms without {removed}."
            if removed
            else "The trace is too short to take out a daily rhythm: if it has one, that shows as changes and drift."
        )
    if rows(result, "season_strength").height:
        said.append("By chance: the strength that the same hours have in random order.")
    if rows(result, "predictability").height:
        said.append(
            "WAPE: absolute errors over the truth, each window forecast from those before it; day and week: the same "
            "window a day or a week before. Poisson noise is what remains where the true rate is known."
        )
    return said


def heat_map(hours: pl.DataFrame) -> Figure:
    """Requests per second by hour and day of the week, UTC; hours that the trace does not cover are blank."""
    cells = dict(zip(hours.select("day", "hour").iter_rows(), figures.rounded(hours["mean_rps"]), strict=True))
    data = {
        "type": "heatmap",
        "x": [f"{h:02d}:00" for h in range(24)],
        "y": list(DAYS),
        "z": [[cells.get((day, hour)) for hour in range(24)] for day in range(7)],
        "zmin": 0,
        "zmax": figures.rounded([hours["mean_rps"].max()])[0],
        "colorscale": [[0, "@page"], [1, "@blue"]],
        "colorbar": {"title": {"text": "req/s", "side": "top"}, "thickness": 12, "outlinewidth": 0},
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "%{y} %{x}: %{z:,.4~g} requests/s<extra></extra>",
        "hoverongaps": False,
    }
    layout = figures.layout(
        figures.axis("hour of the day, UTC", type="category", dtick=3, showgrid=False),
        figures.axis("", type="category", autorange="reversed", showgrid=False),
        hovermode="closest",
    )
    wide = hours.with_columns(pl.col("day").replace_strict(dict(enumerate(DAYS)), return_dtype=pl.String))
    by_day = wide.pivot("day", index="hour", values="mean_rps", maintain_order=True).sort("hour")
    by_day = by_day.with_columns(pl.format("{}:00", pl.col("hour").cast(pl.String).str.zfill(2)).alias("hour"))
    columns = (Column("hour", "UTC"), *(Column(d, d, "number") for d in DAYS))
    caption = "Requests per second by hour and day of the week, mean over the trace."
    return Figure({"data": [data], "layout": layout}, caption, table("Requests per second", by_day, columns), 280)


def change_figure(loads: pl.DataFrame, jumps: pl.DataFrame, clock: figures.Clock) -> Figure:
    """The load of all services, and where its level changes."""
    whole = loads.filter("whole") if loads["whole"].any() else loads
    window = float(whole["length_s"][0])
    rates = whole.group_by("start_s").agg(rps=pl.col("requests").sum() / window).sort("start_s")
    start, end = float(rates["start_s"][0]), float(rates["start_s"][-1]) + window
    step = figures.buckets(end - start, window, 1)
    highest = figures.peaks(rates, step, start, end, ("rps",))["rps"]
    data = [figures.line("requests per second", clock.regular(start, step), highest, Style("@blue", "solid", "circle"))]
    largest = jumps.sort(pl.col("change").log1p().abs(), descending=True).head(DRAWN)
    at = [clock.regular(s, 0)["x0"] for s in largest["at_s"]]
    layout = figures.layout(
        clock.axis(),
        figures.axis("requests per second", rangemode="tozero"),
        shapes=[figures.rule("x", x) for x in at],
        showlegend=False,
    )
    times = pl.Series("time", [clock.write(start + i * step) for i in range(len(highest))], dtype=pl.String)
    shown = pl.DataFrame([times, highest])
    columns = (Column("time", "Window from"), Column("rps", "Requests per second", "number"))
    what = f"highest of every {span(step)}" if step > window else f"windows of {span(window)}"
    lines = "The dashed line is where its level changes" if len(at) == 1 else "Dashed lines are where its level changes"
    lines += "" if len(jumps) <= DRAWN else f" most, {DRAWN} of {len(jumps)} times"
    return Figure(
        {"data": data, "layout": layout},
        f"Load of all services, {what}. {lines}.",
        table("Requests per second", shown, columns, "load.parquet"),
        280,
    )

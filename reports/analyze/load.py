"""Load over time: the rate by service, peaks and dispersion at every scale, daily and weekly rhythm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import number, share, span, text
from ..palette import series
from ..section import Column, Figure, Section, table
from .tables import GROUPS, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

SHOWN = 6  # services drawn one by one; the rest together
REST = "all others"
SCALES = (
    Column("window_s", "Window", "span_s"),
    Column("windows", "Windows", "count"),
    Column("mean_rps", "Mean req/s", "number"),
    Column("peak_rps", "Peak req/s", "number"),
    Column("peak_to_mean", "Peak / mean", "number"),
    Column("input_peak_to_mean", "Input tokens, peak / mean", "number"),
    Column("output_peak_to_mean", "Output tokens, peak / mean", "number"),
    Column("dispersion", "Variance / mean", "number"),
    Column("empty_share", "Empty windows", "share"),
)
RHYTHM = (
    Column("name", "Of"),
    Column("by", "Grouped by"),
    Column("period", "Period"),
    Column("cycles", "Periods", "count"),
    Column("strength", "Explained", "share"),
    Column("peak", "Busiest phase from"),
    Column("trough", "Quietest phase from"),
    Column("peak_to_trough", "Peak / trough", "number"),
)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def section(result: Analysis) -> Section | None:
    """Absent where the trace has no length in time."""
    loads, scales = rows(result, "load"), rows(result, "scales")
    rhythm = rows(result, "seasonality")
    if loads.is_empty():
        return None
    known = result.trace.epoch is not None
    tables = (
        [table("Peaks and dispersion by scale; 1 is the variance / mean of Poisson arrivals", scales, SCALES)]
        if scales.height
        else []
    )
    if rhythm.height:
        tables.append(
            table(
                "Rhythm: the share of variance that the phase of the day or week explains",
                phases(rhythm, known),
                RHYTHM,
            )
        )
    clock = figures.Clock(result.trace.epoch, result.trace.span_s)
    note = () if known else ("The trace's times are relative: phases count from its start, not from midnight.",)
    return Section(
        "load",
        "Load over time",
        finding(scales, rhythm, known),
        tables=tuple(tables),
        figures=(_figure(loads, clock),),
        notes=note,
    )


def phases(rhythm: pl.DataFrame, known: bool) -> pl.DataFrame:
    """`seasonality` with the busiest and quietest phases as a reader says them: 14:00, or Tue."""
    words = [
        {"peak": _phase(r["period"], r["peak_at_s"], known), "trough": _phase(r["period"], r["trough_at_s"], known)}
        for r in rhythm.iter_rows(named=True)
    ]
    return rhythm.with_columns(pl.col("by").replace(GROUPS)).hstack(pl.DataFrame(words))


def _phase(period: str, at_s: float, known: bool) -> str:
    if period == "day":
        clock = f"{int(at_s // 3600):02d}:00"
        return f"{clock} UTC" if known else f"hour {int(at_s // 3600)}"
    return DAYS[int(at_s // 86_400) % 7] if known else f"day {int(at_s // 86_400)}"


def finding(scales: pl.DataFrame, rhythm: pl.DataFrame, known: bool) -> str:
    """The daily rhythm where there is one, else how bursty the minute is."""
    daily = rhythm.filter((pl.col("by") == "all") & (pl.col("period") == "day")) if rhythm.height else rhythm
    if daily.height:
        r = daily.row(0, named=True)
        times = "" if r["peak_to_trough"] is None else f", {number(r['peak_to_trough'], 3)} times the quietest"
        busiest = _phase("day", r["peak_at_s"], known)
        explained = f"The hour of the day explains {share(r['strength'])} of the load's variance"
        return f"{explained}; busiest from {busiest}{times}."
    if scales.height:
        r = scales.sort("window_s").row(0, named=True)
        peak = f"Over windows of {span(r['window_s'])} the load peaks at {number(r['peak_to_mean'], 3)} times its mean"
        return f"{peak}; the trace is too short for a daily rhythm."
    return "The trace is too short for peaks or a rhythm to mean anything."


def _figure(loads: pl.DataFrame, clock: figures.Clock) -> Figure:
    whole = loads.filter("whole") if loads["whole"].any() else loads
    window = float(whole["length_s"][0])
    largest = (
        whole.group_by("service")
        .agg(pl.col("requests").sum())
        .sort(["requests", "service"], descending=[True, False])["service"]
        .to_list()
    )
    named = largest[:SHOWN] if len(largest) > SHOWN + 1 else largest
    service = pl.when(pl.col("service").is_in(named)).then("service").otherwise(pl.lit(REST)).alias("service")
    rates = whole.group_by("start_s", service).agg(rps=pl.col("requests").sum() / window).sort("start_s")
    names = [n for n in (*named, REST) if n in set(rates["service"])]
    start, end = float(rates["start_s"].min()), float(rates["start_s"].max()) + window  # type: ignore[arg-type]
    step = figures.buckets(end - start, window, len(names))
    grids = [figures.peaks(rates.filter(pl.col("service") == n), step, start, end, ("rps",))["rps"] for n in names]
    styles = series(names)
    data = [figures.line(n, clock.regular(start, step), g, styles[n]) for n, g in zip(names, grids, strict=True)]
    times = pl.Series("time", [clock.write(start + i * step) for i in range(grids[0].len())], dtype=pl.String)
    shown = pl.DataFrame([times, *(g.alias(f"s{i}") for i, g in enumerate(grids))])
    columns = [Column("time", "Window from"), *(Column(f"s{i}", text(n), "number") for i, n in enumerate(names))]
    caption = "Requests per second by service" + (
        f", highest of every {span(step)}." if step > window else f", windows of {span(window)}."
    )
    layout = figures.layout(clock.axis(), figures.axis("requests per second", rangemode="tozero"), showlegend=True)
    return Figure(
        {"data": data, "layout": layout}, caption, table("Requests per second", shown, columns, "load.parquet"), 320
    )

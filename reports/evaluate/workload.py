"""The workload that was replayed: how much came, when, and for which service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import number, percent, span, text
from ..palette import series
from ..section import Column, Figure, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

SHOWN = 8  # services drawn; more lines cannot be told apart


def section(result: Evaluation) -> Section | None:
    """Arrivals by service over the evaluated part."""
    loads = load(result.timeline)
    if loads.is_empty():
        return None
    services = totals(loads)
    shown = services["service"].head(SHOWN).to_list()
    notes = (f"The {SHOWN} largest of {services.height} services are drawn.",) if services.height > SHOWN else ()
    return Section(
        "workload",
        "Workload",
        finding(loads, services),
        tables=(_table(services),),
        figures=(_figure(loads, shown, figures.Clock(result.trace.epoch, result.settings["end_s"])),),
        notes=notes,
    )


def load(timeline: pl.DataFrame) -> pl.DataFrame:
    """start_s, length_s, service, arrived: of one policy, since all see the same arrivals.

    Decode lanes see requests that prefill lanes have counted.
    """
    one = timeline.filter(pl.col("policy") == pl.col("policy").first()).with_columns(pl.col("service").cast(pl.String))
    per_pool = one.filter(pl.col("lane").cast(pl.String) != "decode")
    return per_pool.group_by("start_s", "length_s", "service").agg(pl.col("arrived").sum()).sort("start_s", "service")


def totals(loads: pl.DataFrame) -> pl.DataFrame:
    """service, arrived, share, mean_rps, peak_rps, peak_to_mean; largest first."""
    rate = pl.col("arrived") / pl.col("length_s")
    rows = loads.group_by("service").agg(
        arrived=pl.col("arrived").sum(),
        mean_rps=pl.col("arrived").sum() / pl.col("length_s").sum(),
        peak_rps=rate.max(),
    )
    return rows.with_columns(
        share=pl.col("arrived") / pl.col("arrived").sum(),
        peak_to_mean=pl.when(pl.col("mean_rps") > 0).then(pl.col("peak_rps") / pl.col("mean_rps")),
    ).sort(["arrived", "service"], descending=[True, False])


def finding(loads: pl.DataFrame, services: pl.DataFrame) -> str:
    """How many requests over how long, and how uneven."""
    whole = loads.group_by("start_s", "length_s").agg(pl.col("arrived").sum()).sort("start_s")
    seconds, arrived = float(whole["length_s"].sum()), int(whole["arrived"].sum())
    if not arrived or not seconds:
        return "No request arrived in the evaluated part."
    peak = float((whole["arrived"] / whole["length_s"]).max())  # type: ignore[arg-type]
    mean = arrived / seconds
    start = f"{arrived:,} requests in {span(seconds)}: {number(mean, 3)} per second on average"
    start += f", {number(peak / mean, 3)} times that in the busiest window"
    if services.height == 1:
        return f"{start}."
    first = services.row(0, named=True)
    return f"{start}; {text(first['service'])} takes {percent(first['share'])}."


def _table(services: pl.DataFrame) -> Table:
    columns = (
        Column("service", "Service"),
        Column("arrived", "Requests", "count"),
        Column("share", "Share", "share"),
        Column("mean_rps", "Mean req/s", "number"),
        Column("peak_rps", "Peak req/s", "number"),
        Column("peak_to_mean", "Peak / mean", "number"),
    )
    return table("Requests by service; the peak is of one window", services, columns, "timeline.parquet")


def _figure(loads: pl.DataFrame, services: list[str], clock: figures.Clock) -> Figure:
    rates = loads.with_columns(rps=pl.col("arrived") / pl.col("length_s"))
    window = float(rates["length_s"].max())  # type: ignore[arg-type]
    start, end = float(rates["start_s"].min()), float((rates["start_s"] + rates["length_s"]).max())  # type: ignore[arg-type]
    step = figures.buckets(end - start, window, len(services))
    styles = series(services)
    grids = [
        figures.peaks(rates.filter(pl.col("service") == name), step, start, end, ("rps",))["rps"] for name in services
    ]
    x = clock.regular(start, step)
    data = [figures.line(name, x, grid, styles[name]) for name, grid in zip(services, grids, strict=True)]
    times = pl.Series("time", [clock.write(start + i * step) for i in range(grids[0].len())], dtype=pl.String)
    rows = pl.DataFrame([times, *(grid.alias(f"s{i}") for i, grid in enumerate(grids))])
    columns = [
        Column("time", "Window from"),
        *(Column(f"s{i}", text(name), "number") for i, name in enumerate(services)),
    ]
    layout = figures.layout(clock.axis(), figures.axis("requests per second", rangemode="tozero"), showlegend=True)
    caption = "Arrivals per second by service" + (
        f", highest of every {span(step)}." if step > window else f", windows of {span(window)}."
    )
    return Figure(
        {"data": data, "layout": layout}, caption, table("Arrivals per second", rows, columns, "timeline.parquet"), 300
    )

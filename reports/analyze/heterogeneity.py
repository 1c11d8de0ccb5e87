"""How unlike requests are: variation over time, what few of them demand, who has how much, who makes the peaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import number, percent, span
from ..palette import Style, series
from ..section import Column, Figure, Section, Table, table
from .tables import GROUPS, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

MIN_ROWS = 100
INDICES = {
    "input_cv": "CV of input tokens",
    "output_cv": "CV of output tokens",
    "prefill_cv": "CV of prefill work",
    "kv_cv": "CV of KV memory",
    "prefill_type_cv": "CV of prefill work between types",
    "kv_type_cv": "CV of KV memory between types",
    "type_evenness": "Evenness of the types",
    "service_evenness": "Evenness of the services",
    "tenant_gini": "Gini of tokens by tenant",
}
DRAWN = {"kv_cv": "KV memory", "prefill_cv": "prefill work", "kv_type_cv": "KV memory, between types"}
DEMANDS = {
    "prefill_work": "Prefill work",
    "decode_iterations": "Decode iterations",
    "kv_token_s": "KV memory over time",
}
MEASURES = {
    "requests": "requests",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "tokens": "tokens",
}
SUMMARY = (
    Column("index", "Index"),
    Column("trace", "Whole trace", "number"),
    Column("min", "Least window", "number"),
    Column("mean", "Mean window", "number"),
    Column("max", "Most window", "number"),
    Column("windows", "Windows", "count"),
)
DEMAND = (
    Column("metric", "Demand"),
    Column("name", "Of"),
    Column("by", "Grouped by"),
    Column("n", "n", "count"),
    Column("mean", "Mean", "number"),
    Column("cv", "CV", "number"),
    Column("p50", "p50", "number"),
    Column("p90", "p90", "number"),
    Column("p99", "p99", "number"),
    Column("top1_share", "Made by the top 1 %", "share"),
    Column("top10_share", "by the top 10 %", "share"),
    Column("gini", "Gini", "number"),
)
SKEW = (
    Column("by", "Of"),
    Column("measure", "Measure"),
    Column("groups", "Groups", "count"),
    Column("effective", "Effective number", "number"),
    Column("top_share", "Largest has", "share"),
    Column("gini", "Gini", "number"),
    Column("others_share", "Not told apart", "share"),
)
MAKERS = (
    Column("name", "Who"),
    Column("by", "Kind"),
    Column("measure", "Measure"),
    Column("share", "Of all", "share"),
    Column("peak_share", "Of the peaks", "share"),
    Column("excess_share", "Of what peaks have above the mean", "share"),
    Column("lift", "Times its usual share", "number"),
    Column("peak_windows", "Peaks", "count"),
    Column("window_s", "of", "span_s"),
)


def section(result: Analysis) -> Section | None:
    """Absent below a hundred requests with both lengths: a handful does not vary."""
    found, over_time = rows(result, "heterogeneity"), rows(result, "heterogeneity_windows")
    if found.is_empty() or rows(result, "demand", "all")["n"][0] < MIN_ROWS:
        return None
    drawn = []
    if over_time.height > 1:
        drawn.append(_over_time(over_time, figures.Clock(result.trace.epoch, result.trace.span_s)))
    if rows(result, "demand_curve").height:
        drawn.append(_curve(rows(result, "demand_curve")))
    note = (
        "Per request: prefill work is input + 2e-5 × input² (tokens); decode iterations are the output tokens; KV "
        "memory over time is (input × output + output² / 2) × 0.03 s (token-seconds). From a histogram of both "
        "lengths: means within 0.5 %, percentiles within about 5 %.",
    )
    return Section(
        "heterogeneity",
        "How unlike requests are",
        finding(found, rows(result, "demand", "all")),
        tables=tuple(_tables(result, found)),
        figures=tuple(drawn),
        notes=note,
    )


def finding(found: pl.DataFrame, demand: pl.DataFrame) -> str:
    """Variation of the memory that requests hold, and how much of it few of them make."""
    value = {r["index"]: r for r in found.iter_rows(named=True)}["kv_cv"]
    if value["trace"] is None:
        return "No request holds memory."
    said = f"The KV memory that a request holds over time varies by {number(value['trace'], 2)} times its mean"
    if value["mean"] is not None and value["windows"] > 1:
        said += f" (in windows of {span(value['window_s'])}: {number(value['mean'], 2)})"
    held = demand.filter(metric="kv_token_s")
    if held.height:
        said += f"; 1 % of the requests hold {percent(held['top1_share'][0])} of it"
    return said + "."


def _tables(result: Analysis, found: pl.DataFrame) -> list[Table]:
    window = span(found["window_s"][0])
    known = found.filter(pl.col("trace").is_not_null()).with_columns(pl.col("index").replace(INDICES))
    tables = [table(f"Heterogeneity of the trace, and of its windows of {window}", known, SUMMARY)]
    named = pl.col("by").replace(GROUPS)
    demand = rows(result, "demand")
    if demand.height:
        shown = demand.with_columns(named, pl.col("metric").replace(DEMANDS))
        tables.append(table("What a request demands", shown, DEMAND, "demand.parquet"))
    # no column where every group has its name
    folded = pl.when(pl.col("others_share") > 0).then("others_share").alias("others_share")
    for name, caption, columns in (
        ("skew", "How few have how much", SKEW),
        ("peak_makers", "Who makes the busiest 1 % of the windows", MAKERS),
    ):
        of = rows(result, name)
        if of.height:
            shown = of.with_columns(named, pl.col("measure").replace(MEASURES), *([folded] if name == "skew" else []))
            tables.append(table(caption, shown, columns, f"{name}.parquet"))
    return tables


def _over_time(windows: pl.DataFrame, clock: figures.Clock) -> Figure:
    length, first = float(windows["length_s"][0]), float(windows["start_s"].min())  # type: ignore[arg-type]
    place = ((pl.col("start_s") - first) / length).round().cast(pl.Int64).alias("at")
    placed = windows.with_columns(place)
    grid = pl.DataFrame({"at": range(int(placed["at"].max()) + 1)}, schema={"at": pl.Int64})  # type: ignore[arg-type]
    every = grid.join(placed, on="at", how="left").sort("at")
    names = [n for n in DRAWN if every[n].null_count() < len(every)]
    styles = series(names)
    x = clock.regular(first, length)
    data = [figures.line(DRAWN[n], x, every[n], styles[n]) for n in names]
    times = pl.Series("time", [clock.write(first + k * length) for k in every["at"]], dtype=pl.String)
    columns = (
        Column("time", "Window from"),
        Column("requests", "Requests", "count"),
        *(Column(n, said, "number") for n, said in INDICES.items()),
    )
    shown = table("Heterogeneity over time", every.with_columns(times), columns, "heterogeneity_windows.parquet")
    y = figures.axis("standard deviation / mean", rangemode="tozero")
    caption = f"How much the requests of a window of {span(length)} differ in what they demand."
    layout = figures.layout(clock.axis(), y, showlegend=True)
    return Figure({"data": data, "layout": layout}, caption, shown, 300)


def _curve(curve: pl.DataFrame) -> Figure:
    wide = curve.pivot("metric", index="request_share", values="demand_share").sort("request_share")
    names = [n for n in DEMANDS if n in wide.columns]
    styles = series(names)
    x = {"x": figures.rounded(wide["request_share"] * 100)}
    data = [figures.line(DEMANDS[n], x, wide[n] * 100, styles[n]) for n in names]
    alike = Style("@muted", "dash", "x")
    data.append(figures.line("all requests alike", x, wide["request_share"] * 100, alike))
    columns = (
        Column("request_share", "Top requests", "share"),
        *(Column(n, DEMANDS[n], "share") for n in names),
    )
    layout = figures.layout(
        figures.axis("most demanding % of the requests", type="log", dtick=1),
        figures.axis("% of the demand", range=[0, 100]),
        showlegend=True,
    )
    caption = "What share of each demand the most demanding requests make."
    shown = table("Share of the demand made by the top requests", wide, columns, "demand_curve.parquet")
    return Figure({"data": data, "layout": layout}, caption, shown, 320)

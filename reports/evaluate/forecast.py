"""Forecast against what came: the error of what the planning policies were told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..forecast.words import METRICS
from ..format import share, text
from ..palette import Style, policy_styles
from ..section import Column, Figure, Section, Table, table
from . import worth

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

TITLE = "Forecast against actual"
FEW = 20  # windows: with fewer a 5 % quantile is a guess
NOT_SEARCHED = (
    "How far a forecast is off is not what it costs: what each forecaster is worth in GPU-hours at equal attainment is "
    "searched with --depth full."
)
DASHES = ("dash", "dot", "dashdot", "longdash")  # never solid: solid is what really came


def section(result: Evaluation) -> Section | None:
    """What predictors are worth, where it was searched; errors per policy and metric, and the largest series drawn."""
    found = [part for part in (_worth(result), _told(result)) if part is not None]
    if not found:
        return None
    first, *more = found
    for other in more:
        first = replace(
            first,
            finding=f"{first.finding} {other.finding}",
            tables=(*first.tables, *other.tables),
            figures=(*first.figures, *other.figures),
            notes=(*first.notes, *other.notes),
        )
    return first


def _worth(result: Evaluation) -> Section | None:
    """GPU-hours at equal attainment by predictor, with `--depth full`."""
    if result.worth.is_empty():
        return None
    drawn = worth.figure(result.worth, float(result.settings["attain"]))
    return Section(
        "forecast",
        TITLE,
        worth.finding(result.worth),
        tables=worth.tables(result.worth),
        figures=() if drawn is None else (drawn,),
        notes=(worth.NOTE, *worth.lost(result.worth)),
    )


def _told(result: Evaluation) -> Section | None:
    """Forecast against actual; bounds are told the truth and left out."""
    told = result.scores.filter(~pl.col("foresight"))["policy"].to_list()
    order = pl.col("policy").replace_strict(dict(zip(told, range(len(told)), strict=True)), return_dtype=pl.Int32)
    if result.forecasts.is_empty():
        return None
    rows = result.forecasts.filter(
        pl.col("policy").is_in(told), pl.col("forecast").is_not_null(), pl.col("actual").is_not_null()
    )
    rows = rows.sort(order, maintain_order=True)
    if rows.is_empty():
        return None
    by_metric = errors(rows, "policy", "metric")
    drawn = largest(rows)
    return Section(
        "forecast",
        TITLE,
        finding(by_metric),
        tables=(
            _error_table(by_metric, "Error by policy and metric"),
            _error_table(errors(main_metric(rows), "policy", "service", "origin", "metric"), "Error by series"),
        ),
        figures=(_figure(drawn, result),),
        notes=(
            *((NOT_SEARCHED,) if result.worth.is_empty() else ()),
            "Each window's forecast was issued before it began, from what was known by then.",
            "Band: the best forecast of this series, times the 5 % and the 95 % quantile of actual over forecast in "
            "these windows: how far off it was, in hindsight, not what was foretold.",
        ),
    )


def errors(rows: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """WAPE = Σ|forecast − actual| / Σ actual, and bias = Σ(forecast − actual) / Σ actual; null where nothing came."""
    off = pl.col("forecast") - pl.col("actual")
    total = pl.col("actual").sum()
    known = pl.when(total > 0)
    return rows.group_by(*keys, maintain_order=True).agg(
        windows=pl.len(), wape=known.then(off.abs().sum() / total), bias=known.then(off.sum() / total), size=total
    )  # fmt: skip


def main_metric(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the metric listed first of those there are: tokens in all, else requests."""
    found = (rows.filter(pl.col("metric") == metric) for metric in METRICS)
    return next((of for of in found if of.height), rows.head(0))


def largest(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the series with most tokens (or requests), of every policy that forecasts it."""
    of = main_metric(rows)
    if of.is_empty():
        return of
    size = of.group_by("service", "origin").agg(size=pl.col("actual").sum())
    top = size.sort(["size", "service", "origin"], descending=[True, False, False])
    service, origin = top.select(pl.col("service").cast(pl.String), pl.col("origin").cast(pl.String)).row(0)
    return of.filter(pl.col("service").cast(pl.String) == service, pl.col("origin").cast(pl.String) == origin)


def finding(by_metric: pl.DataFrame) -> str:
    """The best and the worst forecaster on the metric listed first."""
    for metric, name in METRICS.items():
        known = by_metric.filter(pl.col("metric") == metric, pl.col("wape").is_not_null()).sort(
            "wape", maintain_order=True
        )
        if known.height:
            first, last = known.row(0, named=True), known.row(-1, named=True)
            start = f"{text(first['policy'])} was off by {share(first['wape'])} of {name} (WAPE, window by window)"
            return f"{start}." if known.height == 1 else f"{start}, {text(last['policy'])} by {share(last['wape'])}."
    return "Nothing arrived in the forecast windows, so the forecasts have no relative error."


def _error_table(rows: pl.DataFrame, caption: str) -> Table:
    rows = rows.with_columns(pl.col("metric").replace(METRICS))
    labels = {"policy": "Policy", "service": "Service", "origin": "Origin", "metric": "Metric"}
    columns = [Column(name, label) for name, label in labels.items()]
    columns += [
        Column("windows", "Windows", "count"),
        Column("wape", "WAPE", "share"),
        Column("bias", "Bias", "change"),
    ]
    return table(caption, rows, columns, "forecasts.parquet")


def band(rows: pl.DataFrame) -> tuple[str | None, tuple[float, float]]:
    """Of one series' forecasts the policy least off, and what of its forecast 90 % of the windows lie within.

    None where there are too few windows to say.
    """
    known = rows.filter(pl.col("forecast") > 0)
    ranked = errors(known, "policy").filter(pl.col("windows") >= FEW, pl.col("wape").is_not_null())
    if ranked.is_empty():
        return None, (1.0, 1.0)
    best = str(ranked.sort("wape", maintain_order=True)["policy"][0])
    of = known.filter(pl.col("policy") == best).select(share=pl.col("actual") / pl.col("forecast"))["share"]
    return best, (float(of.quantile(0.05, "linear") or 0.0), float(of.quantile(0.95, "linear") or 0.0))


def _area(
    whose: str | None, edges: list[pl.Series], x: dict[str, Any], styles: dict[str, Style]
) -> list[dict[str, Any]]:
    """The band between two edges, below all lines."""
    if whose is None:
        return []
    low, high = edges
    bare: dict[str, Any] = {"line": {"width": 0}, "hoverinfo": "skip"}
    filled = {**bare, "fill": "tonexty", "fillcolor": "@area"}
    return [
        figures.line("", x, low, styles[whose], **bare, showlegend=False),
        figures.line(f"{whose}, 90 % of windows", x, high, styles[whose], **filled),
    ]


def _figure(rows: pl.DataFrame, result: Evaluation) -> Figure:
    clock = figures.Clock(result.trace.epoch, result.settings["end_s"])
    window = float(result.settings["window_s"])
    start, end = float(rows["start_s"].min()), float(rows["start_s"].max()) + window  # type: ignore[arg-type]
    names = rows["policy"].unique(maintain_order=True).to_list()
    step = figures.buckets(end - start, window, 1 + len(names))
    x = clock.regular(start, step)
    grids = {
        n: figures.peaks(rows.filter(pl.col("policy") == n), step, start, end, ("actual", "forecast")) for n in names
    }
    actual = grids[names[0]]["actual"]
    data: list[dict[str, Any]] = [figures.line("actual", x, actual, Style("@ink", "solid", "circle"))]
    styles = policy_styles(result.scores)
    data += [
        figures.line(
            f"{name}, forecast",
            x,
            grids[name]["forecast"],
            Style(styles[name].color, DASHES[i % len(DASHES)], "circle"),
        )
        for i, name in enumerate(names)
    ]
    whose, ends = band(rows)
    edges = [grids[whose]["forecast"] * end for end in ends] if whose else []
    data = _area(whose, edges, x, styles) + data
    first = rows.row(0, named=True)
    what = f"{METRICS[first['metric']]} per window, {text(first['service'])} from {text(first['origin'])}"
    times = pl.Series("time", [clock.write(start + i * step) for i in range(actual.len())], dtype=pl.String)
    shown = pl.DataFrame([times, actual, *(grids[n]["forecast"].alias(f"p{i}") for i, n in enumerate(names)),
                          *(edge.alias(name) for edge, name in zip(edges, ("low", "high"), strict=False))])  # fmt: skip
    columns = [
        Column("time", "Window from"),
        Column("actual", "Actual", "number"),
        *(Column(f"p{i}", text(n), "number") for i, n in enumerate(names)),
        *((Column("low", "Band from", "number"), Column("high", "to", "number")) if edges else ()),
    ]
    layout = figures.layout(clock.axis(), figures.axis(METRICS[first["metric"]], rangemode="tozero"))
    layout["legend"] = layout["legend"] | {"traceorder": "normal"}  # a filled band would turn it round
    spec = {"data": data, "layout": layout}
    return Figure(spec, f"The largest series: {what}.", table(what, shown, columns, "forecasts.parquet"))

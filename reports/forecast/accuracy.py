"""How far off each model was, by horizon and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import percent, span, text
from ..palette import series as styles
from ..section import Column, Figure, Section, table
from .words import FLOOR, MAIN, METRICS, SCORES, axis_unit, ordered, said, unbrief

if TYPE_CHECKING:
    from lmaas.analysis.forecasting.study import Forecasted

NAMES = (Column("horizon", "Horizon", brief=True), Column("metric", "Metric"), Column("model", "Model", brief=True))


def section(result: Forecasted) -> Section:
    """The main metric in the terminal, all of them in the report."""
    scores = ordered(result.scores)
    main = said(scores.filter(pl.col("metric") == MAIN))
    return Section(
        "accuracy",
        "How far off forecasts are",
        finding(result),
        tables=(
            table(
                "Error of total tokens, all services and origins, window by window",
                main,
                (*NAMES, *SCORES),
                "scores.parquet",
            ),
            table("Error by metric", said(scores), unbrief(*NAMES, *SCORES), "scores.parquet"),
        ),
        figures=tuple(_figure(result)),
        notes=(
            "Every forecast was issued so long before its window's end, from what was known then; no figure is of data "
            "a model was fitted to. The first model asked for headlines; that another was better here was known only "
            "afterwards.",
            *(text(remark) for remark in result.remarks),
        ),
        brief=True,
    )


def finding(result: Forecasted) -> str:
    """The first model asked for at the shortest and longest horizon, beside the last value and the best afterwards."""
    scores = result.scores.filter(pl.col("metric") == MAIN, pl.col("wape").is_not_null())
    if scores.is_empty():
        return "Nothing arrived in the forecast windows, so the forecasts have no relative error."
    horizons = scores["horizon_s"].unique().sort()
    ends = dict.fromkeys((horizons[0], horizons[-1]))
    said = "; ".join(_said(result.settings["models"][0], scores.filter(pl.col("horizon_s") == h), h) for h in ends)
    return f"{said[:1].upper()}{said[1:]}."


def _said(model: str, of: pl.DataFrame, horizon_s: float) -> str:
    error = dict(of.sort("wape", maintain_order=True).select("model", "wape").iter_rows())
    best = next(iter(error))
    beside = [] if model == FLOOR else [f"the last value by {percent(error[FLOOR])}"]
    if best not in (model, FLOOR):
        beside.append(f"best in hindsight {text(best)}, {percent(error[best])}")
    more = f" ({'; '.join(beside)})" if beside else ""
    return f"{span(horizon_s)} ahead {text(model)} is off by {percent(error[model])} of total tokens{more}"


def _figure(result: Forecasted) -> list[Figure]:
    """WAPE over horizons, a line a model."""
    rows = result.scores.filter(pl.col("metric") == MAIN).sort("horizon_s")
    if rows["horizon_s"].n_unique() < 2 or rows["wape"].null_count() == rows.height:
        return []
    look = styles(rows["model"].unique(maintain_order=True))
    unit, length_s = axis_unit(rows["horizon_s"].min())  # type: ignore[arg-type]
    data = [
        figures.marks(name, (of["horizon_s"] / length_s).to_list(), figures.rounded(100 * of["wape"]), style)
        | {"mode": "lines+markers", "line": {"color": style.color, "dash": style.dash}}
        for name, style in look.items()
        for of in [rows.filter(pl.col("model") == name)]
    ]
    layout = figures.layout(
        figures.axis(f"horizon, {unit}", type="log"), figures.axis("WAPE, %", rangemode="tozero")
    ) | {"hovermode": "closest"}
    shown = table("WAPE by horizon", said(rows), (*NAMES, SCORES[0]), "scores.parquet")
    return [Figure({"data": data, "layout": layout}, f"Error of {METRICS[MAIN]} by horizon.", shown)]

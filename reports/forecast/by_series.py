"""Error by series, which model the weighing ones trust, and what was said of series that little is known of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import percent, text
from ..section import Column, Section, table
from .words import MAIN, METRICS, SCORES, said, unbrief

SERIES = ("service", "origin", "tier", "type", "metric")

if TYPE_CHECKING:
    from lmaas.analysis.forecasting.study import Forecasted

PLACE = (Column("service", "Service"), Column("origin", "Origin"))


def section(result: Forecasted) -> Section:
    """At the shortest horizon; the files have all."""
    first = result.settings["horizons_s"][0]
    rows = said(result.series.filter(pl.col("horizon_s") == first).sort(*SERIES, "wape"))
    weights = (
        result.weights.filter(pl.col("horizon_s") == first, pl.col("weight") >= 0.005)
        .sort("model", "service", "origin", "metric", "weight", descending=[False] * 4 + [True])
        .with_columns(pl.col("metric").replace(METRICS))
    )
    place = (
        *PLACE,
        Column("tier", "Tier"),
        Column("type", "Type"),
        Column("metric", "Metric"),
        Column("model", "Model"),
    )
    heavy = (
        Column("model", "Model"), *PLACE, Column("metric", "Metric"), Column("member", "trusts"),
        Column("weight", "Weight", "share"),
    )  # fmt: skip
    told = (Column("model", "Model"), *PLACE, Column("metric", "Metric"), Column("note", "Note"))
    tables = [table("Error by series, at the shortest horizon", rows, unbrief(*place, *SCORES), "series.parquet")]
    if weights.height:
        tables.append(table("Which models are weighed how, at the last issue", weights, heavy, "weights.parquet"))
    if result.notes.height:
        tables.append(table("What could not be known", result.notes, told, "notes.parquet"))
    about = tuple(brief_notes(result))
    return Section("series", "By series", finding(result), tables=tuple(tables), notes=about, brief=bool(about))


def finding(result: Forecasted) -> str:
    """The series that is hardest and the one that is easiest to foretell."""
    model = result.settings["models"][0]
    of = result.series.filter(
        pl.col("model") == model, pl.col("metric") == MAIN, pl.col("tier").is_null(), pl.col("type").is_null(),
        pl.col("wape").is_not_null(), pl.col("horizon_s") == result.settings["horizons_s"][0],
    ).sort("wape", "service", "origin")  # fmt: skip
    if of.is_empty():
        return "No series had demand."
    low, high = of.row(0, named=True), of.row(-1, named=True)
    best = f"{text(low['service'])} from {text(low['origin'])} is forecast within {percent(low['wape'])}"
    if of.height == 1:
        return f"{best}."
    return f"{best}, {text(high['service'])} from {text(high['origin'])} within {percent(high['wape'])} of its tokens."


def brief_notes(result: Forecasted) -> list[str]:
    """Each note once, with how many series it is said of."""
    mine = result.notes.filter(pl.col("model") == result.settings["models"][0])
    few = mine.group_by("note", maintain_order=True).agg(n=pl.struct("service", "origin").n_unique())
    return [f"{n} series: {text(note)}" for note, n in few.iter_rows()]

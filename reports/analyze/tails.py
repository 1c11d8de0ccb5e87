"""How prompt and answer lengths end: power law or lognormal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import number
from ..palette import Style
from ..section import Column, Figure, Section, table
from .tables import GROUPS, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

METRICS = {"input_tokens": ("ISL", "prompts", "@blue"), "output_tokens": ("OSL", "answers", "@orange")}
COLUMNS = (
    Column("name", "Of"),
    Column("by", "Grouped by"),
    Column("metric", "Length"),
    Column("n", "n", "count"),
    Column("verdict", "Ends as"),
    Column("threshold", "Tail from, tokens", "count"),
    Column("tail_n", "in it", "count"),
    Column("exponent", "Exponent", "number"),
    Column("exponent_se", "± s.e.", "number"),
    Column("power_ks", "Power law off by", "number"),
    Column("lognormal_sigma", "Lognormal sigma", "number"),
    Column("lognormal_ks", "Lognormal off by", "number"),
    Column("p_value", "p", "number"),
    Column("at_limit", "At the limit", "share"),
)
CURVE = (
    Column("metric", "Length"),
    Column("tokens", "Tokens", "count"),
    Column("share", "At least so long", "share"),
    Column("power", "Power law", "share"),
    Column("lognormal", "Lognormal", "share"),
)
FITS = {"power law": ("power", "dash"), "lognormal": ("lognormal", "dot")}  # drawn: the column, and how
VERDICTS = {
    "power law": "{what} end in a power law (exponent {exponent}, from {threshold} tokens)",
    "lognormal": "{what} fall off as a lognormal does",
    "either": "{what} fall off as a power law or a lognormal; the trace cannot tell",
    "neither": "{what} end in neither a power law nor a lognormal",
}


def section(result: Analysis) -> Section | None:
    """Absent below 1,000 lengths, or where they span less than a factor of two above their median."""
    found = rows(result, "tails")
    if found.is_empty():
        return None
    labels = {m: label for m, (label, _, _) in METRICS.items()}
    labelled = found.with_columns(pl.col("by").replace(GROUPS), pl.col("metric").replace(labels))
    curve = rows(result, "tail_curve", "all")
    note = (
        "A power law has no typical longest length: means and maxima of one trace say little of the next. The tail "
        "begins where a power law fits best; a lognormal that is likelier, or that foretells the tail from the median "
        "on, wins. 'Off by' is the largest difference of shares.",
    )
    shown = curve.with_columns(pl.col("metric").replace(labels))
    figure = (_figure(curve, found, shown),) if curve.height else ()
    return Section(
        "tails",
        "Longest requests",
        finding(found),
        tables=(table("Tails of the lengths", labelled, COLUMNS, "tails.parquet"),),
        figures=figure,
        notes=note,
    )


def finding(found: pl.DataFrame) -> str:
    """How prompts and answers end, over all requests."""
    parts = []
    for metric, (_, what, _) in METRICS.items():
        for r in found.filter(by="all", metric=metric).iter_rows(named=True):
            facts = {"what": what, "exponent": number(r["exponent"], 3), "threshold": number(r["threshold"], 3)}
            parts.append(VERDICTS[r["verdict"]].format(**facts))
    if not parts:
        return "Only the lengths of single services are long enough to have a tail."
    verdicts = set(found.filter(by="all")["verdict"])
    if len(parts) == 2 and len(verdicts) == 1:
        both = {
            "lognormal": "Prompts and answers both fall off as a lognormal does.",
            "either": "Prompts and answers fall off as power laws or lognormals; the trace cannot tell.",
            "neither": "Neither prompts nor answers end in a power law or a lognormal: several limits, or a mix.",
        }
        said = both.get(verdicts.pop())
        if said:
            return said
    said = "; ".join(parts)
    return said[0].upper() + said[1:] + "."


def _figure(curve: pl.DataFrame, found: pl.DataFrame, shown: pl.DataFrame) -> Figure:
    data, fits = [], ""
    for metric, (label, _, color) in METRICS.items():
        seen = curve.filter(metric=metric)
        if seen.is_empty():
            continue
        verdict = found.filter(by="all", metric=metric)["verdict"].item()
        dots = figures.marks(label, seen["tokens"], figures.rounded(seen["share"]), Style(color, "solid", "circle"))
        dots["marker"] |= {"size": 5}
        data.append(dots)
        if verdict in FITS:
            law, dash = FITS[verdict]
            fitted = seen.filter(pl.col(law).is_not_null())
            fits = "; lines: the tails that fit"
            x = {"x": figures.rounded(fitted["tokens"])}
            data.append(figures.line(f"{label}, {verdict}", x, fitted[law], Style("@ink", dash, "x")))
    x = figures.axis("tokens", type="log", tickformat="~s", dtick=1)
    y = figures.axis("share of requests at least so long", type="log", tickformat="~%", dtick=1, exponentformat="none")
    caption = f"Share of answered requests of at least so many tokens, both axes logarithmic{fits}."
    layout = figures.layout(x, y, hovermode="closest", showlegend=True)
    return Figure(
        {"data": data, "layout": layout}, caption, table("Lengths and fits", shown, CURVE, "tail_curve.parquet"), 380
    )

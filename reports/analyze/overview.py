"""Overview: how much traffic there is, how uneven, and what stands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ..format import number, share, span, text
from ..section import Section, Tile
from .tables import rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis


SHOWN = 10  # findings: the most important


def section(result: Analysis) -> Section:
    """The first finding of the analysis is its volume, and the headline; the others support it."""
    found = rows(result, "overview")
    facts = found.row(0, named=True) if found.height else {}
    headline, *others = map(text, result.findings or ("The trace holds no request.",))
    more = len(others) + 1 - SHOWN
    if more > 0:
        others[SHOWN - 1 :] = [f"{more} more in the sections below and in metrics.json."]
    shown = tiles(result, facts, busiest(rows(result, "scales")))
    return Section("overview", "Overview", headline, tiles=shown, notes=tuple(others), brief=True)


def busiest(scales: pl.DataFrame) -> dict[str, Any] | None:
    """The scale a reader plans by: the coarsest of at most 10 minutes."""
    fit = scales.filter(pl.col("window_s") <= 600) if scales.height else scales
    return fit.sort("window_s").row(-1, named=True) if fit.height else None


def tiles(result: Analysis, facts: dict[str, Any], peak: dict[str, Any] | None) -> tuple[Tile, ...]:
    """Rate, prompt length, answer length, reuse: the four numbers that size a fleet."""
    found = []
    if facts.get("mean_rps") is not None:
        most = f"peak {number(peak['peak_rps'], 3)}, over {span(peak['window_s'])}" if peak else ""
        found.append(Tile("Requests per second", number(facts["mean_rps"], 3), most))
    for metric, name in (
        ("input_tokens", "ISL (input tokens), median"),
        ("output_tokens", "OSL (output tokens), median"),
    ):
        of = rows(result, "lengths", "all")
        of = of.filter(pl.col("metric") == metric) if of.height else of
        if of.height and of["p50"][0] is not None:
            found.append(Tile(name, number(of["p50"][0]), f"p95 {number(of['p95'][0])}"))
    reuse = rows(result, "prefix", "all")
    if reuse.height and reuse["reuse"][0] is not None:
        found.append(Tile("Prefix reuse, at most", share(reuse["reuse"][0]), "unlimited cache"))
    elif facts.get("services", 0) > 1:
        found.append(Tile("Services", number(facts["services"]), f"{number(facts['regions'] or 1)} regions"))
    elif peak and peak["peak_to_mean"] is not None:
        found.append(Tile("Peak / mean", number(peak["peak_to_mean"], 3), f"over {span(peak['window_s'])}"))
    return tuple(found)

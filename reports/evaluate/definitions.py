"""What every number means, with its formula: the field uses several definitions for the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..section import Column, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

LATENCIES = {
    "TTFT": "ttft = network + hold + queue + prefill + overhead: from the request's origin to its first output token",
    "TPOT": "tpot = (e2e - ttft)/(output_tokens - 1), per request; none for a single token",
    "E2E": "e2e: from the request's origin to its last output token",
    "Percentiles": "exact, over the n requests that have the latency; curves are drawn from histogram buckets",
}
SCORES = {
    "SLO attainment": "requests that complete and meet every threshold of their tier / requests that arrived",
    "Goodput": "requests (or output tokens) per second of those that attain, over the evaluated part",
    "GPU-hours provisioned": "∫ (starting + active + draining) replicas × GPUs per replica dt, to the last completion",
    "GPU-hours active": "∫ active replicas × GPUs per replica dt",
    "GPU-hours in the tail": "the part of provisioned after the evaluated part ended, while the last requests finish",
    "Cost": "GPU-hours provisioned × the price per GPU-hour of the profile or fleet; per month: scaled to 730 h",
    "Utilisation": "time with work / active time, over replicas",
    "Worst hour": "lowest SLO attainment of any clock hour with arrivals",
    "Scale actions": "replicas started or drained; wasted start-up: hours of starts that were cut short",
    "Needed": "λ/μ: arrivals of a window over the highest rate one replica sustains while its tiers attain the target",
    "Regret": "GPU-hours provisioned / those of the oracle - 1",
    "WAPE": "Σ|forecast - actual| / Σ actual, over windows",
}


def section(result: Evaluation) -> Section:
    """The same for every evaluation."""
    return Section(
        "definitions",
        "Definitions",
        "Every number is defined here; TPOT and goodput differ between tools, so compare formulas first.",
        tables=(definitions(LATENCIES | SCORES),),
    )


def definitions(of: dict[str, str]) -> Table:
    """A two-column table of terms."""
    rows = pl.DataFrame({"term": list(of), "definition": list(of.values())})
    return table("Definitions", rows, (Column("term", "Term"), Column("definition", "Definition")))

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
    "SLO attainment": "requests that complete and meet every threshold of their tier / requests that arrived or, in "
    "closed sessions, were never sent because the turn before them did not complete",
    "Goodput": "requests (or output tokens) per second of those that attain, over the evaluated part",
    "GPU-hours provisioned": "∫ (starting + active + draining) replicas × GPUs per replica dt, to the last completion",
    "GPU-hours active": "∫ active replicas × GPUs per replica dt",
    "GPU-hours in the tail": "the part of provisioned after the evaluated part ended, while the last requests finish",
    "Cost": "GPU-hours provisioned × price per GPU-hour; per month: without the tail, scaled to 730 h",
    "Utilisation": "time with an iteration running / time active or draining, over all replicas",
    "Prompt cached": "prompt tokens found in replicas' prefix caches / prompt tokens of completed requests, once for "
    "each time they were sent, restarted or admitted again",
    "Worst hour": "lowest SLO attainment of any hour since the first evaluated arrival, of at least 30 requests",
    "Starts denied": "replicas that were wanted, at the start or later, and found no GPUs or their region down; asked "
    "for again, counted again",
    "Scale actions": "replicas started or drained; start-up GPU-hours: spent starting, serving nothing",
    "Needed": "ceil(λ/μ): a window's arrival rate over the highest rate at which one replica attains the target",
    "Static at its GPU-hours": "whole replicas that never change, in each pool in proportion to what the policy "
    "provisioned there until the trace's end, same router: the largest fleet within them (≤) and, where that is over "
    "2 % short, the next larger one (≥); foresight",
    "90 % interval": "of a difference, by a paired block bootstrap: up to 50 blocks of time, the same for both "
    "policies, drawn again 1,000 times; no difference: it holds 0",
    "Regret": "GPU-hours provisioned / those of the oracle - 1",
    "GPU-hours at the target": "with --depth full: those of the least headroom that attains, between the two replays "
    "around the target in proportion to attainment; the headroom was searched on the evaluated part (foresight)",
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

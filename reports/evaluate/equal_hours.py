"""What a static fleet at the same GPU-hours would have done: a sentence a policy, plainest where it does better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import duration, number, share, text
from .choice import Row

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation


def lines(result: Evaluation) -> list[str]:
    """One sentence a policy that has such a fleet beside it, and what the comparison is."""
    if result.equal.is_empty():
        return []
    found = []
    for (name,), fleets in result.equal.group_by("policy", maintain_order=True):
        beside = "; ".join(f"static, {one['bound']} these: {_scored(one)}" for one in fleets.iter_rows(named=True))
        found.append(f"{text(name)} {_scored(_own(result, str(name)))}. {beside}.")
    found.append(
        "Static at a policy's GPU-hours (foresight: they are known only afterwards): counts that never change, in each "
        "pool in proportion to what the policy provisioned there, same router; of whole replicas, so that where the "
        "fleet within the GPU-hours is over 2 % short of them the next larger one stands beside it."
    )
    return found


def beaten(result: Evaluation) -> list[str]:
    """A sentence for every policy that a static fleet of no more GPU-hours beats."""
    return [
        f"A static fleet of no more GPU-hours does better than {text(own['policy'])}: {_scored(one)}; "
        f"{text(own['policy'])} {_scored(own)}."
        for one in result.equal.iter_rows(named=True)
        if beats(one, own := _own(result, one["policy"]))
    ]


def beats(one: Row, own: Row) -> bool:
    """At no more GPU-hours more is attained, or as much at a lower TTFT p99."""
    if one["gpu_hours_provisioned"] > own["gpu_hours_provisioned"] or own["slo_attainment"] is None:
        return False
    attained = one["slo_attainment"] - own["slo_attainment"]
    faster = None not in (one["ttft_p99_s"], own["ttft_p99_s"]) and one["ttft_p99_s"] < own["ttft_p99_s"]
    return bool(attained > 0 or (attained == 0 and faster))


def _own(result: Evaluation, policy: str) -> Row:
    return result.scores.filter(pl.col("policy") == policy).row(0, named=True)


def _scored(row: Row) -> str:
    late = "" if row["ttft_p99_s"] is None else f", TTFT p99 {duration(row['ttft_p99_s'])}"
    return f"{share(row['slo_attainment'])} attained{late}, {number(row['gpu_hours_provisioned'])} GPU-hours"

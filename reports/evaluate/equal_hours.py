"""What a static fleet at the same GPU-hours would have done: a sentence a policy, plainest where it does better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.policies.choice import Row

from ..format import duration, listed, number, share, text

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

NOTE = (
    "↳ static: foresight, since a policy's GPU-hours are known only afterwards. Counts that never change, in each pool "
    "in proportion to what the policy provisioned there, same router; of whole replicas, so that where the fleet "
    "within its GPU-hours (≤) is over 2 % short of them the next larger one (≥) stands beside it."
)
SAME = 0.005  # of the GPU-hours: what the tails make


def beaten(result: Evaluation, same: bool = False) -> list[str]:
    """A sentence for every policy that a static fleet of no more GPU-hours beats, or equals as far as can be told.

    Policies whose scores are those of their fleet share one; none where every policy ran the same fleet (same).
    """
    if result.equal.is_empty():
        return []
    found, equal = [], dict[str, list[str]]()
    for one in result.equal.filter(pl.col("bound") == "at most").iter_rows(named=True):
        own = _own(result, one["policy"])
        word = _judged(result, one)
        does = {"worse": "better than", "no difference": "as well as"}.get(word or "")
        if word is None and beats(one, own):
            does = "better than"
        if not does or one["gpu_hours_provisioned"] > own["gpu_hours_provisioned"] * (1 + SAME):
            continue
        if does == "as well as" and _scored(one) == _scored(own):
            equal.setdefault(_scored(one), []).append(own["policy"])
        else:
            found.append(
                f"A static fleet of no more GPU-hours does {does} {text(own['policy'])}: {_scored(one)}; "
                f"{text(own['policy'])} {_scored(own)}."
            )
    if same:
        return found
    told = "A static fleet of no more GPU-hours does exactly as well as"
    return [*found, *(f"{told} {listed(names)}: {scored}." for scored, names in equal.items())]


def _judged(result: Evaluation, one: Row) -> str | None:
    """The policy against this fleet, all in all; None where chance cannot be judged."""
    if result.differences.is_empty():
        return None
    pair = result.differences.filter(
        pl.col("policy") == one["policy"],
        pl.col("relation") == "same GPU-hours",
        pl.col("against").str.contains(one["bound"], literal=True),
    )
    words = pair.filter(pl.col("metric") == "overall")["verdict"]
    return words[0] if words.len() else None


def beats(one: Row, own: Row) -> bool:
    """More is attained, or as much at a lower TTFT p99."""
    if own["slo_attainment"] is None:
        return False
    attained = one["slo_attainment"] - own["slo_attainment"]
    faster = None not in (one["ttft_p99_s"], own["ttft_p99_s"]) and one["ttft_p99_s"] < own["ttft_p99_s"]
    return bool(attained > 0 or (attained == 0 and faster))


def _own(result: Evaluation, policy: str) -> Row:
    return result.scores.filter(pl.col("policy") == policy).row(0, named=True)


def _scored(row: Row) -> str:
    late = "" if row["ttft_p99_s"] is None else f", TTFT p99 {duration(row['ttft_p99_s'])}"
    return f"{share(row['slo_attainment'])} attained{late}, {number(row['gpu_hours_provisioned'])} GPU-hours"

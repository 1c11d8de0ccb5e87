"""Ranked alternatives: who to take, who else, at what cost and risk, and what holds each of them back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from lmaas.policies.choice import Choice, Row, choose, decided_by, simplest_first

from ..format import listed, percent, share, text
from ..section import Column, Section, table
from .capacity import named
from .policies import with_marks

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

# misses over those the target allows: the grade is how many of these steps are passed
MISSED = (0.5, 0.8, 1.0, 2.0)
WORST_HOUR = (1.0, 2.0, 5.0, 10.0)
LIMITS = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}  # as a reader knows them
COLUMNS = (
    Column("policy", "Policy"),
    Column("rank", "Rank", "count"),
    Column("gpu_hours_provisioned", "GPU-h", "number"),
    Column("usd_per_month", "$/month", "usd"),
    Column("slo_attainment", "Attained", "share"),
    Column("attains", "Met", "mark"),
    Column("risk", "Risk, 0–4", "count"),
    Column("risk_of", "Risk is of"),
    Column("binding", "Binding constraint"),
)


def section(result: Evaluation) -> Section | None:
    """A row a policy without foresight: those that attain by cost, then the others by attainment."""
    attain = result.settings["attain"]
    choice = choose(result.scores, attain)
    rows = ranked(result.scores, choice, attain)
    if rows.is_empty():
        return None
    held = {name: binding(name, result.worst, result.timeline, result.misses) for name in rows["policy"]}
    rows = with_marks(rows, choice, attain).with_columns(
        binding=pl.col("policy").replace_strict(held, return_dtype=pl.String)
    )
    return Section(
        "alternatives",
        "Ranked alternatives",
        finding(rows, choice),
        tables=(table("Policies that could be taken, best first", rows, COLUMNS, "scores.parquet"),),
        notes=(
            f"Order: those that attain {share(attain)} by cost, then the others by attainment. What knows the future "
            "is no alternative.",
            "Risk: the worse of two grades. Missed requests: over half of those the target allows 1, over 80 % 2, over "
            "all of them 3, over twice as many 4; at least 2 where the 90 % interval of attainment reaches below the "
            "target. Worst hour: misses over 1, 2, 5, 10 times the share the target allows. It is the risk without "
            "failures: what the loss of a replica does stands under N+1.",
            "Binding constraint: the pool with most of the misses, the tier and limit that most of them are beyond, "
            "and the commonest cause in the policy's worst windows.",
        ),
    )


def ranked(scores: pl.DataFrame, choice: Choice, attain: float) -> pl.DataFrame:
    """The `scores` of policies without foresight, best first, with rank, risk (0 to 4) and risk_of."""
    fair = scores.filter(~pl.col("foresight") & pl.col("slo_attainment").is_not_null())
    rows = simplest_first(fair).to_dicts()
    rows.sort(key=lambda row: _order(row, choice.cost, attain))
    alike = [decided_by(row) for row in rows]  # these share the rank of the first of them
    graded = [
        {"policy": row["policy"], "rank": alike.index(decided_by(row)) + 1, **_graded(row, attain)} for row in rows
    ]
    schema = {"policy": pl.String, "rank": pl.Int64, "risk": pl.Int64, "risk_of": pl.String}
    return pl.DataFrame(graded, schema=schema).join(scores, on="policy", how="inner", maintain_order="left")


def _order(row: Row, cost: str, attain: float) -> tuple[bool, float, float]:
    missed, (hours, usd, attained) = row["slo_attainment"] < attain, decided_by(row)
    paid = hours if cost == "gpu_hours_provisioned" else usd
    assert paid is not None and attained is not None
    return (True, -attained, paid) if missed else (False, paid, -attained)


def _graded(row: Row, attain: float) -> Row:
    risk, of = max(risks(row, attain), key=lambda one: one[0])
    return {"risk": risk, "risk_of": of if risk else None}


def risks(row: Row, attain: float) -> list[tuple[int, str]]:
    """(grade, of what) of each kind of risk that is known."""
    missed = _steps(row["slo_attainment"], attain, MISSED)
    low = row.get("slo_attainment_low")
    if low is not None and low < attain:
        missed = max(missed, 2)
    worst = row["worst_hour_attainment"]
    hour = [] if worst is None else [(_steps(worst, attain, WORST_HOUR), "the worst hour")]
    return [(missed, "missed requests"), *hour]


def _steps(attained: float, attain: float, steps: tuple[float, ...]) -> int:
    """How many steps the misses pass, as multiples of what the target allows; a target of all allows none."""
    misses, allowed = 1 - attained, 1 - attain
    over = misses / allowed if allowed > 1e-12 else math.inf if misses > 1e-12 else 0.0
    return sum(over > step * (1 + 1e-9) for step in steps)  # 1 - 0.99 is not 0.01


def binding(policy: str, worst: pl.DataFrame, timeline: pl.DataFrame, misses: pl.DataFrame) -> str | None:
    """'chat/us: interactive-fast TTFT; demand spike': where and what was missed most, and why; null: nothing was."""
    own = named(timeline.filter(pl.col("policy") == policy))
    by_pool = own.group_by("pool").agg(missed=(pl.col("arrived") - pl.col("attained")).sum())
    most = by_pool.filter(pl.col("missed") > 0).sort("missed", "pool", descending=[True, False])
    if most.is_empty():
        return None
    pool = str(most["pool"][0])
    limit = _most(misses, policy, pool, "tier", "limit")
    cause = _most(worst, policy, pool, "cause")
    what = f"{limit[0]} {LIMITS.get(limit[1], limit[1])}" if limit else ""
    said = "; ".join(part for part in (what, *cause) if part)
    return pool.removesuffix("/shared") + (f": {said}" if said else "")


def _most(rows: pl.DataFrame, policy: str, pool: str, *columns: str) -> tuple[str, ...]:
    """The values of the columns with most misses in a policy's pool; () where there are no rows."""
    mine = named(rows).filter(policy=policy, pool=pool) if rows.width else rows
    if mine.is_empty():
        return ()
    sums = mine.group_by(*columns).agg(pl.col("missed").sum())
    best = sums.sort("missed", *columns, descending=[True, *[False] * len(columns)]).row(0, named=True)
    return tuple(str(best[name]) for name in columns)


def finding(rows: pl.DataFrame, choice: Choice) -> str:
    """Who ranks first, who next, and how far apart they are."""
    first = rows.row(0, named=True)
    top, others = rows.filter(pl.col("rank") == 1)["policy"].to_list(), rows.filter(pl.col("rank") > 1)
    names = listed(top)
    if rows.height == 1:
        return f"{names} is the only alternative, at risk {first['risk']} of 4."
    start = f"{names} {'rank first alike' if top[1:] else 'ranks first'}, at risk {first['risk']} of 4"
    if others.is_empty():
        return f"{start}."
    second = others.row(0, named=True)
    apart = f"{text(second['policy'])} is next, at risk {second['risk']}"
    if first[choice.cost]:
        more = second[choice.cost] / first[choice.cost] - 1
        apart += f", for {percent(abs(more))} {'more' if more >= 0 else 'less'}"
    return f"{start}; {apart}."

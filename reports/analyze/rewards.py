"""What this trace rewards: how much each family of policies can gain here at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.analysis.workload.rewards import gains

from ..format import number, share
from ..section import Column, Section, table
from .tables import rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

COLUMNS = (
    Column("family", "Policies for", brief=True),
    Column("verdict", "Reward", brief=True),
    Column("number", "Number", brief=True),
    Column("says", "In a sentence", brief=True),
)
NOTE = (
    "Bounds from the trace alone, none replayed: what a policy gets of them, lmaas evaluate says. What is some or "
    "much is our choice: rewards.parquet holds the limits, what each number is and the table it is from."
)


def section(result: Analysis) -> Section | None:
    """Absent where the trace tells nothing."""
    found = rows(result, "rewards")
    if found.is_empty() or (found["verdict"] == "unknown").all():
        return None
    cv = pl.col("unit").str.starts_with("CV")
    numbers = [
        "–" if r["value"] is None else number(r["value"], 2) if r["cv"] else share(r["value"])
        for r in found.with_columns(cv=cv).iter_rows(named=True)
    ]
    shown = found.with_columns(number=pl.Series(numbers, dtype=pl.String))
    return Section(
        "rewards",
        "What this trace rewards",
        gains(found),
        tables=(table("At most, by family of policies", shown, COLUMNS, "rewards.parquet"),),
        notes=(NOTE,),
        brief=True,
    )

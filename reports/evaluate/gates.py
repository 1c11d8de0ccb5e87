"""Gates: every condition the run had to meet, with its value, its threshold and the margin between them.

Percentile tests among the SLOs stand beside the gates; only gates decide the exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COLUMNS = (
    Column("gate", "Gate", brief=True),
    Column("kind", "Kind", brief=True),
    Column("policy", "Policy", brief=True),
    Column("value", "Value", "number", brief=True),
    Column("threshold", "Threshold", "number", brief=True),
    Column("margin", "Margin", "change", brief=True),
    Column("passed", "Result", "verdict", brief=True),
)
NOTES = (
    "gate: decides the exit code; slo: a percentile test among the SLOs, reported only. Latencies are in seconds.",
)


def section(result: Evaluation) -> Section | None:
    """Absent where neither a gate nor a percentile test was set."""
    if result.gates.is_empty():
        return None
    rows = with_margin(result.gates)
    return Section(
        "gates", "Gates", finding(rows), tables=(table("Conditions", rows, COLUMNS),), notes=NOTES, brief=True
    )


def with_margin(gates: pl.DataFrame) -> pl.DataFrame:
    """Adds `margin`: room left relative to the threshold; its sign follows `passed`, so no operator is read again."""
    room = ((pl.col("value") - pl.col("threshold")) / pl.col("threshold")).abs()
    known = room.is_finite()
    return gates.with_columns(margin=pl.when(known).then(pl.when("passed").then(room).otherwise(-room)))


def finding(rows: pl.DataFrame) -> str:
    """All are met, or the gate that fails by most; a percentile test where no gate fails."""
    failed = rows.filter(~pl.col("passed")).sort("kind", "margin", nulls_last=True)
    if failed.is_empty():
        return "The condition is met." if rows.height == 1 else f"All {rows.height} conditions are met."
    worst = failed.row(0, named=True)
    what = f"{text(worst['gate'])} for {text(worst['policy'])}"
    return f"{failed.height} of {rows.height} conditions are not met, first of all {what}."

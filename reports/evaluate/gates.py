"""Gates: every condition the run had to meet, with its value, its threshold and the margin between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COLUMNS = (
    Column("gate", "Gate", brief=True),
    Column("policy", "Policy", brief=True),
    Column("value", "Value", "number", brief=True),
    Column("threshold", "Threshold", "number", brief=True),
    Column("margin", "Margin", "change", brief=True),
    Column("passed", "Result", "verdict", brief=True),
)


def section(result: Evaluation) -> Section | None:
    """Absent where no gate was set."""
    if result.gates.is_empty():
        return None
    rows = with_margin(result.gates)
    return Section("gates", "Gates", finding(rows), tables=(table("Gates", rows, COLUMNS),), brief=True)


def with_margin(gates: pl.DataFrame) -> pl.DataFrame:
    """Adds `margin`: room left relative to the threshold; its sign follows `passed`, so no operator is read again."""
    room = ((pl.col("value") - pl.col("threshold")) / pl.col("threshold")).abs()
    known = room.is_finite()
    return gates.with_columns(margin=pl.when(known).then(pl.when("passed").then(room).otherwise(-room)))


def finding(rows: pl.DataFrame) -> str:
    """All pass, or the one that fails by most."""
    failed = rows.filter(~pl.col("passed"))
    if failed.is_empty():
        return "The gate passes." if rows.height == 1 else f"All {rows.height} gates pass."
    worst = failed.sort("margin", nulls_last=True).row(0, named=True)
    return (
        f"{failed.height} of {rows.height} gates fail, first of all {text(worst['gate'])} for {text(worst['policy'])}."
    )

"""Gates: every condition the run had to meet, with its value, its threshold and the margin between them.

Percentile tests among the SLOs stand beside the gates; only gates decide the exit code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from ..format import cell, text
from ..section import Column, Kind, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COLUMNS = (
    Column("gate", "Gate", brief=True),
    Column("policy", "Policy", brief=True),
    Column("passed", "Result", "verdict", brief=True),
    Column("value_told", "Value", brief=True),
    Column("threshold_told", "Threshold", brief=True),
    Column("margin", "Margin", "change", brief=True),
    Column("kind", "Kind", brief=True),
)
NOTES = ("gate: decides the exit code; slo: a percentile test among the SLOs, reported only.",)
KINDS: tuple[tuple[str, Kind], ...] = (  # by how a score's name begins or ends
    (r"^(ttft|tpot|itl|e2e)", "duration_s"),
    (r"_s$", "duration_s"),
    (r"attain|_share$", "share"),
    (r"usd", "usd"),
)


def section(result: Evaluation) -> Section | None:
    """Absent where neither a gate nor a percentile test was set."""
    if result.gates.is_empty():
        return None
    rows = with_margin(result.gates)
    return Section(
        "gates", "Gates", finding(rows), tables=(table("Conditions", _told(rows), COLUMNS),), notes=NOTES, brief=True
    )


def _told(rows: pl.DataFrame) -> pl.DataFrame:
    """With value and threshold as the unit of their score has them: 1 second is no share of 1."""
    told = {
        f"{column}_told": [cell(value, _kind(gate)) for gate, value in rows.select("gate", column).iter_rows()]
        for column in ("value", "threshold")
    }
    return rows.with_columns(**{name: pl.Series(values, dtype=pl.String) for name, values in told.items()})


def _kind(gate: str) -> Kind:
    """How the score that a gate begins with is written."""
    score = re.split(r"[<>=!\s]", gate.strip(), maxsplit=1)[0]
    return next((kind for pattern, kind in KINDS if re.search(pattern, score)), "number")


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

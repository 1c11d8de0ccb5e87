"""Prefix reuse: how much of the prompts has been seen before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..format import share
from ..section import Column, Section, table
from .tables import GROUPS, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

COLUMNS = (
    Column("name", "Of"),
    Column("by", "Grouped by"),
    Column("requests", "Requests", "count"),
    Column("block_reuse", "Blocks seen before", "share"),
    Column("input_tokens", "Input tokens", "count"),
    Column("hit_tokens", "Tokens saved", "count"),
    Column("reuse", "Share saved", "share"),
)


def section(result: Analysis) -> Section | None:
    """Absent where the trace has no block hashes."""
    found = rows(result, "prefix")
    if found.is_empty():
        return None
    whole = rows(result, "prefix", "all").row(0, named=True)
    return Section(
        "reuse",
        "Prefix reuse",
        f"A prefix cache without limits would save {share(whole['reuse'] or 0.0)} of the prompt tokens.",
        tables=(
            table(
                "What a cache of unlimited size would save",
                found.with_columns(by=found["by"].replace(GROUPS)),
                COLUMNS,
            ),
        ),
        notes=("An upper bound: real caches are finite, and each replica has its own.",),
    )

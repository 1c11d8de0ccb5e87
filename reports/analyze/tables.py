"""Shared by the sections: a table of the analysis where it is there and says something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

GROUPS = {"all": "All", "service": "Service", "region": "Region", "tier": "Tier", "tenant": "Tenant"}


def rows(result: Analysis, name: str, by: str | None = None) -> pl.DataFrame:
    """The rows of a table, those of one grouping where `by` is given; empty where the table is absent."""
    table = result.tables.get(name, pl.DataFrame())
    if by is None or table.is_empty():
        return table
    return table.filter(pl.col("by") == by)


def worth_telling(table: pl.DataFrame) -> bool:
    """Whether a breakdown has more than one group to tell apart."""
    return table.height > 1


def told_apart(table: pl.DataFrame) -> pl.DataFrame:
    """Without the groupings that have one group only: its row is that of all again."""
    single = pl.col("name").n_unique().over("by") == 1
    return table.filter((pl.col("by") == "all") | ~single) if table.height else table


def precision(table: pl.DataFrame) -> str:
    """How exact the percentiles of a table are, by its column `exact`."""
    return "exact" if table["exact"].all() else "percentiles within 1 %, from histograms"

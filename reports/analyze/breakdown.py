"""Who asks: shares by service, region, tier and tenant, and the rate range of every pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import percent, text
from ..section import Column, Section, table
from .tables import GROUPS, rows, worth_telling

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

SHARES = (
    Column("name", "Name"),
    Column("members", "Groups", "count"),
    Column("requests", "Requests", "count"),
    Column("request_share", "Share of requests", "share"),
    Column("input_share", "of input tokens", "share"),
    Column("output_share", "of output tokens", "share"),
)
POOLS = (
    Column("service", "Service", brief=True),
    Column("region", "Region", brief=True),
    Column("requests", "Requests", "count", brief=True),
    Column("min_rps", "Least req/s", "number"),
    Column("mean_rps", "Mean req/s", "number", brief=True),
    Column("peak_rps", "Peak req/s", "number", brief=True),
    Column("peak_to_mean", "Peak / mean", "number", brief=True),
    Column("input_tokens", "Input tokens", "count"),
    Column("output_tokens", "Output tokens", "count"),
)


def section(result: Analysis) -> Section | None:
    """One table a dimension that has more than one group."""
    shares = {by: rows(result, "shares", by) for by in ("service", "region", "tier", "tenant")}
    told = {by: of for by, of in shares.items() if worth_telling(of)}
    pools = rows(result, "pools")
    if not told and not worth_telling(pools):
        return None
    tables = []
    if pools.height:
        tables.append(table("Services by region, as requests arrive", pools, POOLS, "pools.parquet"))
    for by, of in told.items():
        columns = (
            Column("name", GROUPS[by]),
            *(c for c in SHARES[1:] if c.name != "members" or of["members"].max() != 1),
        )
        tables.append(table(f"By {by}", of, columns, "shares.parquet"))
    return Section("breakdown", "Who asks", finding(told), tables=tuple(tables), brief=True)


def finding(told: dict[str, pl.DataFrame]) -> str:
    """The largest group of each dimension."""
    parts = []
    for by, of in told.items():
        named = of.filter(pl.col("members") == 1).sort("requests", descending=True)
        if named.height:
            parts.append(f"{by} {text(named['name'][0])} {percent(named['request_share'][0])}")
    return (
        f"Largest shares of requests: {', '.join(parts)}."
        if parts
        else "One service, region, tier and tenant each, or none named."
    )

"""N+1: the busiest hour with a replica, or a region, lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.policies.spare import told

from ..figures import Clock
from ..format import text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COLUMNS = (
    Column("what", "Lost", brief=True),
    Column("time", "Hour from", brief=True),
    Column("arrived", "Arrived", "count"),
    Column("replicas", "Active there", "number", brief=True),
    Column("attained", "Attained", "share", brief=True),
    Column("attained_lost", "With the loss", "share", brief=True),
    Column("verdict", "Holds", brief=True),
)


def section(result: Evaluation) -> Section | None:
    """What the policy the headline is about attains when it loses something; nothing where nothing was replayed."""
    if result.spare.is_empty():
        return None
    clock = Clock(result.trace.epoch)
    pool = pl.format("a replica of {}/{}/{}", "service", "region", "lane").str.strip_suffix("/shared")
    shown = result.spare.with_columns(
        what=pl.when(pl.col("lost") == "region").then(pl.format("region {}", "region")).otherwise(pool),
        time=pl.col("start_s").map_elements(clock.write, return_dtype=pl.String),
        verdict=pl.when("holds").then(pl.lit("yes")).otherwise(pl.lit("no")),
    )
    policy, said = result.spare["policy"][0], told(result.spare)
    return Section(
        "spare",
        "When something fails (N+1)",
        f"{text(policy)}: {text(said)}.",
        tables=(table(f"{text(policy)}, its busiest hours with and without a loss", shown, COLUMNS, "spare.parquet"),),
        notes=(
            "Each pool loses the replica that serves most requests, as its own busiest hour (most tokens) begins; a "
            "region is lost for the busiest hour of all. The policy answers by its rules. It holds where the hour "
            "still attains the target, or what it attained without the loss.",
        ),
    )

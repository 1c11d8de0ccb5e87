"""N+1: the busiest hour with a replica, all spot GPUs, or a region lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ..figures import Clock
from ..format import share, short, text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

SPOT = (
    "Spot: all replicas beyond those that the pool has in every window are taken back at once when they are most, "
    "without notice; scored is the hour that follows. How often that happens is not known here.",
)
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
    clock = Clock(result.trace.epoch, result.settings["end_s"])
    pool = pl.format("{}/{}/{}", "service", "region", "lane").str.strip_suffix("/shared")
    what = {
        "region": pl.format("region {}", "region"),
        "spot": pl.format("spot of {}: {}", pool, "taken"),
        "replica": pl.format("a replica of {}", pool),
    }
    shown = result.spare.with_columns(
        what=pl.coalesce(pl.when(pl.col("lost") == lost).then(said) for lost, said in what.items()),
        time=pl.col("start_s").map_elements(clock.write, return_dtype=pl.String),
        verdict=pl.when("holds").then(pl.lit("yes")).otherwise(pl.lit("no")),
    )
    policy = result.spare["policy"][0]
    return Section(
        "spare",
        "When something fails (N+1)",
        f"{text(policy)}: {text(finding(result.spare))}.",
        tables=(table(f"{text(policy)}, its busiest hours with and without a loss", shown, COLUMNS, "spare.parquet"),),
        notes=(
            "Each pool loses the replica that serves most requests, as its own busiest hour (most tokens) begins; a "
            "region is lost for the busiest hour of all. The policy answers by its rules. It holds where the hour "
            "still attains the target, or what it attained without the loss.",
            *SPOT[: result.spare["lost"].is_in(["spot"]).any()],
        ),
    )


def finding(table: pl.DataFrame) -> str:
    """How often it holds, by what is lost."""
    whens = {"replica": "one replica lost", "spot": "all spot taken back", "region": "a region lost"}
    units = {"replica": "pools", "spot": "pools", "region": "regions"}
    parts = []
    for lost, when in whens.items():
        of = table.filter(pl.col("lost") == lost)
        if of.height:
            parts.append(f"with {when} {int(of['holds'].sum())} of {of.height} {units[lost]} hold")
    return "; ".join(parts)


def told(table: pl.DataFrame) -> str:
    """What the losses come to, and the worst of each kind."""
    parts = []
    drop = (pl.col("attained") - pl.col("attained_lost")).alias("drop")
    replicas, spot, regions = (
        table.filter(pl.col("lost") == what).sort(drop, descending=True) for what in ("replica", "spot", "region")
    )
    if replicas.height:
        worst, held = replicas.row(0, named=True), int(replicas["holds"].sum())
        parts.append(
            f"with one replica lost at its busiest hour {held} of {replicas.height} pools hold; the worst, "
            f"{_worst(worst)}"
        )
    if spot.height:
        worst, held = spot.row(0, named=True), int(spot["holds"].sum())
        parts.append(
            f"with all spot replicas taken back at once {held} of {spot.height} pools hold; the worst, {_worst(worst)}"
        )
    if regions.height:
        worst = regions.row(0, named=True)
        parts.append(
            f"with {short(worst['region'])} lost for the busiest hour {share(worst['attained_lost'])} of all requests "
            f"attain, instead of {share(worst['attained'])}"
        )
    return "; ".join(parts)


def _worst(row: dict[str, Any]) -> str:
    """'chat/eu, then attains 96.72 % instead of 100 %'."""
    pool = f"{short(row['service'])}/{short(row['region'] or 'default')}"
    return f"{pool}, then attains {share(row['attained_lost'])} instead of {share(row['attained'])}"

"""Reserved and spot GPUs: what policies cost a month at every price of them, and where another becomes the cheapest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import ALIKE, choose
from lmaas.policies.commitment import break_even

from .. import figures
from ..format import listed, percent, text
from ..palette import policy_styles
from ..section import Column, Figure, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

MOST = 6  # lines of the figure
COLUMNS = (
    Column("policy", "Policy"),
    Column("ratio", "Reserved / on-demand price", "share"),
    Column("reserved_gpus", "GPUs to reserve", "count"),
    Column("reserved_share", "Of its GPU-hours", "share"),
    Column("usd_per_month", "$ a month", "usd"),
    Column("saving", "Saved", "share"),
)
SPOT_COLUMNS = (
    Column("policy", "Policy"),
    Column("ratio", "Spot / on-demand price", "share"),
    Column("base_gpus", "GPUs always on", "count"),
    Column("base_usd_per_month", "Their $ a month", "usd"),
    Column("spot_gpus", "Most on spot", "number"),
    Column("spot_share", "Of its GPU-hours", "share"),
    Column("usd_per_month", "$ a month", "usd"),
    Column("saving", "Saved", "share"),
)
SPOT_SHOWN = (0.3, 0.5, 0.7)  # prices of the table; the others are in spot.parquet


def section(result: Evaluation) -> Section | None:
    """Nothing where prices are missing."""
    if result.commitment.is_empty():
        return None
    attain = result.settings["attain"]
    names = _shown(result)
    rows = result.commitment.filter(pl.col("policy").is_in(names))
    shown = table("With the number of reserved GPUs that is cheapest", rows, COLUMNS, "commitment.parquet")
    caption = (
        "Cost a month by the price of a reserved GPU-hour, each with the number of GPUs that is cheapest to reserve."
    )
    return Section(
        "commitment",
        "Reserved, spot and on-demand GPUs",
        finding(break_even(result.commitment, result.scores, attain), result),
        figures=(Figure(_spec(rows, names, result), caption, shown),),
        tables=_spot(result, names),
        notes=(
            "A reserved GPU is paid for all the time, one on demand while provisioned; a reservation is for one GPU "
            "type in one region. How many to reserve is chosen knowing what the evaluated part used: a bound.",
            *SPOT_NOTE[: result.spot.height],
        ),
    )


SPOT_NOTE = (
    "Spot: what a pool has in every window is on demand, what comes and goes beyond that is spot. Neither prices of "
    "spot nor how often it is interrupted are known here, and interruptions are in none of these figures; the section "
    "on failures replays that all are taken back at once when they are most.",
)


def _spot(result: Evaluation, names: list[str]) -> tuple[Table, ...]:
    """Of policies that scale; nothing where pools mix shapes, or prices are missing."""
    if result.spot.is_empty():
        return ()
    moving = pl.col("policy").is_in(names) & (pl.col("spot_gpus") > 0)
    rows = result.spot.filter(moving, pl.col("ratio").is_in(SPOT_SHOWN))
    if rows.is_empty():
        return ()
    ordered = rows.sort(pl.col("policy").cast(pl.Enum(names)), "ratio")
    return (table("With spot GPUs for what comes and goes", ordered, SPOT_COLUMNS, "spot.parquet"),)


def _shown(result: Evaluation) -> list[str]:
    """The subject and its baseline first, then who attains, cheapest first."""
    choice = choose(result.scores, result.settings["attain"])
    fair = result.scores.filter(~pl.col("foresight") & (pl.col("slo_attainment") >= result.settings["attain"]))
    first = [row["policy"] for row in (choice.subject, choice.baseline) if row is not None]
    order = dict.fromkeys([*first, *fair.sort(choice.cost)["policy"].to_list()])
    told = set(result.commitment["policy"])
    return [name for name in order if name in told][:MOST]


def finding(cheapest: list[tuple[float, float, str]], result: Evaluation) -> str:
    """Who is cheapest at which price."""
    if not cheapest:
        names = _shown(result)
        whose = text(names[0]) if names else "no policy"
        return f"No policy attains the target; what reservations would save {whose} is shown."
    if len(cheapest) == 1:
        name = cheapest[0][2]
        if same := _same(name, result):
            return f"Whatever a reserved GPU costs, {listed([name, *same])} stay the cheapest, alike."
        return f"Whatever a reserved GPU costs, {text(name)} stays the cheapest that attains the target."
    parts = [f"{text(name)} from {percent(low)} to {percent(high)}" for low, high, name in cheapest]
    said = "Which policy that attains is cheapest depends on what a reserved GPU-hour costs of one on demand"
    return f"{said}: {', '.join(parts)}."


def _same(name: str, result: Evaluation) -> list[str]:
    """Who attains and costs as much as `name` at every price of a reserved GPU-hour."""
    attain = result.settings["attain"]
    fair = result.scores.filter(~pl.col("foresight") & (pl.col("slo_attainment") >= attain))["policy"].to_list()
    costs = {
        str(policy): rows.sort("ratio")["usd_per_month"].round_sig_figs(ALIKE).to_list()
        for (policy,), rows in result.commitment.group_by("policy")
    }
    return [other for other in fair if other != name and costs.get(other) == costs[name]]


def _spec(rows: pl.DataFrame, names: list[str], result: Evaluation) -> dict[str, Any]:
    styles = policy_styles(result.scores)
    data = []
    for name in names:
        mine = rows.filter(pl.col("policy") == name)
        x = {"x": figures.rounded(100 * mine["ratio"])}
        data.append(figures.line(name, x, mine["usd_per_month"], styles[name], hovertemplate="%{x} % · $%{y:,.0f}"))
    layout = figures.layout(
        figures.axis("price of a reserved GPU-hour, % of on-demand"),
        figures.axis("$ a month", rangemode="tozero"),
        showlegend=True,
    )
    return {"data": data, "layout": layout}

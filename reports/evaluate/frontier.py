"""Cost against attainment: what each point of attainment costs, and which policies nothing else beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import choose

from .. import figures
from ..format import share, text
from ..palette import Style, policy_styles
from ..section import Column, Figure, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COST = {"cost_usd": ("Cost", "usd", "Cost of the evaluated part, $"),
        "gpu_hours_provisioned": ("GPU-h", "number", "GPU-hours provisioned")}  # fmt: skip


def section(result: Evaluation) -> Section | None:
    """A mark a policy; the line joins those that no other beats on both axes, without foresight."""
    attain = result.settings["attain"]
    scores = result.scores.filter(pl.col("slo_attainment").is_not_null())
    if scores.is_empty():
        return None
    cost = choose(result.scores, attain).cost
    best = efficient(scores, cost)
    label, kind, _ = COST[cost]
    rows = scores.with_columns(efficient=pl.col("policy").is_in(best["policy"].to_list())).sort(cost)
    shown = table(
        "Cost and attainment of every policy",
        rows,
        [
            Column("policy", "Policy"),
            Column(cost, label, kind),  # type: ignore[arg-type]
            Column("slo_attainment", "SLO attained", "share"),
            Column("efficient", "On the frontier"),
            Column("foresight", "Foresight"),
        ],
        "scores.parquet",
    )
    caption = (
        f"SLO attainment against cost. Dashed: the target, {share(attain)}. Dotted: the frontier without foresight."
    )
    figure = Figure(_spec(scores, best, cost, attain, policy_styles(result.scores)), caption, shown)
    return Section("frontier", "Cost and attainment", finding(best, scores), figures=(figure,))


def efficient(scores: pl.DataFrame, cost: str) -> pl.DataFrame:
    """The policies without foresight for which no other costs at most as much and attains more, cheapest first."""
    fair = scores.filter(~pl.col("foresight")).sort(
        [cost, "slo_attainment"], descending=[False, True], maintain_order=True
    )
    before = pl.col("slo_attainment").cum_max().shift(1)
    return fair.filter(before.is_null() | (pl.col("slo_attainment") > before))


def finding(best: pl.DataFrame, scores: pl.DataFrame) -> str:
    """Who is on the frontier."""
    names, fair = [text(name) for name in best["policy"]], scores.filter(~pl.col("foresight")).height
    if len(names) == fair == 1:
        return f"{names[0]} is the only policy here without foresight: nothing to weigh it against."
    if len(names) <= 1:
        return f"{names[0]} costs least and attains most." if names else "No policy was scored without foresight."
    if best.height == fair:
        return "Attainment costs: each policy that attains more also costs more."
    choices = f"{', '.join(names[:-1])} and {names[-1]} are the choices"
    return f"{choices}: any other costs at least as much as one of them and attains no more."


def _spec(
    scores: pl.DataFrame, best: pl.DataFrame, cost: str, attain: float, styles: dict[str, Style]
) -> dict[str, Any]:
    low = min(scores["slo_attainment"].min() or 0, attain)  # type: ignore[type-var]
    floor = max(0.0, 100 * (float(low) - 0.12 * (1.0 - float(low)) - 0.002))  # type: ignore[arg-type]
    ceiling = 100 + 0.08 * (100 - floor)
    layout = figures.layout(
        figures.axis(COST[cost][2], rangemode="tozero"),
        figures.axis("SLO attainment, %", range=[floor, ceiling]),
        hovermode="closest",
        showlegend=True,
        shapes=[figures.rule("y", 100 * attain)],
    )
    frontier = {"type": "scatter", "mode": "lines", "x": figures.rounded(best[cost]),
                "y": figures.rounded(100 * best["slo_attainment"]), "showlegend": False, "hoverinfo": "skip",
                "line": {"color": "@muted", "dash": "dot", "width": 1.5, "shape": "hv"}}  # fmt: skip
    return {
        "data": [frontier, *(_mark(row, cost, styles[row["policy"]]) for row in scores.to_dicts())],
        "layout": layout,
    }


def _mark(row: dict[str, Any], cost: str, style: Style) -> dict[str, Any]:
    """Hollow where it knows the future."""
    shape = Style(style.color, style.dash, style.symbol + ("-open" if row["foresight"] else ""))
    y = figures.rounded([100 * row["slo_attainment"]])
    return figures.marks(row["policy"], [row[cost]], y, shape, hovertemplate="%{x:,.4~g} · %{y:.2f} %")

"""Cost against attainment: what each point of attainment costs, and which policies nothing else beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import ALIKE, choose

from .. import figures
from ..format import listed, share, text
from ..palette import Style, policy_styles
from ..section import Column, Figure, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COST = {"cost_usd": ("Cost", "usd", "Cost of the replay with its tail, $"),
        "gpu_hours_provisioned": ("GPU-h", "number", "GPU-hours provisioned")}  # fmt: skip

A_LINE = 3  # names of policies in one place


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
    """The policies without foresight for which no other costs at most as much and attains more, cheapest first.

    Of policies that cost and attain the same all are there, or none.
    """
    fair = _placed(scores.filter(~pl.col("foresight")), cost).sort(
        "x", "y", descending=[False, True], maintain_order=True
    )
    before = pl.col("y").cum_max().shift(1)
    first = fair.filter(before.is_null() | (pl.col("y") > before))
    return fair.join(first, on=["x", "y"], how="semi", maintain_order="left").drop("x", "y")


def _placed(scores: pl.DataFrame, cost: str) -> pl.DataFrame:
    """With x and y, cost and attainment: the same of policies that rounding alone tells apart."""
    places = {"x": cost, "y": "slo_attainment"}
    return scores.with_columns(
        **{name: pl.col(of).cast(pl.Float64).round_sig_figs(ALIKE) for name, of in places.items()}
    )


def finding(best: pl.DataFrame, scores: pl.DataFrame) -> str:
    """Who is on the frontier."""
    names, fair = best["policy"].to_list(), scores.filter(~pl.col("foresight")).height
    if not names:
        return "No policy was scored without foresight."
    if len(names) == fair == 1:
        return f"{text(names[0])} is the only policy here without foresight: nothing to weigh it against."
    if best["slo_attainment"].round_sig_figs(ALIKE).n_unique() == 1:
        if len(names) == fair:
            return f"{listed(names)} cost and attain the same: there is nothing to weigh."
        return f"{listed(names)} {'cost least and attain most' if names[1:] else 'costs least and attains most'}."
    if best.height == fair:
        return "Attainment costs: each policy that attains more also costs more."
    return f"{listed(names)} are the choices: any other costs at least as much as one of them and attains no more."


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
    places = _placed(scores, cost).sort("foresight", maintain_order=True)
    same = [group.to_dicts() for _, group in places.group_by("x", "y", maintain_order=True)]
    return {"data": [frontier, *(_mark(rows, cost, styles[rows[0]["policy"]]) for rows in same)], "layout": layout}


def _mark(rows: list[dict[str, Any]], cost: str, style: Style) -> dict[str, Any]:
    """Of policies in the same place; hollow where all of them know the future."""
    shape = Style(style.color, style.dash, style.symbol + ("-open" if rows[0]["foresight"] else ""))
    y = figures.rounded([100 * rows[0]["slo_attainment"]])
    mark = figures.marks(rows[0]["policy"], [rows[0][cost]], y, shape, hovertemplate="%{x:,.4~g} · %{y:.2f} %")
    names = [figures.label(row["policy"]) for row in rows]
    return mark | {"name": ",<br>".join(", ".join(names[k : k + A_LINE]) for k in range(0, len(names), A_LINE))}

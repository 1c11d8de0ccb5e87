"""Capacity against demand: what the load needed, what served it and what was paid for, per policy and busiest pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import choose
from lmaas.replay.fleet import SHARED, SILOS

from .. import figures
from ..format import number, share, text
from ..palette import Style, policy_styles
from ..section import Column, Figure, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

POOL = ("service", "region", "lane")
BUSIEST = 3  # pools shown; every pool is in timeline.parquet
PANEL = 118  # px of one policy's panel


def section(result: Evaluation) -> Section | None:
    """One figure a pool, one panel a policy, all on the same axes."""
    rows = named(joined(result.timeline))
    pools = busiest(rows)
    if not pools:
        return None
    styles = policy_styles(result.scores)
    clock = figures.Clock(result.trace.epoch, result.settings["end_s"])
    shown = tuple(_figure(rows.filter(pl.col("pool") == pool), pool, styles, clock) for pool in pools)
    subject = choose(result.scores, result.settings["attain"]).subject
    total = rows["pool"].n_unique()
    caption = f"Replicas by policy, the {len(pools)} busiest of {total} pools" if total > 1 else "Replicas by policy"
    return Section(
        "capacity",
        "Capacity against demand",
        finding(rows, pools[0], subject["policy"] if subject else None),
        tables=(_summary(rows, pools, caption),),
        figures=shown,
        notes=(
            "Needed: ceil(λ/μ), arrival rate over the rate that one replica sustains within the SLOs; an estimate.",
            "Active replicas take requests; provisioned ones are paid for: starting, active or draining.",
            *_split(result.timeline),
        ),
    )


def joined(timeline: pl.DataFrame) -> pl.DataFrame:
    """`timeline` with a policy's silos of a pool added up, so that they stand beside the shared pool of others."""
    silos = pl.col("lane").cast(pl.String).is_in(SILOS)
    if not timeline.select(silos.any()).item():
        return timeline
    keys = ["policy", "start_s", "length_s", "service", "region", "lane"]
    one = pl.when(silos).then(pl.lit(SHARED)).otherwise(pl.col("lane").cast(pl.String)).alias("lane")
    sums = pl.col("needed", "active", "provisioned", "arrived", "attained").sum()
    return timeline.with_columns(one).group_by(keys, maintain_order=True).agg(sums)


def named(timeline: pl.DataFrame) -> pl.DataFrame:
    """`timeline` with the pool's printed name, service/region/lane; a null region is `default`."""
    parts = [
        pl.col("service").cast(pl.String),
        pl.col("region").cast(pl.String).fill_null("default"),
        pl.col("lane").cast(pl.String),
    ]
    return timeline.with_columns(pool=pl.concat_str(parts, separator="/"))


def busiest(rows: pl.DataFrame, count: int = BUSIEST) -> list[str]:
    """Pools by what they need in their busiest windows, else by what was provisioned for them.

    The need is that of the policies that share the pool: rounded up in each of its silos it would be more.
    """
    each = rows.group_by("pool", "policy").agg(
        need=pl.col("needed").quantile(0.95).fill_null(0), had=pl.col("provisioned").mean()
    )
    rank = each.group_by("pool").agg(pl.col("need").min(), pl.col("had").mean())
    return rank.sort(["need", "had", "pool"], descending=[True, True, False])["pool"].head(count).to_list()


def _split(timeline: pl.DataFrame) -> list[str]:
    """A note where pools of a policy are two."""
    silos = timeline.filter(pl.col("lane").cast(pl.String).is_in(SILOS))["policy"].unique().sort().to_list()
    if not silos:
        return []
    named_ = ", ".join(text(name) for name in silos)
    return [f"{named_}: the pools for interactive and for batch requests are added up, needs rounded up in each."]


def short() -> pl.Expr:
    """Share of windows in which fewer replicas were active than needed, to one tenth of a replica."""
    return (pl.col("active") < pl.col("needed") - 0.1).mean()


def finding(rows: pl.DataFrame, pool: str, policy: str | None) -> str:
    """What the policy of the headline did in the busiest pool."""
    own = rows.filter((pl.col("pool") == pool) & (pl.col("policy") == policy)) if policy else rows.clear()
    if own.is_empty():
        return f"The busiest pool is {text(pool)}."
    low, high, need, late = own.select(
        pl.col("active").min().alias("low"),
        pl.col("active").max().alias("high"),
        pl.col("needed").max(),
        short().alias("late"),
    ).row(0)
    fewer = f"{share(late)} of windows" if late else "no window"
    needed = "" if need is None else f"; the load needed up to {number(need, 3)}, and {fewer} had fewer"
    ends = " to ".join(dict.fromkeys((number(low, 3), number(high, 3))))
    ran = f"{text(policy)} ran {ends} active {'replica' if ends == '1' else 'replicas'}"
    return f"In {text(pool)}, the busiest pool, {ran}{needed}."


def _summary(rows: pl.DataFrame, pools: list[str], caption: str) -> Table:
    order = pl.col("pool").replace_strict(dict(zip(pools, range(len(pools)), strict=True)), return_dtype=pl.Int8)
    per = (
        rows.filter(pl.col("pool").is_in(pools))
        .group_by("pool", "policy", maintain_order=True)
        .agg(
            need=pl.col("needed").max(),
            active=pl.col("active").mean(),
            low=pl.col("active").min(),
            high=pl.col("active").max(),
            provisioned=pl.col("provisioned").mean(),
            short=short(),
            attainment=pl.col("attained").sum() / pl.col("arrived").sum(),
        )
    )
    columns = (
        Column("pool", "Pool"),
        Column("policy", "Policy"),
        Column("need", "Needed, peak", "number"),
        Column("active", "Active, mean", "number"),
        Column("low", "Active, least", "number"),
        Column("high", "Active, most", "number"),
        Column("provisioned", "Provisioned, mean", "number"),
        Column("short", "Windows short", "share"),
        Column("attainment", "SLO attained", "share"),
    )
    return table(
        caption,
        per.sort(order, maintain_order=True).with_columns(pl.col("attainment").fill_nan(None)),
        columns,
        "timeline.parquet",
    )


def _figure(rows: pl.DataFrame, pool: str, styles: dict[str, Style], clock: figures.Clock) -> Figure:
    present = [name for name in styles if name in set(rows["policy"])]
    start, end = float(rows["start_s"].min()), float((rows["start_s"] + rows["length_s"]).max())  # type: ignore[arg-type,operator]
    step = figures.buckets(end - start, float(rows["length_s"].max()), 3 * len(present))  # type: ignore[arg-type]
    grids = {
        name: figures.peaks(
            rows.filter(pl.col("policy") == name), step, start, end, ("needed", "active", "provisioned")
        )
        for name in present
    }
    x = clock.regular(start, step)
    data = [t for i, name in enumerate(present) for t in _panel(grids[name], x, styles[name], i)]
    top = max((float(g.max_horizontal().max() or 1) for g in grids.values()), default=1.0)  # type: ignore[arg-type]
    caption = f"{text(pool)}: replicas needed, active and provisioned; one panel a policy, same scale."
    height = 70 + PANEL * len(present)
    return Figure(
        {"data": data, "layout": _layout(present, clock, 1.08 * top)},
        caption,
        _series(grids, pool, start, step, clock),
        height,
    )


def _panel(grid: pl.DataFrame, x: dict[str, Any], style: Style, index: int) -> list[dict[str, Any]]:
    """Provisioned as an area, active as a line, needed as dots: three marks that differ without colour."""
    panel = {"yaxis": f"y{index + 1}" if index else "y", "showlegend": index == 0}
    area = {"color": style.color, "width": 0.5, "dash": "solid", "shape": "hv"}
    active = {"color": style.color, "width": 2, "dash": "solid", "shape": "hv"}
    need = {"color": "@ink", "width": 1.5, "dash": "dot", "shape": "hv"}
    more = {**panel, "legendgroup": "provisioned", "fill": "tozeroy", "opacity": 0.35}
    plain = Style(style.color, "solid", style.symbol)
    return [
        figures.line("provisioned (area)", x, grid["provisioned"], plain, line=area, **more),
        figures.line("active (line)", x, grid["active"], plain, line=active, **panel, legendgroup="active"),
        figures.line("needed (dots)", x, grid["needed"], plain, line=need, **panel, legendgroup="needed"),
    ]


def _layout(names: list[str], clock: figures.Clock, top: float) -> dict[str, Any]:
    """Panels from the top down, 22 % of each for its title."""
    each = 1 / len(names)
    layout = figures.layout(clock.axis() | {"anchor": f"y{len(names)}" if len(names) > 1 else "y"}, {})
    notes = []
    for i, name in enumerate(names):
        high = 1 - i * each
        key = f"yaxis{i + 1}" if i else "yaxis"
        layout[key] = figures.axis("", domain=[high - 0.78 * each, high - 0.02 * each], range=[0, top], nticks=4)
        place = {
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": high - 0.01 * each,
            "yref": "paper",
            "yanchor": "bottom",
        }
        notes.append({"text": f"<b>{figures.label(name)}</b>", "showarrow": False, "font": {"size": 12}, **place})
    layout["annotations"] = notes
    layout["margin"] = {"l": 40, "r": 16, "t": 44, "b": 48}
    layout["legend"] = layout["legend"] | {"y": 1, "yref": "container", "yanchor": "top"}
    return layout


def _series(grids: dict[str, pl.DataFrame], pool: str, start: float, step: float, clock: figures.Clock) -> Table:
    """The figure's points: the time, the need, and what each policy provisioned."""
    first = next(iter(grids.values()))
    times = pl.Series("time", [clock.write(start + i * step) for i in range(first.height)], dtype=pl.String)
    rows = pl.DataFrame(
        [times, first["needed"], *(g["provisioned"].alias(f"p{i}") for i, g in enumerate(grids.values()))]
    )
    columns = [Column("time", "Window from"), Column("needed", "Needed", "number")]
    columns += [Column(f"p{i}", f"{text(name)}, provisioned", "number") for i, name in enumerate(grids)]
    return table(f"Replicas of {text(pool)}", rows, columns, "timeline.parquet")

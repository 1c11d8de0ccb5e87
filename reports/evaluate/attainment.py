"""SLO attainment by tier and by service: who pays for a policy's savings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import choose

from .. import figures
from ..format import share, text
from ..palette import Style, policy_styles
from ..section import Column, Figure, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

KINDS = {"tier": "Tier", "service": "Service"}
SHOWN = 12  # largest groups of a kind; a fleet can have hundreds of services


def section(result: Evaluation) -> Section | None:
    """A mark a policy in each tier and service."""
    attain = result.settings["attain"]
    rows = largest(result.groups)
    if rows.is_empty():
        return None
    styles = policy_styles(result.scores)
    subject = choose(result.scores, attain).subject
    spec = _spec(rows, styles, attain)
    height = 120 + 34 * rows.select("group", "name").unique().height
    figure = Figure(
        spec, f"SLO attainment by tier and service. Dashed: the target, {share(attain)}.", _table(rows, styles), height
    )
    return Section(
        "attainment",
        "Attainment by tier and service",
        finding(rows, subject["policy"] if subject else None, attain),
        figures=(figure,),
    )


def largest(groups: pl.DataFrame) -> pl.DataFrame:
    """The rows of the largest tiers and services, largest first; a kind with `all` requests in it is left out."""
    named = groups.with_columns(pl.col("name").cast(pl.String).fill_null("(none)"))
    rows = named.filter(pl.col("group").is_in(list(KINDS)), pl.col("slo_attainment").is_not_null())
    sizes = (
        rows.group_by("group", "name")
        .agg(size=pl.col("n").max())
        .sort(["group", "size", "name"], descending=[True, True, False])
    )
    kept = sizes.group_by("group", maintain_order=True).head(SHOWN)
    return kept.join(rows, on=["group", "name"], how="inner", maintain_order="left_right")


def finding(rows: pl.DataFrame, policy: str | None, attain: float) -> str:
    """The group that fares worst under the policy of the headline."""
    own = (
        rows.filter(pl.col("policy") == policy).sort("slo_attainment", maintain_order=True) if policy else rows.clear()
    )
    if own.is_empty():
        return "Attainment by tier and service."
    worst = own.row(0, named=True)
    missing = own.filter(pl.col("slo_attainment") < attain).height
    name = f"{KINDS[worst['group']].lower()} {text(worst['name'])}"
    lowest = f"{name} is lowest, at {share(worst['slo_attainment'])}"
    if missing:
        return f"Under {text(policy)} {missing} of {own.height} tiers and services miss {share(attain)}; {lowest}."
    return f"Under {text(policy)} every tier and service attains {share(attain)}; {lowest}."


def _spec(rows: pl.DataFrame, styles: dict[str, Style], attain: float) -> dict[str, Any]:
    low = min(float(rows["slo_attainment"].min() or 0), attain)  # type: ignore[arg-type]
    floor = max(0.0, 100 * (low - 0.1 * (1 - low) - 0.002))
    order = [_name(r) for r in rows.select("group", "name").unique(maintain_order=True).iter_rows(named=True)]
    data: list[dict[str, Any]] = []
    for policy, style in styles.items():
        own = rows.filter(pl.col("policy") == policy)
        names = [_name(r) for r in own.iter_rows(named=True)]
        data.append(figures.marks(policy, 100 * own["slo_attainment"], names, style, hovertemplate="%{x:.2f} %"))
    y = figures.axis("", type="category", categoryorder="array", categoryarray=order[::-1])
    x = figures.axis("SLO attainment, %", range=[floor, 100 + 0.03 * (100 - floor)])
    return {
        "data": data,
        "layout": figures.layout(x, y, hovermode="y unified", shapes=[figures.rule("x", 100 * attain)]),
    }


def _name(row: dict[str, Any]) -> str:
    return f"{KINDS[row['group']].lower()} {figures.label(row['name'], 24)}"


def _table(rows: pl.DataFrame, styles: dict[str, Style]) -> Table:
    wide = rows.select(
        pl.col("name").cast(pl.String), pl.col("group").replace_strict(KINDS), pl.col("size"),
    ).unique(subset=["group", "name"], maintain_order=True)  # fmt: skip
    columns = [Column("name", "Name"), Column("group", "Kind"), Column("size", "Requests", "count")]
    for i, policy in enumerate(styles):
        own = rows.filter(pl.col("policy") == policy).select(
            pl.col("name").cast(pl.String),
            pl.col("group").replace_strict(KINDS),
            pl.col("slo_attainment").alias(f"p{i}"),
        )
        wide = wide.join(own, on=["group", "name"], how="left", maintain_order="left")
        columns.append(Column(f"p{i}", text(policy), "share"))
    return table("SLO attainment", wide, columns, "groups.parquet")

"""What the same attainment costs under every policy: headrooms searched, so foresight throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import change, number, share, text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COLUMNS = (
    Column("policy", "Policy", brief=True),
    Column("gpu_hours_matched", "GPU-h at the target", "number", brief=True),
    Column("gpu_hours_matched_low", "from", "number"),
    Column("gpu_hours_matched_high", "to", "number"),
    Column("knob", "Parameter"),
    Column("headroom_matched", "its value that just attains", "number", brief=True),
    Column("slo_attainment", "SLO attained", "share", brief=True),
    Column("replays", "Replays", "count"),
    Column("seen", "Known beforehand", brief=True),
)


def section(result: Evaluation) -> Section | None:
    """One row a policy with a parameter that buys attainment, cheapest first; nothing without `--depth full`."""
    if result.matched.is_empty():
        return None
    rows = result.matched.sort("gpu_hours_matched", nulls_last=True, maintain_order=True)
    shown = rows.with_columns(seen=pl.lit("no, foresight"))
    attain = float(result.settings["attain"])
    return Section(
        "matched",
        "Cost at equal attainment",
        finding(rows, attain),
        tables=(
            table(f"Each policy at the least capacity that attains {share(attain)}", shown, COLUMNS, "matched.parquet"),
        ),
        notes=(
            "Foresight: the headrooms were found by replaying the evaluated part again and again. They make policies "
            "comparable; nobody could have known them.",
            "GPU-hours lie between two replays, one that attains and one just below, in proportion to attainment.",
            *(f"{text(name)} attains nowhere: {text(why)}." for name, why in _lost(rows)),
        ),
        brief=True,
    )


def finding(rows: pl.DataFrame, attain: float) -> str:
    """The cheapest and the dearest policy at the target; rows are sorted by cost."""
    met = rows.filter("attains")
    target = share(attain)
    if met.is_empty():
        best = rows.sort("slo_attainment", descending=True, maintain_order=True).row(0, named=True)
        closest = f"{text(best['policy'])} comes closest with {share(best['slo_attainment'])}"
        return f"No headroom makes any policy attain {target}; {closest}."
    first, last = met.row(0, named=True), met.row(-1, named=True)
    fewest = number(first["gpu_hours_matched"])
    start = f"For {target} attained {text(first['policy'])} needs the fewest GPU-hours, {fewest}"
    if met.height == 1:
        return f"{start}."
    return (
        f"{start}; {text(last['policy'])} needs {change(last['gpu_hours_matched'] / first['gpu_hours_matched'] - 1)}."
    )


def _lost(rows: pl.DataFrame) -> list[tuple[str, str]]:
    return list(rows.filter(~pl.col("attains")).select("policy", pl.col("why").fill_null("not known")).iter_rows())

"""What the same attainment costs under every policy: headrooms searched, so foresight throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ..format import listed, number, percent, share, text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

SAME = 5e-4  # of the GPU-hours: nothing on screen
NEAR = 1.01  # times the GPU-hours of the least fleet
BOUNDED = "any: bounded by the pools' least counts"
COLUMNS = (
    Column("policy", "Policy", brief=True),
    Column("gpu_hours_matched", "GPU-h at the target", "number", brief=True),
    Column("gpu_hours_matched_low", "from", "number"),
    Column("gpu_hours_matched_high", "to", "number"),
    Column("knob", "Parameter"),
    Column("value", "its value that just attains", brief=True),
    Column("slo_attainment", "SLO attained", "share", brief=True),
    Column("replays", "Replays", "count"),
    Column("seen", "Known beforehand", brief=True),
)


def section(result: Evaluation) -> Section | None:
    """One row a policy with a parameter that buys attainment, cheapest first; nothing without `--depth full`."""
    if result.matched.is_empty():
        return None
    rows = result.matched.sort("gpu_hours_matched", nulls_last=True, maintain_order=True)
    values = [_value(row, result) for row in rows.iter_rows(named=True)]
    shown = rows.with_columns(seen=pl.lit("no, foresight"), value=pl.Series(values, dtype=pl.String))
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
    more = last["gpu_hours_matched"] / first["gpu_hours_matched"] - 1 if first["gpu_hours_matched"] else 0.0
    if met.height > 1 and more < SAME:
        return f"For {target} attained {listed(met['policy'].to_list())} need as many GPU-hours, {fewest}."
    start = f"For {target} attained {text(first['policy'])} needs the fewest GPU-hours, {fewest}"
    if met.height == 1:
        return f"{start}."
    return f"{start}; {text(last['policy'])} needs {percent(more)} more."


def _value(row: dict[str, Any], result: Evaluation) -> str | None:
    """The value; where the least of the search attains, what ended it."""
    if row["headroom_matched"] is None or row["headroom_below"] is not None:
        return None if row["headroom_matched"] is None else number(row["headroom_matched"])
    settings = result.settings
    hours = (settings["end_s"] - settings["cut_s"]) / 3600
    least = sum((pool["minimum"] or 0) * pool["gpus_per_replica"] for pool in settings["pools"]) * hours
    tails = dict(result.scores.select("policy", "gpu_hours_tail").iter_rows())
    near = row["gpu_hours_matched"] - (tails.get(row["policy"]) or 0.0) <= NEAR * least
    return BOUNDED if near else f"{number(row['headroom_matched'])}, where the search ends"


def _lost(rows: pl.DataFrame) -> list[tuple[str, str]]:
    return list(rows.filter(~pl.col("attains")).select("policy", pl.col("why").fill_null("not known")).iter_rows())

"""Window fidelity: what was estimated, and how far from a replay the estimate is where both were run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..format import span, text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

COLUMNS = (
    Column("policy", "Policy", brief=True),
    Column("gpu_hours_request", "GPU-h, replayed", "number", brief=True),
    Column("gpu_hours_window", "estimated", "number", brief=True),
    Column("gpu_hours_off", "off by", "change", brief=True),
    Column("attainment_request", "Attained, replayed", "share", brief=True),
    Column("attainment_window", "estimated", "share", brief=True),
    Column("points_off", "off by, points", "number", brief=True),
)


def section(result: Evaluation) -> Section | None:
    """The same policies at both fidelities on the same beginning of the evaluated part; none where all is replayed."""
    if result.settings.get("fidelity") != "window":
        return None
    rows = pl.DataFrame(result.settings["agreement"]).with_columns(
        gpu_hours_off=pl.col("gpu_hours_window") / pl.col("gpu_hours_request") - 1,
        points_off=100 * (pl.col("attainment_window") - pl.col("attainment_request")),
    )
    checked = f"the first {span(rows['until_s'][0])} of the evaluated part, {rows['requests'][0]:,} requests"
    return Section(
        "fidelity",
        "Estimated from windows, not replayed",
        f"Every number of this report is an estimate; against a replay of {checked}, GPU-hours are off by up to "
        f"{_most(rows, 'gpu_hours_off') * 100:.1f} % and attainment by up to {_most(rows, 'points_off'):.1f} points.",
        tables=(table("The same policies, replayed and estimated", rows, COLUMNS, "metrics.json"),),
        notes=(
            "Routing, single requests and their latencies are not modelled; how attainment is estimated: "
            "docs/policies.md. Reactive policies are estimated less well than planned ones.",
            *_ignored(result),
        ),
        brief=True,
    )


def _ignored(result: Evaluation) -> list[str]:
    left_out = result.settings.get("ignored")
    return [f"Of this fleet and trace, windows ignore {', '.join(map(text, left_out))}."] if left_out else []


def _most(rows: pl.DataFrame, column: str) -> float:
    """The largest absolute value."""
    return float(rows[column].abs().max() or 0.0)  # type: ignore[arg-type]

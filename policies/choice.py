"""Which policy the report recommends, and what it is compared with. Pure data: no words, no HTML."""

from dataclasses import dataclass
from typing import Any

import polars as pl

COMPARED_WITH = ("current", "static-peak", "hpa", "last-value", "static-mean")
Row = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """`best` attains the target at the least cost and without foresight; `closest` is for when none does."""

    best: Row | None
    closest: Row | None  # highest attainment without foresight
    baseline: Row | None  # what `subject` is compared with
    cost: str  # the column that decided: cost_usd, or GPU-hours where a price is missing

    @property
    def subject(self) -> Row | None:
        """The row the headline is about."""
        return self.best or self.closest


def choose(scores: pl.DataFrame, attain: float) -> Choice:
    """The recommendation of a `scores` table at the attainment target."""
    cost = "gpu_hours_provisioned" if scores["cost_usd"].null_count() else "cost_usd"
    fair = scores.filter(~pl.col("foresight") & pl.col("slo_attainment").is_not_null())
    attaining = fair.filter(pl.col("slo_attainment") >= attain).sort(cost, maintain_order=True)
    nearest = fair.sort("slo_attainment", cost, descending=[True, False], maintain_order=True)
    best, closest = _first(attaining), _first(nearest)
    return Choice(best, closest, _baseline(fair, best or closest), cost)


def _first(rows: pl.DataFrame) -> Row | None:
    return rows.row(0, named=True) if rows.height else None


def _baseline(fair: pl.DataFrame, subject: Row | None) -> Row | None:
    """The user's own fleet where given, else the best known baseline; never the subject itself."""
    if subject is None:
        return None
    others = fair.filter((pl.col("role") == "baseline") & (pl.col("policy") != subject["policy"]))
    rank = pl.col("policy").replace_strict(
        dict(zip(COMPARED_WITH, range(len(COMPARED_WITH)), strict=True)),
        default=len(COMPARED_WITH),
        return_dtype=pl.Int8,
    )
    return _first(others.sort(rank, maintain_order=True))

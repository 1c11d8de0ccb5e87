"""Which policy the report recommends, and what it is compared with. Pure data: no words, no HTML."""

from dataclasses import dataclass
from typing import Any

import polars as pl

COMPARED_WITH = ("current", "static-peak", "hpa", "last-value", "static-mean")
DECIDES = ("gpu_hours_provisioned", "cost_usd", "slo_attainment")
ALIKE = 9  # digits: what is left is rounding
Row = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """`best` attains the target at the least cost and without foresight; `closest` is for when none does."""

    best: Row | None
    closest: Row | None  # highest attainment without foresight
    baseline: Row | None  # what `subject` is compared with
    cost: str  # the column that decided: cost_usd, or GPU-hours where a price is missing
    tied: tuple[str, ...] = ()  # others without foresight of the subject's GPU-hours, cost and attainment
    told_apart: bool = True  # false: these are all the others

    @property
    def subject(self) -> Row | None:
        """The row the headline is about."""
        return self.best or self.closest


def choose(scores: pl.DataFrame, attain: float) -> Choice:
    """The recommendation of a `scores` table at the attainment target; of equal policies the simplest."""
    cost = "gpu_hours_provisioned" if scores["cost_usd"].null_count() else "cost_usd"
    fair = simplest_first(scores.filter(~pl.col("foresight") & pl.col("slo_attainment").is_not_null()))
    paid, attained = _rounded(cost), _rounded("slo_attainment")
    attaining = fair.filter(pl.col("slo_attainment") >= attain)
    best = _first(attaining.sort(paid, attained, descending=[False, True], maintain_order=True))
    closest = _first(fair.sort(attained, paid, descending=[True, False], maintain_order=True))
    subject = best or closest
    others = alike(scores.filter(~pl.col("foresight")), subject["policy"]) if subject else ()
    apart = not others or len(others) + 1 < fair.height
    return Choice(best, closest, _baseline(fair, subject), cost, others, apart)


def simplest_first(scores: pl.DataFrame) -> pl.DataFrame:
    """The user's own fleet, then who scales least, static fleets and baselines first."""
    name, there = pl.col("policy"), set(scores.columns)
    actions = [pl.col("scale_actions")] if "scale_actions" in there else []
    role = [pl.col("role") != "baseline"] if "role" in there else []
    order = (name != "current", *actions, ~name.str.starts_with("static"), *role)
    return scores.sort(*order, nulls_last=True, maintain_order=True)


def alike(scores: pl.DataFrame, policy: str) -> tuple[str, ...]:
    """The other scored policies with the GPU-hours, cost and attainment of `policy`, in their order."""
    rows = scores.filter(pl.col("slo_attainment").is_not_null()).to_dicts()
    mine = next(decided_by(row) for row in rows if row["policy"] == policy)
    return tuple(row["policy"] for row in rows if row["policy"] != policy and decided_by(row) == mine)


def decided_by(row: Row) -> tuple[float | None, ...]:
    """GPU-hours, cost and attainment without what rounding leaves: equal of policies that are alike."""
    return tuple(None if row[name] is None else float(f"{row[name]:.{ALIKE - 1}e}") for name in DECIDES)


def _rounded(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64).round_sig_figs(ALIKE)


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

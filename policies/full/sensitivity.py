"""What the recommendation rests on: the same evaluation with one assumption otherwise, replayed at a few points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from ..altered import AS_IT_IS, Altered
from ..choice import choose
from ..prepare import Prepared
from ..registry import Named
from .bench import Bench
from .counterfactual import Impossible, told_truth
from .crew import Crew
from .kept import Found, known
from .seeds import scored

GROWTH, OUTPUT, START, LIMITS, ERROR, PRICE = (
    "growth", "output length", "cold start", "SLO limits", "forecast error", "price",
)  # fmt: skip
FACTORS = {
    GROWTH: (0.8, 1.1, 1.25, 1.5, 2.0),
    OUTPUT: (0.8, 1.1, 1.25, 1.5, 2.0),
    START: (0.0, 0.5, 2.0, 4.0),
    LIMITS: (0.5, 0.75, 1.5, 2.0),
    PRICE: (0.5, 0.8, 1.25, 2.0),
}
ERRORS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
STARTS_S = (30.0, 60.0, 120.0, 300.0)  # where start-up takes no time
UNITS = {GROWTH: "x", OUTPUT: "x", START: "s", LIMITS: "x", ERROR: "share", PRICE: "x"}
METRICS = ("slo_attainment", "gpu_hours_provisioned", "cost_usd", "ttft_p99_s")
SENSITIVITY: dict[str, Any] = {
    "factor": pl.String,
    "gpu": pl.String,  # whose price; null: of no one GPU type
    "value": pl.Float64,
    "unit": pl.String,  # x: times as much; s: the fleet's longest cold start; share: mean absolute error of the demand
    "as_evaluated": pl.Boolean,
    "policy": pl.String,
    **dict.fromkeys(METRICS, pl.Float64),
    "recommended": pl.Boolean,  # of those replayed
    "why": pl.String,  # why there is no replay
}


@dataclass(frozen=True)
class Point:
    """One value of one factor: what of the world is otherwise, or how far off the truth is that policies are told."""

    factor: str
    value: float
    altered: Altered = AS_IT_IS
    error: float | None = None
    gpu: str | None = None


@dataclass(frozen=True, eq=False)
class Moved:
    """All policies at one point, made ready once; a policy's scores, or {"why": no replay}, each kept by itself."""

    point: Point
    policies: tuple[Named, ...]

    def __call__(self, bench: Bench) -> list[Found]:
        """The replays, or what is kept of them."""
        return [bench.once(self.asked(named), partial(self._replayed, named, bench)) for named in self.policies]

    def asked(self, named: Named) -> dict[str, Any] | None:
        """What determines one of them."""
        whose = known(named)
        return whose and {**whose, "altered": repr(self.point.altered), "error": self.point.error}

    def _replayed(self, named: Named, bench: Bench) -> Found:
        try:
            told = named if self.point.error is None else told_truth(named, self.point.error)
        except Impossible as why:
            return {"why": str(why)}
        if self.point.factor in (START, PRICE) and getattr(getattr(named.policy, "brings", None), "profiles", None):
            return {"why": "it brings replicas of its own"}
        return scored(told, *bench.altered(self.point.altered))


def points(ready: Prepared, forecasts: bool) -> list[Point]:
    """All that are replayed; forecasts: whether any policy takes a forecaster's word.

    Prices only where there are several GPU types: of one alone they change every cost alike, and no decision.
    """
    profiles = [profile for pool in ready.fleet.pools for profile in pool.profiles]
    cold_s = max(profile.startup_s.cold for profile in profiles)
    found = [Point(GROWTH, x, Altered(load=x)) for x in FACTORS[GROWTH]]
    found += [Point(OUTPUT, x, Altered(output=x)) for x in FACTORS[OUTPUT]]
    if cold_s:
        found += [Point(START, x * cold_s, Altered(startup=x)) for x in FACTORS[START]]
    else:
        found += [Point(START, s, Altered(startup_s=s)) for s in STARTS_S]
    found += [Point(LIMITS, x, Altered(slo=x)) for x in FACTORS[LIMITS]]
    found += [Point(ERROR, e, error=e) for e in ERRORS if forecasts]
    gpus = sorted({profile.gpu for profile in profiles if profile.gpu is not None})
    if len(gpus) > 1:
        found += [Point(PRICE, x, Altered(price=x, gpu=gpu), gpu=gpu) for gpu in gpus for x in FACTORS[PRICE]]
    return found


def as_evaluated(ready: Prepared, factor: str) -> float | None:
    """The value at which the evaluation itself stands; None: on no scale (forecasts are no truth that is off)."""
    if factor == ERROR:
        return None
    return max(p.startup_s.cold for pool in ready.fleet.pools for p in pool.profiles) if factor == START else 1.0


def tasks_of(policies: Sequence[Named], ready: Prepared) -> list[Moved]:
    """A task a point."""
    return [Moved(point, tuple(policies)) for point in points(ready, any(takes_word(one) for one in policies))]


def takes_word(named: Named) -> bool:
    """Whether it can be told the truth, or something off it."""
    try:
        return told_truth(named, 0.01) is not None
    except Impossible:
        return False


def sensitivity(
    tasks: Sequence[Moved],
    scores: pl.DataFrame,
    attain: float,
    ready: Prepared,
    crew: Crew,
    say: Callable[[float], None],
) -> pl.DataFrame:
    """Columns SENSITIVITY, by factor, GPU type and value; scores: of the evaluation itself."""
    if not tasks:
        return pl.DataFrame(schema=SENSITIVITY)
    names = [named.name for named in tasks[0].policies]
    own = {row["policy"]: row for row in scores.iter_rows(named=True)}
    cells: list[tuple[Point, bool, list[Found]]] = []
    for task, found in zip(tasks, crew.each(tasks, say), strict=True):
        # who takes no forecaster's word is as evaluated, whatever the error of it
        said = [own[n] if task.point.factor == ERROR and "why" in f else f for n, f in zip(names, found, strict=True)]
        cells.append((task.point, False, said))
    for factor, gpu in dict.fromkeys((task.point.factor, task.point.gpu) for task in tasks):
        here = as_evaluated(ready, factor)
        if here is not None:
            cells.append((Point(factor, here, gpu=gpu), True, [own[name] for name in names]))
    rows = []
    for point, evaluated, found in cells:
        scored_here = [
            {
                "policy": name,
                "role": own[name]["role"],
                "foresight": False,
                **{m: one.get(m) for m in METRICS},
                "scale_actions": own[name].get("scale_actions"),
            }
            for name, one in zip(names, found, strict=True)
        ]
        best = choose(
            pl.DataFrame(scored_here, infer_schema_length=None, schema_overrides=dict.fromkeys(METRICS, pl.Float64)),
            attain,
        ).best
        for row, one in zip(scored_here, found, strict=True):
            rows.append({
                "factor": point.factor, "gpu": point.gpu, "value": point.value, "unit": UNITS[point.factor],
                "as_evaluated": evaluated, **row, "why": one.get("why"),
                "recommended": best is not None and best["policy"] == row["policy"],
            })  # fmt: skip
    table = pl.DataFrame([[row[name] for name in SENSITIVITY] for row in rows], schema=SENSITIVITY, orient="row")
    order = {factor: k for k, factor in enumerate(UNITS)}
    rank = pl.col("factor").replace_strict(order, return_dtype=pl.Int64)
    return table.sort(rank, "gpu", "value", maintain_order=True)

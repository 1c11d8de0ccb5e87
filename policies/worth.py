"""What a predictor is worth: the GPU-hours that a policy needs for the same attainment when it takes its word."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.forecasting.forecaster import FORECASTERS

from .autoscalers.hpa import Hpa
from .inputs import Inputs
from .matched import Matched, match
from .planning import Planned
from .prepare import Prepared
from .preserve import PreServe
from .registry import Named
from .runner import compared, wape
from .search import MOST_REPLAYS
from .static import StaticMean
from .told import LENGTHS, TRUE, TRUTH, errors_of

ERRORS = (0.05, 0.1, 0.2, 0.3, 0.5)  # injected into the truth; 0 is the truth itself
FLOOR = {"demand": "last-value", "lengths": "median"}  # what changes are against
BOUND = {"demand": TRUTH, "lengths": TRUE}
TOLERANCE, STEP = 0.005, 1.06  # of 1 + headroom: predictors are a few percent apart

WORTH: dict[str, Any] = {
    "part": pl.String,  # demand or lengths: whose predictor is changed; the other one stays the policy's own
    "predictor": pl.String,  # a forecaster, a length predictor, the truth, or none (POLICY or ROUTER)
    "foresight": pl.Boolean,  # it is told the truth; that the search looked at the evaluated part holds for every row
    "injected": pl.Float64,  # mean absolute percentage error put into the truth
    "error": pl.Float64,  # demand: WAPE of total tokens, as told; lengths: mean absolute error, tokens; null: none told
    "attains": pl.Boolean,
    "headroom_matched": pl.Float64,  # the columns from here to why: as in matched.MATCHED
    "gpu_hours_matched": pl.Float64,
    "gpu_hours_matched_low": pl.Float64,
    "gpu_hours_matched_high": pl.Float64,
    "slo_attainment": pl.Float64,
    "steady": pl.Boolean,
    "replays": pl.Int64,
    "why": pl.String,
    "change": pl.Float64,  # of gpu_hours_matched against the part's floor: last-value, or the median length
    "gap_closed": pl.Float64,  # share of the floor's distance to the truth; null where brackets are as wide as that
}


@dataclass(frozen=True)
class Case:
    """A predictor and the policy that takes its word."""

    part: str
    predictor: str
    policy: Any

    @property
    def injected(self) -> float | None:
        """The error put into the truth; None: it is told no truth of this part."""
        told = (self.policy.forecaster, self.policy.lengths)[self.part == "lengths"]
        return errors_of(self.policy)[self.part == "lengths"] if told == BOUND[self.part] else None


def cases(base: Planned, errors: Sequence[float] = ERRORS) -> list[Case]:
    """Every predictor in the place of `base`'s own, one at a time; floors first, then the truth with growing errors.

    No prediction of demand: a fleet that only reacts (hpa), and one of the training part's mean (static-mean), both
    behind base's router. No prediction of lengths: the median of the service, and a router that reads none.
    """
    found = [Case("demand", name, replace(base, forecaster=name, demand_error=0.0)) for name in _floor_first()]
    found += [Case("demand", "none (hpa)", Hpa(router=base.router))]
    found += [Case("demand", "none (static-mean)", StaticMean(router=base.router))]
    found += [Case("demand", TRUTH, replace(base, forecaster=TRUTH, demand_error=e)) for e in (0.0, *errors)]
    names = (FLOOR["lengths"], *(name for name in LENGTHS if name != FLOOR["lengths"]))
    found += [Case("lengths", name, replace(base, lengths=name, length_error=0.0)) for name in names]
    found += [Case("lengths", "none (least-requests)", replace(base, router="least-requests"))]
    found += [Case("lengths", TRUE, replace(base, lengths=TRUE, length_error=e)) for e in (0.0, *errors)]
    return found


def _floor_first() -> list[str]:
    return [FLOOR["demand"], *(name for name in FORECASTERS if name != FLOOR["demand"])]


def replays_at_most(base: Planned) -> int:
    """Of `worth`."""
    return MOST_REPLAYS * (1 + len({case.policy for case in cases(base)}))


def worth(
    ready: Prepared,
    inputs: Inputs,
    attain: float = 0.99,
    base: Planned | None = None,
    *,
    only: Sequence[str] | None = None,
    errors: Sequence[float] = ERRORS,
    tolerance: float = TOLERANCE,
    jobs: int = 1,
    say: Callable[[str, float], None] = lambda name, share: None,
    each: Callable[[Sequence[tuple[Named, float | None]]], list[Matched]] | None = None,
) -> pl.DataFrame:
    """One row a predictor, columns WORTH: `base` (default: PreServe's Tier-1), its headroom searched in each case.

    only: names of predictors, beside the floors and the truth; errors: injected into the truth. All start from the
    headroom that last-value needs. Every row is foresight, since the search looks at the evaluated part; what is
    learned is still from before it. each: searches policies from a first value, in place of `jobs` threads here.
    """
    asked = cases(base or PreServe(tier2=False), errors)
    if only is not None:
        kept = {*only, *FLOOR.values(), *BOUND.values()}
        asked = [case for case in asked if case.predictor in kept]
    policies = list(dict.fromkeys(case.policy for case in asked))

    names = {case.policy: case.predictor for case in reversed(asked)}

    def one(policy: Named, first: float | None) -> Matched:
        here = partial(say, policy.name)
        found = match(policy, ready, inputs, attain, first=first, tolerance=tolerance, step=STEP, say=here)
        here(1.0)
        return found

    def threads(wanted: Sequence[tuple[Named, float | None]]) -> list[Matched]:
        with ThreadPoolExecutor(max_workers=jobs) as pool:  # the kernel holds no interpreter lock
            return list(pool.map(lambda of: one(*of), wanted))

    each, named = each or threads, [Named(names[policy], policy, policy.router) for policy in policies]
    (floor,) = each([(named[0], None)])
    first = floor.at.value if floor.at else None
    # the floor again: what is found depends on where a search starts, and equal forecasts must cost the same
    found = dict(zip(policies, each([(one_of, first) for one_of in named]), strict=True))
    return _table(asked, found, {case: _error(case, ready, inputs) for case in asked})


def _error(case: Case, ready: Prepared, inputs: Inputs) -> float | None:
    """How far off what the policy is told is, over the evaluated part; None where it is told nothing."""
    policy = case.policy
    demand_error, length_error = errors_of(policy)
    if case.part == "demand":
        if policy.forecaster is None:
            return None
        lead_s = policy.start(ready.fleet, ready.history).lead_s
        return wape(compared(inputs.demand(policy.forecaster, lead_s, demand_error), ready))
    if case.predictor.startswith("none"):
        return None
    rows = ready.replayed.select(
        off=(pl.Series(inputs.lengths(policy.lengths, length_error)) - pl.col("output_tokens").cast(pl.Float64)).abs(),
        evaluated=pl.col("arrival_s") >= ready.cut_s,
    )
    return float(np.mean(rows.filter("evaluated")["off"].to_numpy()))


def _table(asked: list[Case], found: dict[Any, Matched], errors: dict[Case, float | None]) -> pl.DataFrame:
    rows = []
    for case in asked:
        of_part = {other.predictor: other.policy for other in reversed(asked) if other.part == case.part}
        mine, floor, bound = (found[p] for p in (case.policy, of_part[FLOOR[case.part]], of_part[BOUND[case.part]]))
        row = mine.row()
        rows.append(
            {name: row[name] for name in WORTH if name in row}
            | {
                "part": case.part,
                "predictor": case.predictor,
                "foresight": case.injected is not None,
                "injected": case.injected,
                "error": errors[case],
                "change": _ratio(mine, floor),
                "gap_closed": _closed(mine, floor, bound),
            }
        )
    return pl.DataFrame([[row[name] for name in WORTH] for row in rows], schema=WORTH, orient="row")


def _ratio(mine: Matched, floor: Matched) -> float | None:
    return mine.gpu_hours / floor.gpu_hours - 1 if mine.gpu_hours is not None and floor.gpu_hours else None


def _closed(mine: Matched, floor: Matched, bound: Matched) -> float | None:
    """Share of the gap between floor and truth; None where the gap is no wider than the brackets it lies between."""
    hours = (mine.gpu_hours, floor.gpu_hours, bound.gpu_hours)
    if any(h is None for h in hours):
        return None
    own, low, high = (h for h in hours if h is not None)
    wide = max(row["gpu_hours_matched_high"] - row["gpu_hours_matched_low"] for row in (floor.row(), bound.row()))
    return (low - own) / (low - high) if low - high > wide else None

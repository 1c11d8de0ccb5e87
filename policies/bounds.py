"""Bounds beside `oracle`: what no fleet can have, so none is a choice; marked foresight in every output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.protocol import History

from .autoscalers.hpa import Hpa
from .inputs import Inputs
from .oracle import Oracle
from .planning import PlanState, latest_issued, placed, size
from .prepare import Prepared
from .told import TRUTH

REQUESTS = "requests"


@dataclass(frozen=True, kw_only=True)
class PerfectSystem(Oracle):
    """replicas = ceil(λ/μ) of each window: its true requests over the requests/s a replica sustains, ready at once.

    The lower bound asked for in llm-d-autoscaling#1499, an estimate: it depends on the window (bursts within one are
    smoothed) and takes every window's mix of lengths to be the training part's.
    """

    def start(self, fleet: Fleet, history: History) -> PlanState:
        """μ in requests a second."""
        state = super().start(fleet, history)
        return PlanState(request_rates(history.rates), fleet, state.window_s, state.lead_s)

    def plan_all(self, demand: pl.DataFrame, state: PlanState) -> pl.DataFrame:
        """Replicas per window and pool."""
        requests = latest_issued(demand.filter(pl.col("metric") == REQUESTS), state.lead_s)
        return size(placed(requests, state.fleet), state.mu, self.headroom)


@dataclass(frozen=True, kw_only=True)
class ZeroColdStart(Hpa):
    """`hpa` with replicas that serve as soon as they are asked for: what reacting could come to at best."""

    foresight: ClassVar[bool] = True  # not of the load: nothing really starts at once
    instant_start: ClassVar[bool] = True


def request_rates(rates: pl.DataFrame) -> pl.DataFrame:
    """service, lane, metric, mu: requests/s a replica sustains."""
    return rates.select("service", "lane", metric=pl.lit(REQUESTS), mu="requests_s")


def perfect_system(ready: Prepared, inputs: Inputs) -> float:
    """GPU-hours of the evaluated part at ceil(λ/μ) replicas in every window: what stands beside every policy."""
    policy = PerfectSystem()
    plan = policy.plan_all(inputs.demand(TRUTH, 0.0), policy.start(ready.fleet, ready.history))
    return perfect_hours(plan, ready.fleet.pools, ready.window_s, ready.end_s)


def perfect_hours(plan: pl.DataFrame, pools: Sequence[Pool], window_s: float, end_s: float) -> float:
    """GPU-hours of a plan (planning.size) whose last window ends at end_s."""
    gpus = {(pool.service, pool.region, pool.lane): pool.profile.gpus_per_replica for pool in pools}
    hours = 0.0
    for start_s, service, region, lane, n in plan.iter_rows():
        hours += n * gpus[service, region, lane] * min(window_s, end_s - start_s) / 3600.0
    return hours


def perfect_said(gpu_hours: float, window_s: float) -> str:
    """The bound in a sentence."""
    return (
        f"perfect system: {gpu_hours:,.1f} GPU-hours at ceil(λ/μ) replicas in every window of {window_s:g} s; a bound "
        "by foresight, and an estimate: for this window, and for the lengths of the training part"
    )

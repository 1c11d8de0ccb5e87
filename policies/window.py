"""Window fidelity: policies judged on windows of demand instead of requests; one setting or thousands at once.

Not modelled: routing, single requests, their latencies. `agreement` says how far it is from the replay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from polars import selectors as cs

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import Trace
from lmaas.analysis.windows import HOUR_S
from lmaas.replay.spending import MONTH_H

from .brought import no_windows
from .guard import checked_plan
from .inputs import Inputs
from .measured import FEW
from .planning import common_start, counts_by_start
from .prepare import Prepared
from .reacting import Timetable, reacts, reads_replicas
from .told import errors_of
from .window_demand import Steps, Work, lazy_requests, mix_of, scan_steps
from .window_plan import SUMS, Grid, by_setting, levels, plan_settings, score
from .window_react import scan
from .window_response import Response, learn
from .window_table import make_table

STEP_S = 5.0  # of demand within a window: short enough for the bursts that a mean over ten minutes hides
MOST = 32  # replicas a pool up to which load tests are made; larger pools answer like the largest tested
ROWS = 1_000_000  # settings x windows of a pool in memory at once: about 200 MB


@dataclass(frozen=True)
class Windows:
    """A trace made ready for window fidelity: demand in steps, and how each pool answers to load.

    Of the trace, the scan holds pools x steps; forecasts and μ are those of `ready`.
    """

    ready: Prepared
    inputs: Inputs
    requests: pl.LazyFrame
    grid: Grid
    works: tuple[Work, ...]
    responses: tuple[Response, ...]
    steps: Steps
    attain: float
    tables: dict[int, dict[int, tuple[np.ndarray, ...]]] = field(default_factory=dict)  # pool -> level -> rows

    @classmethod
    def of(cls, trace: Trace, ready: Prepared, inputs: Inputs, attain: float, load: float = 1.0) -> "Windows":
        """Load tests on the training part, then one streaming scan of the evaluated part."""
        if ready.prefixes is not None:
            raise ValueError("windows know no prefix cache, and its μ does: prepare(..., caches=False)")
        # a scaled load exists in memory only
        requests = lazy_requests(trace, ready) if load == 1 else ready.requests.lazy()
        works, responses = _learn(ready, _step_s(ready))
        return cls(
            ready, inputs, requests, _grid(ready), works, responses, _scan(requests, works, ready), attain
        )  # fmt: skip

    def until(self, ready: Prepared, inputs: Inputs) -> "Windows":
        """The same knowledge on `ready`, which ends earlier."""
        steps = _scan(self.requests, self.works, ready)
        return replace(self, ready=ready, inputs=inputs, grid=_grid(ready), steps=steps, tables={})

    def settings(self, policies: Sequence[Any]) -> pl.DataFrame:
        """One row a policy, in order: setting, policy (repr), gpu_hours_provisioned, gpu_hours_active, gpu_hours_tail,
        wasted_startup_hours, cost_usd, usd_per_month, utilisation, mean_backlog_s, scale_actions, slo_attainment,
        slo_risk. Policies that plan alike go through one pass; those that react are scanned one by one.

        mean_backlog_s: work left over a pool, in seconds of its capacity; slo_risk: share of requests that arrive in a
        window and pool in which fewer than the target attain.
        """
        sums = []
        for group in _alike(policies):
            size = max(1, ROWS // len(self.grid.start_s))
            for start in range(0, len(group), size):
                chunk = group[start : start + size]
                totals = self._sums(self.windows([policies[k] for k in chunk]))
                place = pl.Series("setting", chunk, dtype=pl.Int64).gather(totals["setting"])
                sums.append(totals.with_columns(place))
        scored = self._scores(pl.concat(sums)).sort("setting")
        return scored.with_columns(policy=pl.Series([repr(p) for p in policies]))

    def windows(self, policies: Sequence[Any]) -> list[pl.DataFrame]:
        """A frame a pool, of policies that plan alike: a row a policy (setting: its place) and window, as score's."""
        first, ready = policies[0], self.ready
        no_windows(first)
        states = [policy.start(ready.fleet, ready.history) for policy in policies]
        reacting = reacts(first) and not reads_replicas(first)
        if not (reacting or hasattr(first, "plan_all") or _still(first)):
            raise UserError(f"{type(first).__name__} has no plan_all: window fidelity cannot run it", Exit.USAGE)
        plans, lead = [], 0.0
        if hasattr(first, "plan_all"):
            lead = float(states[0].lead_s)
        if reacting:
            return self._react(first, states[0], lead)
        if hasattr(first, "plan_all"):
            forecasts = self.inputs.demand(first.forecaster, lead, errors_of(first)[0])
            plans = plan_settings(list(policies), states, forecasts, ready.fleet, self.grid)
        begin = self._initial(policies, states)
        frames = []
        for number, pool in enumerate(ready.fleet.pools):
            initial = [None if n is None else n[number] for n in begin]
            counts = levels(plans, number, pool, initial, len(self.grid.start_s))
            needed = np.unique(np.concatenate([counts["replicas"].unique(), counts["before"].unique()]))
            frames.append(
                score(counts, pool, self._table(number, needed), self.responses[number], self.grid, lead_s=lead,
                      instant=first.instant_start)
            )  # fmt: skip
        return frames

    def _initial(self, policies: Sequence[Any], states: Sequence[Any]) -> list[list[int] | None]:
        """Replicas each policy begins with; None: those of its first window, which start at once."""
        ready = self.ready
        common = common_start(ready.fleet, ready.history)
        begin: list[list[int] | None] = []
        for policy, state in zip(policies, states, strict=True):
            own = policy.initial(ready.fleet, ready.history, state)
            begin.append(
                None if own is None and policy.instant_start else common if own is None else [int(n) for n in own]
            )
        return begin

    def _react(self, policy: Any, state: Any, lead_s: float) -> list[pl.DataFrame]:
        ready = self.ready
        steps = scan_steps(
            self.requests, self.works, step_s=policy.control_s, start_s=ready.start_s, end_s=ready.horizon_s
        )
        (begin,) = self._initial([policy], [state])
        decided = self._decided(policy, state, lead_s) if hasattr(policy, "plan_all") else None
        initial = begin or common_start(ready.fleet, ready.history)
        return scan(policy, state, ready, steps, list(self.responses), self.grid, initial, decided)

    def _decided(self, policy: Any, state: Any, lead_s: float) -> tuple[Timetable, np.ndarray, set[float]]:
        """What a policy that plans besides reacting has planned, when it decides, and when windows begin."""
        ready = self.ready
        forecasts = self.inputs.demand(policy.forecaster, lead_s, errors_of(policy)[0])
        plan = checked_plan(policy.plan_all(forecasts, state))
        starts = np.unique(forecasts["start_s"].to_numpy())
        times = policy.decisions(starts, state)
        table = Timetable(*counts_by_start(plan, ready.fleet), lead_s, ready.window_s)
        return table, times[times >= ready.start_s], set(starts.tolist())

    def _table(self, number: int, counts: np.ndarray) -> Any:
        first = math.ceil((self.ready.cut_s - self.ready.start_s) / self.steps.step_s - 1e-9)
        per_window = round(self.grid.window_s / self.steps.step_s)
        known = self.tables.setdefault(number, {})
        return make_table(
            self.steps, number, self.responses[number], counts, first=first, per_window=per_window,
            windows=len(self.grid.start_s), known=known,
        )  # fmt: skip

    def scores(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        """The columns of `settings` but for the name, of `windows`' frames."""
        return self._scores(self._sums(frames))

    def _sums(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        """SUMS by setting and pool."""
        parts = [
            by_setting(frame, self.attain).select("setting", pl.lit(k).alias("pool"), pl.col(*SUMS).cast(pl.Float64))
            for k, frame in enumerate(frames)
        ]
        return pl.concat(parts)

    def _scores(self, sums: pl.DataFrame) -> pl.DataFrame:
        """Sums by setting and pool -> the columns of `settings` but for the name."""
        pools = self.ready.fleet.pools
        prices = [pool.profile.usd_per_gpu_hour for pool in pools]  # windows know no mixed replicas
        priced = all(price is not None for price in prices)
        capacity = pl.Series([response.capacity for response in self.responses])
        usd = pl.Series([price or 0.0 for price in prices], dtype=pl.Float64)
        hours = (self.ready.end_s - self.ready.cut_s) / HOUR_S
        cost = (pl.col("hours") * pl.lit(usd).gather(pl.col("pool"))).sum()
        tail = (pl.col("tail_hours") * pl.lit(usd).gather(pl.col("pool"))).sum()
        total = {name: pl.col(name).sum() for name in SUMS}
        span = (self.ready.horizon_s - self.ready.cut_s) * len(pools)
        none = pl.lit(None, pl.Float64)
        return (
            sums.group_by("setting")
            .agg(
                gpu_hours_provisioned=total["hours"],
                gpu_hours_active=total["active_hours"],
                gpu_hours_tail=total["tail_hours"],
                wasted_startup_hours=total["startup_hours"],
                cost_usd=cost if priced else none.first(),
                usd_per_month=(cost - tail) / hours * MONTH_H if priced and hours > 0 else none.first(),
                utilisation=total["busy_s"] / total["served_s"],
                mean_backlog_s=(pl.col("backlog") / pl.lit(capacity).gather(pl.col("pool"))).sum() / span,
                scale_actions=total["actions"].cast(pl.Int64),
                arrived=total["requests"].cast(pl.Int64),
                slo_attainment=total["attained"] / total["requests"],
                slo_risk=total["at_risk"] / total["requests"],
            )
            .with_columns(cs.float().round_sig_figs(12))
        )  # threads may sum in another order


def _still(policy: Any) -> bool:
    return not hasattr(policy, "plan") and not hasattr(policy, "plan_all")


def _alike(policies: Sequence[Any]) -> list[list[int]]:
    """Places of policies that can share a pass: the same class, forecast, lead and start; those that react alone."""
    groups: dict[Any, list[int]] = {}
    for k, policy in enumerate(policies):
        names = ("lead_s", "forecaster", "demand_error")
        key: Any = (
            k
            if reacts(policy) and not reads_replicas(policy)
            else (type(policy), *(getattr(policy, name, None) for name in names))
        )
        groups.setdefault(key, []).append(k)
    return list(groups.values())


def _step_s(ready: Prepared) -> float:
    """A whole number of steps makes a window."""
    return ready.window_s / math.ceil(ready.window_s / STEP_S - 1e-9)


def _scan(requests: pl.LazyFrame, works: Sequence[Work], ready: Prepared) -> Steps:
    step_s = _step_s(ready)
    warm = math.ceil((ready.cut_s - ready.start_s) / step_s - 1e-9)
    return scan_steps(requests, works, step_s=step_s, start_s=ready.cut_s - warm * step_s, end_s=ready.horizon_s)


def _grid(ready: Prepared) -> Grid:
    edges = ready.edges_s
    return Grid(edges[:-1], np.diff(edges), ready.window_s)


def _learn(ready: Prepared, step_s: float) -> tuple[tuple[Work, ...], tuple[Response, ...]]:
    """Work and response of every pool, from requests that were done before the cut (without any: from all, as μ is)."""
    known = ready.requests.filter(pl.col("done_s") < ready.cut_s)
    known = known if known.height else ready.requests
    works, responses = [], []
    for number, pool in enumerate(ready.fleet.pools):
        rates = ready.rates[pool.service, pool.lane]
        service = known.filter(pl.col("service") == pool.service)
        service = service if service.height >= FEW else known
        own = service.filter(pl.col("pool") == number)
        own = own if own.height >= FEW else service
        lengths = [service[name].to_numpy() for name in ("input_tokens", "output_tokens")]
        works.append(Work.of(pool.profile, rates, *lengths))
        responses.append(
            learn(pool, rates, works[-1], mix_of(own), own["arrival_s"].to_numpy(), step_s=step_s, most=MOST)
        )
    return tuple(works), tuple(responses)

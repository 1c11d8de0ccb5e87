"""SageServe's strategies: the hourly plan at once (LT-I), or as utilisation (LT-U) and forecast errors (LT-UA) ask."""

from collections import deque
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from lmaas.analysis.trace import TIERS
from lmaas.replay.fleet import PROMOTED, Fleet
from lmaas.replay.protocol import NOTHING, Actions, History, Seen

from ..ahead import Horizon
from ..autoscalers.base import not_negative
from ..knobs import check_switches
from ..prepare import Prepared
from ..told import Told
from .base import Run, Unified, let_in
from .costs import parsed, start_costs, vm_costs
from .planner import by_pool, counts, demand_ahead, hourly_problem, latest
from .slots import Slot, measured, slots_of, standing, sustained

if TYPE_CHECKING:
    from ..inputs import Inputs

HOUR_S = 3600.0
MINUTE_S = 60.0
MOST_BUFFER = 100.0


@dataclass
class Hour(Run):
    """What a strategy keeps of the hour it is in."""

    rate: np.ndarray = field(default_factory=lambda: np.zeros(0))  # θ by slot, prompt tokens/s
    costs: dict[str, np.ndarray] = field(default_factory=dict)  # α and σ by slot, as hourly_problem takes them
    goal: np.ndarray | None = None  # i8[slots], the hour's plan; what is left to it is the budget
    planned_s: float = -np.inf
    batch: np.ndarray = field(default_factory=lambda: np.zeros(0))  # prompt tokens of the tier since the last plan
    since_s: float | None = None  # when that began
    looked_s: float = -np.inf
    foretold: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # tokens/s, [minutes of the hour, pools]
    recent: deque[tuple[float, float, np.ndarray]] = field(default_factory=deque)  # (t, s, interactive tokens) of 60 s

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """What pools may run on."""
        return slots_of(self.fleet)

    @cached_property
    def by_pool(self) -> list[np.ndarray]:
        """The slots of each pool, i8."""
        pools = np.array([p for p, _ in self.slots])
        return [np.flatnonzero(pools == p) for p in range(len(self.fleet.pools))]

    def look(self, t: float, seen: Seen) -> None:
        """Count what came since the last look."""
        if t == self.looked_s:  # a plan and a step at one instant see the same
            return
        self.looked_s = t
        if self.since_s is None:
            self.since_s = t - seen.interval_s
        batch = seen.arrived_batch_tokens if len(seen.arrived_batch_tokens) else np.zeros_like(self.batch)
        self.batch = self.batch + batch
        self.recent.append((t, seen.interval_s, seen.arrived_input_tokens - batch))
        while self.recent[0][0] <= t - MINUTE_S + 1e-9:
            self.recent.popleft()

    def budget(self, seen: Seen) -> np.ndarray:
        """Replicas still to be added (or, below 0, given away) to come to the hour's plan, i8[slots]."""
        have = standing(self.fleet, seen)
        return np.zeros_like(have) if self.goal is None else self.goal - have


@dataclass(frozen=True, kw_only=True)
class Planner(Told, Unified):
    """Every hour: ρ from the forecast, replicas from the ILP (`ilp.solve`); what becomes of them is the strategy's.

    The paper's: ARIMA(3,1,2) on interactive prompt tokens a minute, ρ the largest of the minutes from 20 to 60 ahead
    plus `batch_buffer` of the last hour's batch tokens, the ILP with the share `local` (ε) and the regions' GPUs. The
    artifact's: `vm_cost` (α), `start_cost` (σ), ε = 1, on its one GPU type; by type they are given, or go with the
    replicas' prices (costs). Ours: θ is μ, the prompt tokens a replica sustains within the
    SLO, with `headroom` on top of ρ (the artifact counts a replica for half its measured rate); coefficients are fitted
    once a day on the past week and the forecast rolled on every hour (the artifact's is in-sample); batch requests that
    near their deadline are released whatever u is. A pool runs on its own profile and on those of other GPU types that
    the fleet file mixes in (slots).
    """

    forecaster: str = "arima-312"
    batch_buffer: float = 0.1  # share of the last hour's batch prompt tokens added to ρ
    batch_deadline_s: float = 86_400.0  # of batch requests without their own: released once 0.8 of it has passed
    vm_cost: float | str = 10.0  # α, of a replica for an hour: of the cheapest, or of each GPU type
    start_cost: float | str = 150.0  # σ, of a start, alike
    local: float = 1.0  # ε, share of its demand that a region serves itself

    horizon: ClassVar[Horizon] = Horizon()
    from_s: ClassVar[float] = 1200.0  # of the hour ahead, what ρ looks at
    until_s: ClassVar[float] = HOUR_S

    def __post_init__(self) -> None:
        Told.__post_init__(self)
        Unified.__post_init__(self)
        not_negative(
            batch_buffer=self.batch_buffer, batch_deadline_s=self.batch_deadline_s, local=self.local,
        )  # fmt: skip
        if self.local > 1:
            raise ValueError(f"local is {self.local}; a share from 0 to 1")
        if self.batch_buffer > MOST_BUFFER:
            raise ValueError(f"batch_buffer is {self.batch_buffer}; a share from 0 to {MOST_BUFFER:g}")
        for name, cost in (("vm_cost", self.vm_cost), ("start_cost", self.start_cost)):
            parsed(name, cost)

    def start(self, fleet: Fleet, history: History) -> Hour:
        """θ, α and σ of what pools may run on."""
        rate, slots = sustained(fleet, history), slots_of(fleet)
        costs = {"vm_cost": vm_costs(self.vm_cost, slots), "start_cost": start_costs(self.start_cost, slots)}
        return Hour.of(fleet, rate=rate, costs=costs, batch=np.zeros(len(fleet.pools)))  # type: ignore[return-value]

    def fitted(self, ready: Prepared, inputs: "Inputs") -> Prepared:
        """With θ of the profiles that pools mix in."""
        return measured(ready, inputs)

    def decisions(self, starts_s: np.ndarray, state: Hour) -> np.ndarray:
        """Every hour, from the first window that is forecast on."""
        if not len(starts_s):
            state.notes.append("nothing was planned: there was no interactive request to forecast from")
        windows = np.rint((starts_s - starts_s[:1]) / self.horizon.window_s).astype(np.int64)
        hourly: np.ndarray = starts_s[windows % round(self.horizon.every_s / self.horizon.window_s) == 0]
        return hourly

    def plan(self, t: float, demand: pl.DataFrame, seen: Seen, state: Hour) -> Actions:
        """The hour's plan, from forecasts issued by t and what is there."""
        state.look(t, seen)
        rho = demand_ahead(demand, state.fleet, t, self.from_s, self.until_s)
        if rho is None:
            return replace(NOTHING, release=self.due(t, seen))
        rho = (rho + self.batch_buffer * state.batch / max(t - (state.since_s or 0.0), MINUTE_S)) * (1 + self.headroom)
        state.batch, state.since_s = np.zeros_like(state.batch), t
        problem = hourly_problem(state.fleet, state.rate, rho, seen, local=self.local, **state.costs)
        state.goal, why = counts(problem, state.fleet)
        if why and not state.notes:
            state.notes.append(f"at t={t:g} s, for the first time, no plan met the hour's demand: {why}")
        state.planned_s = t
        hour = latest(demand).filter(pl.col("start_s").is_between(t - 1e-6, t + HOUR_S - 1e-6, closed="left"))
        state.foretold = by_pool(hour, state.fleet)
        return replace(self.begin_hour(t, seen, state), release=self.due(t, seen))

    def begin_hour(self, t: float, seen: Seen, state: Hour) -> Actions:
        """What is done of the plan at once."""
        raise NotImplementedError

    def react(self, t: float, seen: Seen, state: Hour) -> Actions:
        """Steps between plans."""
        state.look(t, seen)
        steps = self.steps(t, seen, state)
        there = np.zeros(sum(map(len, state.by_pool)), np.int64)
        there[list(steps)] = list(steps.values())
        return replace(self.towards(there, seen, state, t), release=let_in(seen))

    def towards(self, steps: np.ndarray, seen: Seen, state: Hour, t: float) -> Actions:
        """Actions that add (> 0) or take (< 0) so many, i8[slots]; by profile only where a pool has several."""
        alone = {p: int(steps[mine[0]]) for p, mine in enumerate(state.by_pool) if len(mine) == 1 and steps[mine[0]]}
        said = self.moves(alone, seen, state, t)
        more, fewer = {}, {}
        for p, mine in enumerate(state.by_pool):
            if len(mine) == 1 or not steps[mine].any():
                continue
            state.rests_until[p] = t + self.cooldown_s
            for slot in mine[steps[mine] != 0].tolist():
                place, step = (p, state.slots[slot][1].name), int(steps[slot])
                if step < 0 and self.lend:
                    fewer[place] = -step
                else:
                    more[place] = int(standing(state.fleet, seen)[slot]) + step
        return replace(said, replicas_of=more, donate_of=fewer)

    def steps(self, t: float, seen: Seen, state: Hour) -> dict[int, int]:
        """One more or one fewer, by slot."""
        return {}

    def due(self, t: float, seen: Seen) -> dict[int, int]:
        """Held batch requests of which most of the time until the deadline has passed, a pool."""
        if not seen.held.any():
            return {}
        held = seen.requests
        has_s = np.where(np.isnan(held.due_s), self.batch_deadline_s, held.due_s - held.arrival_s)
        late = held.arrival_s + PROMOTED * has_s <= t
        old = (held.where == "held") & (held.tier == TIERS.index("batch")) & late
        pools, n = np.unique(held.pool[old], return_counts=True)
        return dict(zip(pools.tolist(), n.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class LtI(Planner):
    """LT-I: the hour's plan at once, and nothing until the next one."""

    def begin_hour(self, t: float, seen: Seen, state: Hour) -> Actions:
        """All of it."""
        return self.towards(state.budget(seen), seen, state, t)


@dataclass(frozen=True, kw_only=True)
class LtU(Planner):
    """LT-U: the plan is a budget; one replica at a time as u asks for it.

    The paper's: out while the budget is above 0 and u > high, in while it is below 0 and u < low. The artifact's: with
    none left one more where u > `emergency`, given back later. `defer_in` = false is the artifact, too: it gives
    replicas away at the hour, at once, and defers only scale-outs. So is `by_utilisation` = false (its
    short_term_scaling): the budget is spent one action at a time whatever u is, and nothing beyond it.
    """

    emergency: float = 0.9  # u above which a replica beyond the plan is asked for
    defer_in: bool = True
    by_utilisation: bool = True

    def __post_init__(self) -> None:
        Planner.__post_init__(self)
        not_negative(emergency=self.emergency)
        check_switches(defer_in=self.defer_in, by_utilisation=self.by_utilisation)

    def begin_hour(self, t: float, seen: Seen, state: Hour) -> Actions:
        """Nothing, or what is to be given away."""
        if self.defer_in:
            return NOTHING
        return self.towards(np.minimum(state.budget(seen), 0), seen, state, t)

    def steps(self, t: float, seen: Seen, state: Hour) -> dict[int, int]:
        """Towards the plan as far as u says so, of the type that lacks or has over most; beyond it where it must be."""
        if state.goal is None:
            return {}
        u, left, found = self.utilisation(seen), state.budget(seen), {}
        beyond = self.beyond(t, u, state) if self.by_utilisation else np.zeros(len(u), np.int64)
        out, back = (u > self.high, u < self.low) if self.by_utilisation else np.ones((2, len(u)), np.bool_)
        free = state.free(seen, t)
        for p, mine in enumerate(state.by_pool):
            most, least = mine[int(np.argmax(left[mine]))], mine[int(np.argmin(left[mine]))]
            step = 1 if left[most] > 0 and out[p] else -1 if left[least] < 0 and back[p] else 0
            step = int(beyond[p]) if not left[mine].any() else step
            if free[p] and step:
                found[most if step > 0 else least] = step
        return found

    def beyond(self, t: float, u: np.ndarray, state: Hour) -> np.ndarray:
        """One more, by pool, where the plan is used up."""
        return (u > self.emergency).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class LtUA(LtU):
    """LT-UA: as LT-U, but beyond the plan it goes by how far the forecast is off, not by u.

    The artifact's: one more where the interactive prompt tokens of the last 60 s are above `gap` times those foretold
    for that minute. The paper's, by summary: one fewer where they are below `gap_in` times them, in the last
    `last_s` of the hour.
    """

    gap: float = 5.0
    gap_in: float = 0.5
    last_s: float = 1200.0

    def __post_init__(self) -> None:
        LtU.__post_init__(self)
        not_negative(gap=self.gap, gap_in=self.gap_in, last_s=self.last_s)

    def beyond(self, t: float, u: np.ndarray, state: Hour) -> np.ndarray:
        """One more or one fewer, by pool, where the plan is used up."""
        minute = int(np.ceil((t - state.planned_s) / MINUTE_S - 1e-9)) - 1
        if not 0 <= minute < len(state.foretold):
            return np.zeros(len(u), np.int64)
        over_s = max(sum(s for _, s, _ in state.recent), MINUTE_S)  # looks need not divide a minute
        came, foretold = np.sum([tokens for *_, tokens in state.recent], axis=0) / over_s, state.foretold[minute]
        late = t - state.planned_s >= HOUR_S - self.last_s
        return np.where(came > self.gap * foretold, 1, np.where(late & (came < self.gap_in * foretold), -1, 0))

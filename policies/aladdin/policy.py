"""Aladdin (arXiv 2405.06856): placement within constraints by the router, and as many workers as that needs."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import polars as pl

from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import NOTHING, Actions, History, Seen

from ..autoscalers.base import check_control, not_negative, positive
from ..brought import Brings
from ..knobs import check_headroom, check_switches
from ..planning import WHOLE, latest_issued, placed
from ..told import Told
from .drift import Mixes
from .limits import Placement, limits_of
from .rebalance import rebalanced
from .workers import best_profiles, reshaped

GIVEN, BEST = "given", "best"
REQUESTS = "requests"


@dataclass
class State:
    """What Aladdin keeps: its placement, the relations of the pools, and what it saw of them."""

    fleet: Fleet
    placement: Placement
    mixes: Mixes
    window_s: float
    lead_s: float
    router: str | None
    floor: np.ndarray  # i8[pools]: what the relation asks for now
    empty: list[deque[tuple[float, int]]]  # (t, workers without requests) of the last `linger_s`, by pool
    surplus: dict[tuple[int, int], int] = field(default_factory=dict)
    moved: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What was fitted, and how often again."""
        return (*self.mixes.said(), f"{self.moved:,} placements moved by rebalancing")


@dataclass(frozen=True, kw_only=True)
class Aladdin(Told):
    """Best-fit packing under limits on TTFT, time a token and KV; a worker is opened where no other can take a request.

    The paper's, as others sum it up (no code is public; its formulas are not checked against the paper): latency models
    linear in tokens, constraints (a) to (d), best fit, lengths by input alone, re-prediction, rebalancing of what has
    not started, the relation N = ceil(k5 r + c5), GPUs per worker by capacity per GPU. Ours: limits are the SLO's by
    service and tier; the relation is planned on by a forecast, one lead ahead, so that workers are there when they are
    needed; empty workers go when nothing is held and nothing starts; `headroom`, which divides both theta and adds to
    the forecast.
    """

    lengths: str = "input-bin"
    ttft_s: float | None = None  # T_ttft; None: the SLO's, by service and tier
    atgt_s: float | None = None  # T_atgt, average time a token; None likewise
    theta_ttft: float = 1.0  # shares of them to plan with
    theta_atgt: float = 1.0
    gamma: float = 0.5  # mean progress of a request
    no_harm: bool = True  # constraint (c)
    heartbeat_s: float = 1.0  # requests that wait for a worker are asked for again so often
    control_s: float = 5.0  # empty workers are released, placements rebalanced
    linger_s: float = 0.0  # how long a worker stays empty before it is released
    rebalance: bool = True
    ahead: bool = True  # workers by the relation and a forecast; false: by placement alone
    cover: float = 0.95  # share of the simulated time that the relation's workers suffice
    drift: float = 0.25  # of mean lengths, share: the relation is fitted again
    workers: str = GIVEN  # best: GPUs per worker by capacity per GPU, of the shapes that ship
    lead_s: float | None = None
    headroom: float = 0.0
    router: str = "aladdin"

    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_control(self.control_s)
        check_headroom(self.headroom)
        check_switches(rebalance=self.rebalance, ahead=self.ahead, no_harm=self.no_harm)
        positive(theta_ttft=self.theta_ttft, theta_atgt=self.theta_atgt, heartbeat_s=self.heartbeat_s, drift=self.drift)
        positive(**{name: getattr(self, name) for name in ("ttft_s", "atgt_s") if getattr(self, name) is not None})
        not_negative(linger_s=self.linger_s)
        if not 0 <= self.gamma <= 1 or not 0 < self.cover <= 1:
            raise ValueError(f"gamma is {self.gamma} and cover {self.cover}; shares, the second above 0")
        if self.heartbeat_s < 1e-3:
            raise ValueError(f"heartbeat_s is {self.heartbeat_s}; a time from 0.001 s")
        if self.lead_s is not None and not 0 <= self.lead_s <= 86_400:
            raise ValueError(f"lead_s is {self.lead_s}; a time from 0 to 86,400 s")
        if self.workers not in (GIVEN, BEST):
            raise ValueError(f"workers is {self.workers!r}; there are {GIVEN}, {BEST}")

    @property
    def brings(self) -> Brings:
        """The best worker of every service, where asked for; window fidelity has no workers to place on."""
        if self.workers == GIVEN:
            return Brings()
        return Brings(profiles=lambda ready: best_profiles(ready, self.placement), reshaped=reshaped)

    def placement(self, fleet: Fleet, history: History) -> Placement:
        """The router's parameters for this fleet."""
        limits = limits_of(fleet, history, self.ttft_s, self.atgt_s)
        less = 1 + self.headroom
        thetas = (self.theta_ttft / less, self.theta_atgt / less)
        return Placement(*thetas, self.gamma, self.heartbeat_s, limits, self.no_harm)

    def start(self, fleet: Fleet, history: History) -> State:
        """Limits, and the relation of every pool."""
        placement = self.placement(fleet, history)
        lead = self.lead_s
        if lead is None:
            lead = max(pool.profile.startup_s.cold for pool in fleet.pools)
        mixes = Mixes.of(fleet, history, placement, self.cover, self.drift)
        if self.ahead:
            mixes.fit()
        return State(
            fleet, placement, mixes, history.window_s, lead, placement.router if self.router == "aladdin" else None,
            np.zeros(len(fleet.pools), np.int64), [deque() for _ in fleet.pools],
        )  # fmt: skip

    def initial(self, fleet: Fleet, history: History, state: State) -> Sequence[int] | None:
        """The common start."""
        return None

    # --- ahead, by the relation ---

    def decisions(self, starts_s: np.ndarray, state: State) -> np.ndarray:
        """At the start of every window and lead_s before, rising."""
        return np.unique(np.concatenate([starts_s - state.lead_s, starts_s]))

    def plan(self, t: float, demand: pl.DataFrame, seen: Seen, state: State) -> Actions:
        """At least what the relation says for the windows that overlap [t, t + lead_s], of forecasts issued by t."""
        state.mixes.look(t, seen)
        if not self.ahead:
            return NOTHING
        state.mixes.refit()
        near = demand.filter(
            (pl.col("issued_s") <= t)
            & (pl.col("metric") == REQUESTS)
            & (pl.col("start_s") <= t + state.lead_s)
            & (pl.col("start_s") + state.window_s * WHOLE > t)
        )
        rows = placed(latest_issued(near, state.lead_s), state.fleet)
        state.floor = floors(rows, state, 1 + self.headroom)
        have = seen.active + seen.starting
        counts = {p: pool.clamp(max(have[p], state.floor[p])) for p, pool in enumerate(state.fleet.pools)}
        return Actions({p: n for p, n in counts.items() if n != have[p]})

    # --- at a look ---

    def react(self, t: float, seen: Seen, state: State) -> Actions:
        """Releases empty workers beyond what the relation asks for; moves placements that have not started."""
        state.mixes.look(t, seen)
        if seen.closer is None:
            return NOTHING  # windows have neither workers nor requests
        replicas = seen.replicas
        active = replicas.state == "active"
        none_there = active & (replicas.waiting + replicas.running == 0)
        empty = np.bincount(replicas.pool[none_there], minlength=len(state.fleet.pools))
        counts = {}
        for p, pool in enumerate(state.fleet.pools):
            kept = state.empty[p]
            kept.append((t, int(empty[p])))
            while kept[0][0] < t - self.linger_s:
                kept.popleft()
            have = int(seen.active[p] + seen.starting[p])
            spare = min(n for _, n in kept)
            if kept[0][0] > t - self.linger_s or seen.starting[p] or seen.held[p] or not spare:
                continue
            wanted = pool.clamp(min(have, max(have - spare, int(state.floor[p]))))
            if wanted < have:
                counts[p] = wanted
        migrate: list[tuple[int, int, int]] = []
        waits = [p for p in range(len(state.fleet.pools)) if seen.waiting[p] > 0 and seen.active[p] > 1]
        if self.rebalance and waits:
            migrate = rebalanced(state.fleet, t, waits, replicas, seen.requests, state.surplus, state.placement)
            state.moved += len(migrate)
        return Actions(counts, migrate=migrate)


def floors(rows: pl.DataFrame, state: State, times: float) -> np.ndarray:
    """i8[pools], the most that any window's requests need by the relation; rows: placed forecasts of requests."""
    numbers = {(pool.service, pool.region, pool.lane): p for p, pool in enumerate(state.fleet.pools)}
    found = np.zeros(len(state.fleet.pools), np.int64)
    columns = ("service", "origin", "lane", "value", "length_s")
    for service, region, lane, value, length_s in rows.select(columns).iter_rows():
        p = numbers.get((service, region, lane))
        if p is not None:
            found[p] = max(found[p], state.mixes.workers(p, times * value / length_s))
    return found

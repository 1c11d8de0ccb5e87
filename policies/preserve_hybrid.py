"""PreServe's baseline Hybrid (arXiv 2504.03702, RQ2): the mean of a plan and of thresholds on KV use."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import NOTHING, Actions, History, Seen

from .hysteresis import Steady
from .planning import PlanState, common_start


@dataclass
class Counts:
    """What either of the two would have in a pool."""

    planned: int
    reactive: int


@dataclass(frozen=True)
class HybridState(PlanState):
    """The plan's, and both counts of each pool."""

    pools: tuple[Counts, ...]


@dataclass(frozen=True, kw_only=True)
class PreServeHybrid(Steady):
    """ceil((planned + reactive) / 2): Tier-1's count, and one that grows above `high` of KV use, falls below `low`.

    Rule and numbers are the artifact's (its baselines Proactive and Reactive, the latter `kv-thresholds`). Our reading:
    the reactive count is its own, from the common start, within the pool's bounds, and not that of the fleet; were it,
    the mean could never be more than one above the plan.
    """

    router: str = "preserve"
    lengths: str = "trees"
    high: float = 0.92  # KV use of the active replicas
    low: float = 0.10
    control_s: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low is {self.low} and high {self.high}; shares, low below high, at most 1")
        if not 1 <= self.control_s <= 86_400:
            raise ValueError(f"control_s is {self.control_s}; a time from 1 to 86,400 s")

    def start(self, fleet: Fleet, history: History) -> HybridState:
        """The plan's state; both counts begin with the fleet."""
        one = super().start(fleet, history)
        there = [n + pool.beside for n, pool in zip(common_start(fleet, history), fleet.pools, strict=True)]
        return HybridState(one.mu, one.fleet, one.window_s, one.lead_s, tuple(Counts(n, n) for n in there))

    def adopt(self, t: float, counts: Mapping[int, int], fresh: bool, seen: Seen, state: HybridState) -> Actions:
        """The plan's count is kept for the next look."""
        for p, n in counts.items():
            state.pools[p].planned = n if fresh else max(n, state.pools[p].planned)
        return NOTHING

    def react(self, t: float, seen: Seen, state: HybridState) -> Actions:
        """The mean of both, rounded up."""
        said = {}
        for p, (pool, counts) in enumerate(zip(state.fleet.pools, state.pools, strict=True)):
            use = float(seen.kv_fraction[p])
            counts.reactive = max(1, pool.clamp(counts.reactive + (use > self.high) - (use < self.low)))
            said[p] = pool.clamp(math.ceil((counts.planned + counts.reactive) / 2))
        return Actions(said)

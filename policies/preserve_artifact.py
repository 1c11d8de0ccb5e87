"""PreServe as its artifact scales (arXiv 2504.03702): thresholds on the mean KV to come, above a plan."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lmaas.replay.anticipation import ARTIFACT
from lmaas.replay.fleet import PREFILL, Fleet
from lmaas.replay.protocol import NOTHING, Actions, History, Seen

from .hysteresis import Steady
from .planning import PlanState
from .preserve import check_anticipation
from .tier2 import Thresholds, looks

NEVER_FULL = Thresholds(math.inf, 0.0, 0.0)  # what is full in the paper is nothing to the artifact


@dataclass
class Memory:
    """Of a pool: Tier-1's count, until when it is frozen, for how many ticks locked."""

    planned: int = 0
    frozen_s: float = -math.inf
    locked: int = 0


@dataclass(frozen=True)
class ArtifactState(PlanState):
    """Tier-1's, and what is remembered of each pool."""

    pools: tuple[Memory, ...]


@dataclass(frozen=True, kw_only=True)
class PreServeArtifact(Steady):
    """The larger of Tier-1 with hysteresis and N + 2, + 1 or - 1 by the mean KV to come, r; a minute between changes.

    r: mean over the active replicas of the highest KV in the next `lookahead` iterations. Above `emergency`
    floor(r · N / emergency_target), at once, and nothing else for `locked_ticks` looks. All numbers are the artifact's
    (low: of its code trace; 0.15 on its conversations). It replays a trace 24 times compressed, so that its 5 s and
    60 s are 2 and 24 minutes of that trace: here they are real seconds. It asks Tier-1 every fourth look, which changes
    nothing within a window. Not its own: bounds (1 to 8 replicas) and start (4), which are the fleet's, and μ.
    Read into it: steps count from replicas that are active or start, the emergency's N from those active, which r is
    the mean of; the hysteresis is on Tier-1's own count; changes of either tier freeze.
    """

    hysteresis: bool = True
    router: str = "preserve"
    lengths: str = "trees"
    lookahead: int = 200  # iterations
    high: float = 0.7  # r above it: one more
    higher: float = 0.85  # r above it: two more
    low: float = 0.2  # r below it: one fewer
    freeze_s: float = 60.0
    emergency: float = 0.8
    emergency_target: float = 0.4
    locked_ticks: int = 3
    extension: str = ARTIFACT
    control_s: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_anticipation(self.lookahead, self.extension, self.control_s)
        if not (0 <= self.low < self.high <= self.higher and self.high <= self.emergency and self.emergency_target > 0):
            raise ValueError(
                f"low is {self.low}, high {self.high}, higher {self.higher}, emergency {self.emergency}, "
                f"emergency_target {self.emergency_target}; shares of KV, low below high, the next two not below "
                "it, the last above 0"
            )
        if not 0 <= self.freeze_s <= 86_400:
            raise ValueError(f"freeze_s is {self.freeze_s}; a time from 0 to 86,400 s")
        if not 0 <= self.locked_ticks <= 1000 or self.locked_ticks % 1:
            raise ValueError(f"locked_ticks is {self.locked_ticks}; a whole number from 0 to 1,000")

    @property
    def ahead_iterations(self) -> int:
        """Of the map it sees."""
        return self.lookahead

    def start(self, fleet: Fleet, history: History) -> ArtifactState:
        """Tier-1's state, nothing frozen."""
        one = super().start(fleet, history)
        return ArtifactState(one.mu, one.fleet, one.window_s, one.lead_s, tuple(Memory() for _ in fleet.pools))

    def adopt(self, t: float, counts: Mapping[int, int], fresh: bool, seen: Seen, state: ArtifactState) -> Actions:
        """Tier-1's count is kept for the next look."""
        for p, n in counts.items():
            memory = state.pools[p]
            memory.planned = n if fresh else max(n, memory.planned)
        return NOTHING

    def react(self, t: float, seen: Seen, state: ArtifactState) -> Actions:
        """Both tiers' count, where it may change."""
        if seen.closer is None:
            return NOTHING  # windows have no replicas: Tier-1's plan is followed
        pools, said = state.fleet.pools, {}
        for p, (pool, look) in enumerate(zip(pools, looks(seen.replicas, NEVER_FULL, len(pools)), strict=True)):
            have = int(seen.active[p] + seen.starting[p])
            peaks = [] if pool.lane == PREFILL else look.peaks  # nothing decodes there
            wanted = pool.clamp(self.wanted(t, peaks, have, state.pools[p]))
            if wanted != have:
                said[p] = wanted
        return Actions(said)

    def wanted(self, t: float, peaks: list[float], have: int, memory: Memory) -> int:
        """The count of a pool; peaks: by active replica, none: nothing is anticipated; have: all but draining ones."""
        r = sum(peaks) / len(peaks) if peaks else math.nan
        if memory.locked > 0:
            memory.locked -= 1
            return have
        if r > self.emergency:
            memory.locked = self.locked_ticks
            wanted = max(memory.planned, have, math.floor(r * len(peaks) / self.emergency_target + 1e-9))
        elif t < memory.frozen_s:
            return have
        else:
            step = 2 if r > self.higher else 1 if r > self.high else -1 if r < self.low else 0
            wanted = max(memory.planned, have + step) if peaks else memory.planned
        if wanted != have:
            memory.frozen_s = t + self.freeze_s
        return wanted

"""Kubernetes' HorizontalPodAutoscaler (autoscaling/v2 defaults) on requests present per replica."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import Actions, History, Seen


@dataclass
class HpaState:
    """Targets a pool, and the recommendations of the stabilisation window: (time, replicas)."""

    fleet: Fleet
    target: list[float]
    recommended: list[deque[tuple[float, int]]] = field(default_factory=list)


@dataclass(frozen=True)
class Hpa:
    """N' = ceil(N · metric / target), within a tolerance, rate-limited up and stabilised down.

    metric: (running + waiting) / active; replicas not ready yet count as idle when scaling up, as in Kubernetes.
    target: requests present per replica; None: their mean at the sustainable rate μ. Source: Kubernetes docs,
    "Horizontal Pod Autoscaling", algorithm details and default behaviour.
    """

    target: float | None = None
    tolerance: float = 0.1
    control_s: float = 15.0  # sync period
    up_share: float = 1.0  # at most +100 % ...
    up_replicas: int = 4  # ... or +4, whichever is more, a period
    down_window_s: float = 300.0  # scale in to the highest recommendation of this long
    router: str = "least-requests"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None
    lengths: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.target is not None and not 0 < self.target < math.inf:
            raise ValueError(f"target is {self.target}; requests a replica, above 0")
        if not 1 <= self.control_s <= 86_400:
            raise ValueError(f"control_s is {self.control_s}; a time from 1 to 86,400 s")
        for name in ("tolerance", "up_share", "up_replicas", "down_window_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; a number from 0")

    def start(self, fleet: Fleet, history: History) -> HpaState:
        """The target of every pool."""
        mean = {(s, lane): n for s, lane, n in history.rates.select("service", "lane", "mean_running").iter_rows()}
        targets = [self.target or max(mean[pool.service, pool.lane], 0.1) for pool in fleet.pools]
        return HpaState(fleet, targets, [deque() for _ in fleet.pools])

    def initial(self, fleet: Fleet, history: History, state: HpaState) -> Sequence[int] | None:
        """The common start."""
        return None

    def desired(self, active: int, starting: int, present: float, target: float) -> int:
        """The raw recommendation for one pool."""
        now = active + starting
        if active == 0:
            return max(now, math.ceil(present / target))
        ratio = present / active / target
        if abs(ratio - 1) <= self.tolerance:
            return now
        if ratio < 1:
            return math.ceil(ratio * active)
        with_idle = present / now / target  # replicas not ready count as idle
        return now if with_idle <= 1 + self.tolerance else math.ceil(with_idle * now)

    def react(self, t: float, seen: Seen, state: HpaState) -> Actions:
        """The stabilised, rate-limited and bounded count of every pool."""
        counts: dict[int, int] = {}
        for p, pool in enumerate(state.fleet.pools):
            active, starting = int(seen.active[p]), int(seen.starting[p])
            now = active + starting
            present = float(seen.running[p] + seen.waiting[p] + seen.queued[p])
            wanted = pool.clamp(self.desired(active, starting, present, state.target[p]))
            recent = state.recommended[p]
            recent.append((t, wanted))
            while recent[0][0] < t - self.down_window_s:
                recent.popleft()
            if wanted < now:
                wanted = min(now, max(n for _, n in recent))
            most = max(math.ceil(now * (1 + self.up_share)), now + self.up_replicas)
            counts[p] = min(wanted, most)
        return Actions(counts)

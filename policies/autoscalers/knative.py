"""Knative's pod autoscaler (KPA): a stable and a panic window over concurrency."""

import math
from dataclasses import dataclass
from typing import Any

from lmaas.replay.fleet import Pool

from ..knobs import check_headroom
from .base import Autoscaler, PoolSeen, Samples, factors, not_negative, positive, usual_load


@dataclass
class Panic:
    """What was measured, since when it panics (None: it does not), the most it wanted since, what it wanted lately."""

    target: float
    measured: Samples
    decided: Samples
    since_s: float | None = None
    most: int = 0


@dataclass(frozen=True, kw_only=True)
class Windowed(Autoscaler):
    """Two windows over one measure: the stable one decides, the short one where it wants panic × what is ready.

    In panic nothing is scaled in; it ends stable_window_s after the short window last asked for so much. It begins in
    panic where more than one replica is ready: nothing goes until there is a stable window to go by. A count is at most
    max_up × and at least 1/max_down of the ready replicas. Scale-in waits until delay_s want no more. Source:
    knative/serving, pkg/autoscaler/scaling/autoscaler.go (newAutoscaler, Scale).
    """

    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic: float = 2.0  # times what is ready
    max_up: float = 1000.0
    max_down: float = 2.0
    delay_s: float = 0.0
    control_s: float = 2.0

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        positive(stable_window_s=self.stable_window_s, panic_window_s=self.panic_window_s, panic=self.panic)
        not_negative(delay_s=self.delay_s)
        if self.panic_window_s > self.stable_window_s:
            raise ValueError(f"panic_window_s is {self.panic_window_s}; at most stable_window_s")
        factors(max_up=self.max_up, max_down=self.max_down)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Panic:
        """Nothing measured, no panic."""
        return Panic(self.aim(pool, rates), Samples(self.stable_window_s), Samples(self.delay_s))

    def count(self, pool: PoolSeen, memory: Panic) -> int:
        """The count of the window that decides."""
        if not memory.measured.kept and pool.active > 1:
            memory.since_s, memory.most = pool.t, pool.active
        memory.measured.add(pool.t, self.measure(pool))
        ready = max(1, pool.active)
        stable = math.ceil(memory.measured.mean() / memory.target)
        short = math.ceil(memory.measured.mean(self.panic_window_s) / memory.target)
        if short / ready >= self.panic:
            memory.since_s = pool.t  # begins or goes on
        elif memory.since_s is not None and memory.since_s + self.stable_window_s < pool.t:
            memory.since_s, memory.most = None, 0
        wanted = self.within(stable, ready)
        if memory.since_s is not None:
            memory.most = wanted = max(wanted, self.within(short, ready), memory.most)
        memory.decided.add(pool.t, wanted)
        return int(memory.decided.most())

    def within(self, wanted: int, ready: int) -> int:
        """Limited to [ready / max_down, ready · max_up]."""
        return min(max(wanted, math.floor(ready / self.max_down)), math.ceil(ready * self.max_up))

    def aim(self, pool: Pool, rates: dict[str, Any]) -> float:
        """What one replica should have of the measure."""
        raise NotImplementedError

    def measure(self, pool: PoolSeen) -> float:
        """The measure, summed over the replicas."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Knative(Windowed):
    """Knative's KPA on requests present: average concurrency / (concurrency · utilisation) over 60 s, or 6 s in panic.

    concurrency: requests a replica is meant for; None: their mean at the sustainable rate μ. The target is divided by
    1 + headroom, which is ours, as in hpa: utilisation ends at 1. Knative samples every second, here every tick of 2 s
    (its tick-interval). Activation from zero is the replay's queue.
    """

    concurrency: float | None = None
    utilisation: float = 0.7
    headroom: float = 0.0

    def __post_init__(self) -> None:
        Windowed.__post_init__(self)
        if self.concurrency is not None:
            positive(concurrency=self.concurrency)
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation is {self.utilisation}; a share above 0")
        check_headroom(self.headroom)

    def aim(self, pool: Pool, rates: dict[str, Any]) -> float:
        """Requests a replica."""
        return (self.concurrency or usual_load(pool, rates)) * self.utilisation / (1 + self.headroom)

    def measure(self, pool: PoolSeen) -> float:
        """Requests present."""
        return pool.present

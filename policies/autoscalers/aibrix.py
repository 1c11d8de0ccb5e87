"""AIBrix's two autoscalers, on KV-cache use: APA (one ratio with tolerances) and its variant of Knative's KPA."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from lmaas.replay.fleet import Pool

from ..knobs import Knob
from .base import Autoscaler, PoolSeen, Samples, factors, not_negative, positive
from .knative import Windowed

KV_USE = Knob("target", offset=0.0, least=0.05, most=1.0, falls=True)


@dataclass(frozen=True, kw_only=True)
class AibrixApa(Autoscaler):
    """ratio = use / target; above 1 + up: ceil(N · ratio), at most max_up · N; below 1 - down: at least N / max_down.

    N: replicas active or starting; use: mean KV-cache use of the active ones over window_s (`gpu_cache_usage_perc`).
    While some start it asks for no more than ceil(active · ratio) beyond what it has, and scales in as if these were
    at the target (AIBrix's pending-replica guard; without it one lack is answered at every tick of a cold start). *Left
    out:* its cooldown of 300 s for scale-in, which takes the lowest count asked for in that time and so undoes a
    recovery. Source: vllm-project/aibrix, pkg/controller/podautoscaler, algorithm/apa.go and autoscaler.go
    (applyPendingReplicaGuard); target and window of its examples.
    """

    target: float = 0.5
    up: float = 0.1
    down: float = 0.1
    max_up: float = 2.0
    max_down: float = 2.0
    window_s: float = 30.0
    control_s: float = 10.0

    knob: ClassVar[Knob] = KV_USE

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        positive(target=self.target, window_s=self.window_s)
        not_negative(up=self.up, down=self.down)
        factors(max_up=self.max_up, max_down=self.max_down)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Samples:
        """Nothing measured."""
        return Samples(self.window_s)

    def count(self, pool: PoolSeen, memory: Samples) -> int:
        """The count of the ratio, where it is outside the tolerances."""
        memory.add(pool.t, pool.kv_fraction)
        now = pool.ordered
        ratio = memory.mean() / self.target
        wanted = math.ceil(now * ratio)
        if ratio > 1 + self.up:
            wanted = min(wanted, math.ceil(self.max_up * now))
            return min(wanted, max(now, math.ceil(pool.active * ratio))) if pool.starting else wanted
        if ratio < 1 - self.down:
            wanted = max(wanted, math.floor(now / self.max_down))
            return max(wanted, min(now, math.ceil(pool.active * ratio + pool.starting)))
        return now


@dataclass(frozen=True, kw_only=True)
class AibrixKpa(Windowed):
    """Knative's rule on KV-cache use in replicas: windows of 60 and 10 s, at most doubled or halved, in after 30 min.

    Source: vllm-project/aibrix, pkg/controller/podautoscaler/scaler/kpa.go (NewKpaScalingContext); target as in APA.
    """

    target: float = 0.5  # KV-cache use of a replica
    panic_window_s: float = 10.0
    max_up: float = 2.0
    delay_s: float = 1800.0
    control_s: float = 10.0

    knob: ClassVar[Knob] = KV_USE

    def __post_init__(self) -> None:
        Windowed.__post_init__(self)
        positive(target=self.target)

    def aim(self, pool: Pool, rates: dict[str, Any]) -> float:
        """KV-cache use of a replica."""
        return self.target

    def measure(self, pool: PoolSeen) -> float:
        """KV-cache use summed over the active replicas."""
        return pool.kv_fraction * pool.active

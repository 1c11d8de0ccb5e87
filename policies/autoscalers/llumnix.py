"""Llumnix's autoscaling on freeness: free KV blocks a request."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from lmaas.replay.fleet import Pool

from ..knobs import Knob, check_headroom
from .base import Autoscaler, PoolSeen, not_negative


@dataclass(frozen=True, kw_only=True)
class Llumnix(Autoscaler):
    """+1 where the mean freeness is below up_freeness, -1 where it were above down_freeness without one of them.

    freeness = (free blocks - blocks that waiting prompts need) / requests, over all replicas. Ours: a waiting prompt
    needs the mean prompt's blocks (single queues are not looked into), and starting replicas count as free, so that
    one lack is not answered every ten seconds; both thresholds are multiplied by 1 + headroom. Its dispatch is the
    router `llumnix`; its migration between replicas is not part of this policy. Thresholds and the rule:
    AlibabaPAI/llumnix, global_scheduler/scaling_scheduler.py (OSDI'24), `avg_load`, where load is minus freeness.
    """

    up_freeness: float = 10.0  # blocks a request
    down_freeness: float = 60.0
    control_s: float = 10.0
    headroom: float = 0.0
    router: str = "llumnix"

    knob: ClassVar[Knob] = Knob(most=99.0)  # of short requests ten times the thresholds are still few blocks

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        not_negative(up_freeness=self.up_freeness, down_freeness=self.down_freeness)
        if self.down_freeness < self.up_freeness:
            raise ValueError(f"down_freeness is {self.down_freeness}; at least up_freeness")
        check_headroom(self.headroom)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> tuple[int, float]:
        """KV blocks a replica, and those of a mean prompt."""
        blocks = pool.profile.kv_tokens // pool.profile.block
        prompt = float(rates["prompt_tokens_s"]) / max(float(rates["requests_s"]), 1e-12)
        return blocks, math.ceil(prompt / pool.profile.block)

    def count(self, pool: PoolSeen, memory: tuple[int, float]) -> int:
        """One more, one fewer, or as it is."""
        if self.freeness(pool, pool.ordered, memory) < self.up_freeness * (1 + self.headroom):
            return pool.ordered + 1
        spare = self.down_freeness * (1 + self.headroom)
        if pool.ordered > 1 and self.freeness(pool, pool.ordered - 1, memory) > spare:
            return pool.ordered - 1
        return pool.ordered

    def freeness(self, pool: PoolSeen, replicas: int, memory: tuple[int, float]) -> float:
        """Free blocks a request if there were so many replicas; infinite without requests."""
        blocks, prompt = memory
        if pool.present == 0:
            return math.inf
        used = pool.kv_fraction * pool.active * blocks
        free = max(0.0, replicas * blocks - used)
        return (free - pool.waiting * prompt) / pool.present

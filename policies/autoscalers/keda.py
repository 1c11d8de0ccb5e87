"""KEDA on waiting requests, as vLLM's production-stack sets it up."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from lmaas.replay.fleet import Pool

from ..knobs import Knob
from .base import PoolSeen, Samples, not_negative, positive
from .behaviour import Behaving


@dataclass
class Quiet:
    """Recommendations of the stabilisation window, whether the pool may be empty, and when something last waited."""

    recommended: Samples
    to_zero: bool
    busy_s: float = -math.inf


@dataclass(frozen=True, kw_only=True)
class Keda(Behaving):
    """N' = ceil(waiting requests / threshold) through an HPA on an average value; to 0 after a quiet cooldown.

    The HPA KEDA makes has Kubernetes' tolerance and default behaviour, and keeps one replica. Where the pool's minimum
    is 0, KEDA itself takes all that are left once nothing has waited for `cooldown_s`, and starts the first one where
    something does (ScaledObject specification, cooldownPeriod; kedacore/keda, pkg/scaling/executor). It never asks for
    more than its maxReplicaCount, 100 by default. Threshold 5, polling 15 s and cooldown 360 s are those of the vLLM
    production-stack tutorial (`vllm:num_requests_waiting`).
    """

    threshold: float = 5.0  # waiting requests a replica
    cooldown_s: float = 360.0
    control_s: float = 15.0  # polling interval
    max_replicas: int = 100  # a pool

    knob: ClassVar[Knob] = Knob("threshold", offset=0.0, least=0.1, most=1000.0, falls=True)

    def __post_init__(self) -> None:
        Behaving.__post_init__(self)
        positive(threshold=self.threshold)
        not_negative(cooldown_s=self.cooldown_s)
        positive(max_replicas=self.max_replicas)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Quiet:
        """Nothing waited yet."""
        return Quiet(self.behaviour().remember(), pool.minimum == 0)

    def count(self, pool: PoolSeen, memory: Quiet) -> int:
        """The stabilised, rate-limited count, and KEDA's own from and to zero."""
        if pool.waiting > 0:
            memory.busy_s = pool.t
        if pool.ordered == 0:
            return 1 if pool.waiting > 0 else 0
        if memory.to_zero and pool.t - memory.busy_s >= self.cooldown_s:
            return 0
        wanted = self.behaviour().limited(pool, self.desired(pool), memory.recommended)
        return min(max(1, wanted), self.max_replicas)

    def desired(self, pool: PoolSeen) -> int:
        """ceil(waiting / threshold); as it is within the tolerance of that average."""
        if pool.ordered and abs(pool.waiting / (self.threshold * pool.ordered) - 1) <= self.tolerance:
            return pool.ordered
        return math.ceil(pool.waiting / self.threshold)

"""Kubernetes' HorizontalPodAutoscaler (autoscaling/v2 defaults) on requests present per replica."""

import math
from dataclasses import dataclass
from typing import Any

from lmaas.replay.fleet import Pool

from ..knobs import check_headroom
from .base import PoolSeen, Samples, positive, usual_load
from .behaviour import Behaving


@dataclass(frozen=True, kw_only=True)
class Hpa(Behaving):
    """N' = ceil(N · metric / target), within a tolerance, rate-limited up and stabilised down.

    metric: (running + waiting) / active; replicas not ready yet count as idle when scaling up, as in Kubernetes.
    target: requests present per replica; None: their mean at the sustainable rate μ. It is divided by 1 + headroom,
    which is ours: one number tunes services whose targets differ. Source: Kubernetes docs,
    "Horizontal Pod Autoscaling", algorithm details and default behaviour.
    """

    target: float | None = None
    control_s: float = 15.0  # sync period
    headroom: float = 0.0

    def __post_init__(self) -> None:
        Behaving.__post_init__(self)
        if self.target is not None:
            positive(target=self.target)
        check_headroom(self.headroom)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> tuple[float, Samples]:
        """The target, and recent recommendations."""
        target = (self.target or usual_load(pool, rates)) / (1 + self.headroom)
        return target, self.behaviour().remember()

    def count(self, pool: PoolSeen, memory: tuple[float, Samples]) -> int:
        """The stabilised, rate-limited count."""
        target, recommended = memory
        return self.behaviour().limited(pool, self.desired(pool, target), recommended)

    def desired(self, pool: PoolSeen, target: float) -> int:
        """The raw recommendation."""
        if pool.active == 0:
            return max(pool.ordered, math.ceil(pool.present / target))
        ratio = pool.present / pool.active / target
        if abs(ratio - 1) <= self.tolerance:
            return pool.ordered
        if ratio < 1:
            return math.ceil(ratio * pool.active)
        with_idle = pool.present / pool.ordered / target  # replicas not ready count as idle
        return pool.ordered if with_idle <= 1 + self.tolerance else math.ceil(with_idle * pool.ordered)

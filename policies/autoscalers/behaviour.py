"""How Kubernetes' HorizontalPodAutoscaler moves to the count it wants: limited on the way up, stabilised down."""

import math
from dataclasses import dataclass

from .base import Autoscaler, PoolSeen, Samples, not_negative


@dataclass(frozen=True)
class Behaviour:
    """autoscaling/v2's `behavior`, with its defaults.

    Where less is wanted than is there, the highest recommendation of the last down_window_s is kept to, never more than
    is there; the first of them is the count that it finds: a fleet is not scaled in before it was looked at for so
    long. An object without any `behavior` goes another way, which is not this: it also scales out to that highest one.
    Source: Kubernetes docs, "Horizontal Pod Autoscaling", default behaviour; kubernetes/kubernetes,
    pkg/controller/podautoscaler/horizontal.go, recordInitialRecommendation and stabilizeRecommendationWithBehaviors.
    """

    up_share: float = 1.0  # at most +100 % a period ...
    up_replicas: int = 4  # ... or +4, whichever is more
    down_window_s: float = 300.0  # scale in to the highest recommendation of this long

    def __post_init__(self) -> None:
        not_negative(up_share=self.up_share, up_replicas=self.up_replicas, down_window_s=self.down_window_s)

    def remember(self) -> Samples:
        """Recommendations of the stabilisation window."""
        return Samples(self.down_window_s)

    def limited(self, pool: PoolSeen, wanted: int, recommended: Samples) -> int:
        """The count after stabilisation and the limit of one period."""
        now = pool.ordered
        if not recommended.kept:
            recommended.add(pool.t, now)
        recommended.add(pool.t, wanted)
        if wanted < now:
            recent = (int(n) for t, n in recommended.kept if t > pool.t - self.down_window_s)
            wanted = min(now, max(recent, default=wanted))
        return min(wanted, max(math.ceil(now * (1 + self.up_share)), now + self.up_replicas))


@dataclass(frozen=True, kw_only=True)
class Behaving(Autoscaler):
    """An autoscaler whose count goes through an HPA, with the HPA's parameters as its own."""

    tolerance: float = 0.1  # of the metric over its target, within which nothing changes
    up_share: float = 1.0
    up_replicas: int = 4
    down_window_s: float = 300.0

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        not_negative(tolerance=self.tolerance)
        self.behaviour()  # refuses what is no behaviour

    def behaviour(self) -> Behaviour:
        """How it moves to the count it wants."""
        return Behaviour(self.up_share, self.up_replicas, self.down_window_s)

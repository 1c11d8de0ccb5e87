"""How Kubernetes' HorizontalPodAutoscaler moves to the count it wants: limited on the way up, stabilised down."""

import math
from dataclasses import dataclass

from .base import PoolSeen, Samples, not_negative


@dataclass(frozen=True)
class Behaviour:
    """autoscaling/v2's `behavior`, with its defaults.

    Source: Kubernetes docs, "Horizontal Pod Autoscaling", default behaviour.
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
        recommended.add(pool.t, wanted)
        now = pool.ordered
        if wanted < now:
            wanted = min(now, int(recommended.most()))
        return min(wanted, max(math.ceil(now * (1 + self.up_share)), now + self.up_replicas))

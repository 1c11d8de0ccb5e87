"""Ray Serve's default autoscaling policy, on ongoing requests per replica."""

import math
from dataclasses import dataclass
from typing import Any

from lmaas.replay.fleet import Pool

from ..knobs import check_headroom
from .base import Autoscaler, PoolSeen, Samples, not_negative, positive, usual_load


@dataclass
class Waiting:
    """Target, ongoing requests of the look-back, and since when it wants more (or fewer) than it has."""

    target: float
    ongoing: Samples
    more_since_s: float | None = None
    fewer_since_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class RayServe(Autoscaler):
    """N' = ceil(N + factor · (ongoing/target - N)) once that has been wanted throughout a delay.

    N: replicas that run; those ordered are what N' is more or fewer than. ongoing: requests present, averaged over
    look_back_s. target: ongoing requests a replica (Ray's default of 2 suits no LLM engine); None: their mean at the
    sustainable rate μ; divided by 1 + headroom, which is ours, as in hpa. While none runs: one, or the factor, without
    a delay. Ray decides ten times a second, here every control_s, its metrics' interval. Source: ray-project/ray,
    serve/autoscaling_policy.py.
    """

    target: float | None = None
    up_factor: float = 1.0
    down_factor: float = 1.0
    up_delay_s: float = 30.0
    down_delay_s: float = 600.0
    look_back_s: float = 30.0
    control_s: float = 10.0
    headroom: float = 0.0

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        if self.target is not None:
            positive(target=self.target)
        positive(up_factor=self.up_factor, down_factor=self.down_factor, look_back_s=self.look_back_s)
        not_negative(up_delay_s=self.up_delay_s, down_delay_s=self.down_delay_s)
        check_headroom(self.headroom)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Waiting:
        """Nothing wanted yet."""
        return Waiting((self.target or usual_load(pool, rates)) / (1 + self.headroom), Samples(self.look_back_s))

    def count(self, pool: PoolSeen, memory: Waiting) -> int:
        """What it wants, where it has wanted it long enough; else what there is."""
        memory.ongoing.add(pool.t, pool.present)
        now = pool.ordered
        if pool.active == 0:
            return max(math.ceil(self.up_factor), now) if pool.present else now
        wanted = self.desired(pool.active, memory)
        memory.more_since_s = _since(memory.more_since_s, wanted > now, pool.t)
        memory.fewer_since_s = _since(memory.fewer_since_s, wanted < now, pool.t)
        if memory.more_since_s is not None and pool.t - memory.more_since_s >= self.up_delay_s:
            memory.more_since_s = None
            return wanted
        if memory.fewer_since_s is not None and pool.t - memory.fewer_since_s >= self.down_delay_s:
            memory.fewer_since_s = None
            return max(wanted, 1 if now > 1 else 0)  # to zero from one only
        return now

    def desired(self, running: int, memory: Waiting) -> int:
        """The count without delays; stuck by a small factor, one fewer."""
        needed = memory.ongoing.mean() / memory.target
        factor = self.up_factor if needed > running else self.down_factor
        scaled = math.ceil(running + factor * (needed - running))
        return scaled - 1 if math.ceil(needed) < running == scaled else scaled


def _since(since_s: float | None, wants: bool, t: float) -> float | None:
    """Since when it is wanted without a break."""
    if not wants:
        return None
    return t if since_s is None else since_s

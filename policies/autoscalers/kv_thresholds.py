"""Thresholds on KV-cache use: the reactive baseline of PreServe's artifact."""

from dataclasses import dataclass
from typing import Any

from lmaas.replay.fleet import Pool

from ..knobs import Knob
from .base import Autoscaler, PoolSeen, not_negative


@dataclass(frozen=True, kw_only=True)
class KvThresholds(Autoscaler):
    """+1 where mean KV use is above `high`, -1 where it is below `low`, every ten seconds.

    PreServe's artifact (arXiv 2504.03702, RQ2): 0.92 and 0.10 on its code trace, 0.90 and 0.20 on its conversations;
    the former are the defaults. All its baselines use PreServe's router. A replica that starts counts as ordered, so
    that one more is asked for at every tick that use stays high, as in the artifact.
    """

    high: float = 0.92  # KV use of the active replicas
    low: float = 0.10
    control_s: float = 10.0
    router: str = "preserve"

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        not_negative(high=self.high, low=self.low)
        if not self.low < self.high <= 1:
            raise ValueError(f"low is {self.low} and high {self.high}; shares, low below high, at most 1")

    @property
    def knob(self) -> Knob:
        """What a matched search turns, down to just above `low`."""
        return Knob("high", offset=0.0, least=min(self.low + 0.01, (self.low + self.high) / 2), most=1.0, falls=True)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> None:
        """Nothing."""

    def count(self, pool: PoolSeen, memory: None) -> int:
        """One more, one fewer, or as it is."""
        if pool.kv_fraction > self.high:
            return pool.ordered + 1
        if pool.kv_fraction < self.low and pool.ordered > 1:
            return pool.ordered - 1
        return pool.ordered

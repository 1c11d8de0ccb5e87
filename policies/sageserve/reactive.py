"""SageServe's baselines: thresholds on memory utilisation alone, on a unified pool or on one for each kind of tier."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import Actions, History, Seen

from ..brought import Brings
from .base import Run, SageServe, Unified, let_in


def threshold_steps(policy: SageServe, t: float, seen: Seen, state: Run) -> dict[int, int]:
    """One more where u > high, one fewer where u < low, of the pools that may act."""
    u, free = policy.utilisation(seen), state.free(seen, t)
    return {
        int(p): 1 if u[p] > policy.high else -1 for p in np.flatnonzero(free & ((u > policy.high) | (u < policy.low)))
    }


@dataclass(frozen=True, kw_only=True)
class Reactive(Unified):
    """The unified pool, scaled by thresholds alone: +1 where u > high, -1 where u < low (SageServe, "reactive")."""

    lengths: str = "median"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None

    def start(self, fleet: Fleet, history: History) -> Run:
        """Nothing is known."""
        return Run.of(fleet)

    def react(self, t: float, seen: Seen, state: Run) -> Actions:
        """One step a pool at most."""
        return replace(self.moves(threshold_steps(self, t, seen, state), seen, state, t), release=let_in(seen))


@dataclass(frozen=True, kw_only=True)
class Siloed(SageServe):
    """Production's way: interactive and batch tiers in pools of their own, each scaled by thresholds alone.

    The summary's: 16 of 20 replicas interactive and 4 batch at the start. Ours: that share of the common start, at
    least one each, and of a pool's `max`; both pools' replicas serve by the shared pool's profile and rates. Batch
    requests go straight to their pool: nothing is held.
    """

    batch_share: float = 0.2  # of a pool's replicas at the start
    lengths: str = "median"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        SageServe.__post_init__(self)
        if not 0 < self.batch_share < 1:
            raise ValueError(f"batch_share is {self.batch_share}; a share above 0, below 1")

    @property
    def brings(self) -> Brings:
        """What SageServe brings, and two pools for each."""
        return replace(super().brings, silo=self.batch_share)

    def start(self, fleet: Fleet, history: History) -> Run:
        """Nothing is known."""
        return Run.of(fleet)

    def react(self, t: float, seen: Seen, state: Run) -> Actions:
        """One step a pool at most."""
        return self.moves(threshold_steps(self, t, seen, state), seen, state, t)

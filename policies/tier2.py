"""PreServe's Tier-2 as in its paper: one more replica for each that will be full, fewer where all stay empty.

Source: arXiv 2504.03702, section 4.3.2.
"""

import math
from dataclasses import dataclass, field

from lmaas.replay.protocol import SeenReplicas


@dataclass(frozen=True)
class Thresholds:
    """Shares of KV: a replica is overloaded where more than `share` of its map is above `overload`; T_f is scale_in."""

    overload: float
    share: float
    scale_in: float


@dataclass
class Memory:
    """What Tier-2 remembers of a pool: Tier-1's word and when, who is overloaded, whether it has scaled in."""

    asked_s: float = -math.inf
    asked: int = 0
    over: set[int] = field(default_factory=set)
    settled: bool = False  # no more scale-in until a window begins

    def begin(self) -> None:
        """A window begins: Tier-1's count replaces what was added and isolated."""
        self.over, self.settled = set(), False


@dataclass(frozen=True)
class Look:
    """A pool's active replicas at an instant: numbers of those overloaded, and each one's highest KV to come."""

    over: set[int]
    peaks: list[float]


def looks(replicas: SeenReplicas, limits: Thresholds, pools: int) -> list[Look]:
    """What Tier-2 goes by in each pool."""
    over = (replicas.ahead > limits.overload).mean(axis=1) > limits.share
    peaks = replicas.ahead.max(axis=1, initial=0.0)
    found = [Look(set(), []) for _ in range(pools)]
    columns = (replicas.pool, replicas.replica, replicas.state == "active", over, peaks)
    for p, number, active, full, peak in zip(*(column.tolist() for column in columns), strict=True):
        if active:
            found[p].peaks.append(peak)
            if full:
                found[p].over.add(number)
    return found


def isolated(peaks: list[float], scale_in: float) -> int:
    """Replicas that can go: floor(N - Σ max / T_f), but one stays; none unless every replica's max is below T_f."""
    if not peaks or max(peaks) >= scale_in:
        return 0
    return max(0, min(len(peaks) - 1, math.floor(len(peaks) - sum(peaks) / scale_in + 1e-9)))


def change(look: Look, limits: Thresholds, memory: Memory, calm: bool) -> int:
    """Replicas to add (above 0) or to isolate.

    One is added for every replica that has become overloaded since the last look: once an episode. calm: nothing
    starts and Tier-1 says nothing at this instant, so that there may be too many; that is acted on once a window.
    """
    more, memory.over = len(look.over - memory.over), look.over
    if look.over or memory.settled or not calm:
        return more
    fewer = isolated(look.peaks, limits.scale_in)
    memory.settled = fewer > 0
    return -fewer

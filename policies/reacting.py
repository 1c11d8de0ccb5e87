"""A plan beside reactions: who reacts, what a plan asks for at an instant, and who makes one count of both."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmaas.replay.anticipation import NO_ANTICIPATION, PAPER, Anticipation
from lmaas.replay.protocol import NOTHING, Actions, Seen

from .planning import WHOLE


def reacts(policy: Any) -> bool:
    """Whether it is asked at every control tick; a policy may switch that off (`reacting`)."""
    return hasattr(policy, "react") and bool(getattr(policy, "reacting", True))


def anticipation_of(policy: Any) -> Anticipation:
    """The KV to come that a policy asks to see; ValueError for what cannot be."""
    iterations = getattr(policy, "ahead_iterations", 0)
    if not reacts(policy) or not iterations:
        return NO_ANTICIPATION
    return Anticipation(iterations, getattr(policy, "extension", PAPER))


def reads_replicas(policy: Any) -> bool:
    """Whether it reacts to single replicas' KV to come, which windows do not have: there its plan alone is followed."""
    return anticipation_of(policy) != NO_ANTICIPATION


@dataclass(frozen=True)
class Timetable:
    """Every window's counts (planning.counts_by_start) and the lead they are asked for with."""

    starts_s: np.ndarray
    replicas: np.ndarray
    lead_s: float
    window_s: float

    def counts(self, t: float, begun: bool = True) -> dict[int, int]:
        """By pool the most that windows which overlap [t, t + lead_s] need; not begun: of those yet to begin."""
        # a window's plan rests on forecasts issued lead_s before it, so by now those up to t + lead_s are known
        near = (self.starts_s <= t + self.lead_s) & (self.starts_s + self.window_s * WHOLE > t)
        if not begun:
            near &= self.starts_s > t
        return dict(enumerate(self.replicas[near].max(axis=0).tolist())) if near.any() else {}


def told(policy: Any, state: Any, table: Timetable, t: float, seen: Seen, fresh: bool) -> Actions:
    """What follows from a plan at t, a decision time; fresh: a window begins, or a fault's replicas can start again.

    A policy that reacts, too, may make one count of both by `adopt(t, counts, fresh, seen, state) -> Actions`. It is
    handed the counts of windows up to t + lead_s; where nothing is fresh only of those yet to begin.
    """
    if not (reacts(policy) and hasattr(policy, "adopt")):
        counts = table.counts(t)
        return Actions(counts) if counts else NOTHING
    counts = table.counts(t, begun=fresh)
    adopted: Actions = policy.adopt(t, counts, fresh, seen, state) if counts else NOTHING
    return adopted

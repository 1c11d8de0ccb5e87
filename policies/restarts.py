"""What a fault takes from a fleet is asked for again, by policies that decide at set times or never."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lmaas.replay.engine import NEVER, Controller
from lmaas.replay.fleet import Fault, Fleet
from lmaas.replay.protocol import Actions, Seen


def restart_times(fleet: Fleet, begin_s: float) -> np.ndarray:
    """When an orchestrator can start what faults took, s, rising: a replica at once, a region's when it is up again."""
    times = [fault.at_s if fault.region is None else fault.until_s for fault in fleet.faults]
    after = np.nextafter(begin_s, np.inf)  # ticks come after the beginning
    return np.unique([max(t, after) for t in times if np.isfinite(t)])


def restarting(fleet: Fleet, initial: Sequence[int], begin_s: float) -> Controller:
    """A fixed fleet's controller: what is missing of its first replicas is asked for again, nothing else ever.

    initial: replicas of its own kind a pool begins with, those that are mixed in beside them; what is lost comes back
    as what it was. Pools without bounds (`unbounded`): the size is what the policy says, whatever min and max are.
    """
    times = restart_times(fleet, begin_s)
    if len(times) == 0:
        return NEVER
    whole: dict[tuple[int, str], int] = {}
    for p, (n, pool) in enumerate(zip(initial, fleet.pools, strict=True)):
        for profile, count in ((pool.profile, n), *pool.mixed):
            whole[p, profile.name] = whole.get((p, profile.name), 0) + count

    def after(t: float) -> float:
        at = np.searchsorted(times, t, side="right")
        return float(times[at]) if at < len(times) else np.inf

    def act(t: float, seen: Seen) -> Actions:
        up = {p for p, pool in enumerate(fleet.pools) if not _down(fleet.faults, pool.region, t)}
        return Actions(replicas_of={key: count for key, count in whole.items() if key[0] in up and count})

    return Controller(after, act)


def _down(faults: Sequence[Fault], region: str, t: float) -> bool:
    return any(fault.region == region and fault.at_s <= t < fault.until_s for fault in faults)


def unbounded(fleet: Fleet) -> Fleet:
    """The same fleet, its pools without bounds."""
    return replace(fleet, pools=tuple(replace(pool, minimum=0, maximum=None) for pool in fleet.pools))

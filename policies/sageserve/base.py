"""What SageServe's policies share: one signal, one scaling action a pool at a time, spot, tiers, region routing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from lmaas.replay.fleet import Fleet, Hold, Order, RegionChoice
from lmaas.replay.protocol import Actions, History, Seen

from ..autoscalers.base import check_control, not_negative
from ..brought import Brings
from ..knobs import Knob, check_headroom

ORDERS: dict[str, Order] = {"fcfs": "fcfs", "edf": "deadline", "pf": "tier", "dpa": "promotion"}
RELEASES = {"paper": (2, 1), "artifact": (1, 2)}  # of a completion: below `hold_low`, and up to `hold_high`


@dataclass(frozen=True, kw_only=True)
class SageServe:
    """Scales each pool on its effective memory utilisation u: KV in use over KV capacity of its active replicas.

    The paper's: `high`, `low` (the artifact has 0.5 and 0.25), `cooldown_s`, replicas lent as spot instead of switched
    off, held batch requests, regions by preference below `region_threshold`, the orders of queues. The artifact's: 0.8
    of a deadline before a request is urgent (`dpa`). Ours: a look every `control_s` in place of one at every arrival; a
    pool that has held requests and nothing else sends one on, as releases need a completion to follow. One scaling
    action a pool at a time: none while a replica of it starts, nor within cooldown_s of the last one.
    """

    high: float = 0.7  # u above which one more is asked for
    low: float = 0.3  # u below which one is given away
    cooldown_s: float = 15.0  # between two actions of a pool
    control_s: float = 15.0
    lend: bool = True  # spare replicas are donated as spot; false: switched off
    order: str = "dpa"  # of waiting queues: fcfs, edf, pf (by tier) or dpa
    reroute: bool = True  # to the first region below region_threshold; false: every request stays at home
    region_threshold: float = 0.7
    headroom: float = 0.0  # share added to u, and to the demand that is planned for
    router: str = "least-outstanding"

    knob: ClassVar[Knob] = Knob(most=99.0)  # u may be low where latency limits bind before the KV cache does
    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_control(self.control_s)
        not_negative(high=self.high, low=self.low, cooldown_s=self.cooldown_s)
        if not self.low < self.high <= 1:
            raise ValueError(f"low is {self.low} and high {self.high}; shares, low below high, at most 1")
        if self.order not in ORDERS:
            raise ValueError(f"order is {self.order!r}; there are {', '.join(ORDERS)}")
        if not 0 < self.region_threshold <= 1:
            raise ValueError(f"region_threshold is {self.region_threshold}; a share above 0, at most 1")
        check_headroom(self.headroom)
        for name in ("lend", "reroute"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)}; true or false")

    @property
    def brings(self) -> Brings:
        """Order of queues and choice of regions."""
        choice = RegionChoice("threshold", self.region_threshold) if self.reroute else RegionChoice("home")
        return Brings(ORDERS[self.order], choice)

    def initial(self, fleet: Fleet, history: History, state: Any) -> Sequence[int] | None:
        """The common start."""
        return None

    def utilisation(self, seen: Seen) -> np.ndarray:
        """u with the headroom on it, f8[pools]: KV in use over the capacity of the active replicas.

        Where none is active 1 if requests wait for one, else 0: a pool whose `min` is 0 stays empty without load.
        """
        waits = (seen.queued + seen.held > 0).astype(np.float64)
        return np.where(seen.active > 0, seen.kv_fraction, waits) * (1 + self.headroom)

    def moves(self, steps: Mapping[int, int], seen: Seen, state: "Run", t: float) -> Actions:
        """Actions that add (> 0) or take (< 0) so many replicas a pool, within its bounds; those pools rest then."""
        more, fewer = {}, {}
        for p, step in steps.items():
            have = ordered(seen, p)
            wanted = state.fleet.pools[p].clamp(have + step)
            if wanted == have or (wanted > have) != (step > 0):
                continue
            state.rests_until[p] = t + self.cooldown_s
            if wanted < have and self.lend:
                fewer[p] = have - wanted
            else:
                more[p] = wanted
        return Actions(replicas=more, donate=fewer)


@dataclass(frozen=True, kw_only=True)
class Unified(SageServe):
    """A pool serves all tiers; batch requests are held and pulled by completions.

    The paper's: a completion releases one held request where u < `hold_high`, two where u < `hold_low`. The artifact
    has it the other way round: two between the thresholds, one below both (`release` = artifact).
    """

    hold_low: float = 0.5
    hold_high: float = 0.6
    release: str = "paper"

    def __post_init__(self) -> None:
        SageServe.__post_init__(self)
        if not 0 <= self.hold_low <= self.hold_high <= 1:
            raise ValueError(f"hold_low is {self.hold_low} and hold_high {self.hold_high}; shares, rising")
        if self.release not in RELEASES:
            raise ValueError(f"release is {self.release!r}; there are {', '.join(RELEASES)}")

    @property
    def brings(self) -> Brings:
        """What SageServe brings, and the hold of batch requests."""
        hold = Hold(("batch",), self.hold_low, self.hold_high, RELEASES[self.release])
        return replace(super().brings, hold=hold)


@dataclass
class Run:
    """What a SageServe policy keeps of the pools between ticks."""

    fleet: Fleet
    rests_until: np.ndarray  # f8[pools], s: of the last action and its cool-down
    lead_s: float = 0.0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, fleet: Fleet, **more: Any) -> "Run":
        """Before the first tick."""
        return cls(fleet, np.full(len(fleet.pools), -np.inf), **more)

    def free(self, seen: Seen, t: float) -> np.ndarray:
        """Pools that may act, bool[pools]: nothing starts there, and the last action's cool-down is over."""
        ready: np.ndarray = (seen.starting == 0) & (t >= self.rests_until)
        return ready


def ordered(seen: Seen, p: int) -> int:
    """Replicas of pool p that are active or starting."""
    return int(seen.active[p] + seen.starting[p])


def let_in(seen: Seen) -> dict[int, int]:
    """One held request for each pool that has nothing else: no completion would ever release it."""
    idle = (seen.held > 0) & (seen.running + seen.waiting + seen.queued == 0) & (seen.active > 0)
    return {int(p): 1 for p in np.flatnonzero(idle)}

"""The fleet: pools of replicas, the regions they stand in, what befalls them (a file says it: docs/fleet.md)."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import TIERS
from lmaas.analysis.units import parse_duration

from .profile import Profile

NO_REGION = "default"
SHARED, PREFILL, DECODE = "shared", "prefill", "decode"  # lanes; any other name is as shared
INTERACTIVE, BATCH = SILOS = "interactive", "batch"  # lanes of a pool that tiers do not share
PROMOTED = 0.8  # of a deadline, after which a request goes with the urgent ones (SageServe's artifact, of batch)
LONGEST_S = 1e10  # 317 years: past it a float no longer tells microseconds apart

_COMPOUND = re.compile(r"(?:\s*\d+(?:\.\d+)?\s*[a-zA-Z]+){2,}\s*")
_PART = re.compile(r"\d+(?:\.\d+)?\s*[a-zA-Z]+")


def seconds(value: Any) -> Any:
    """Seconds of a duration such as 30m or 2d4h, as pydantic's first step; a number is seconds already."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no time; write seconds or a duration such as 30m")
    if not isinstance(value, str):
        return value
    parts = _PART.findall(value) if _COMPOUND.fullmatch(value) else [value]
    try:
        return sum(parse_duration(part, "time") for part in parts)
    except UserError as error:
        raise ValueError(str(error)) from None


def _tier(name: str) -> str:
    if name not in TIERS:
        raise ValueError(f"no tier is called '{name}'; there are {', '.join(TIERS)}")
    return name


Time = Annotated[float, BeforeValidator(seconds), Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]
Released = Annotated[int, Field(strict=True, ge=0, le=1000)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Pool:
    """Replicas that serve one service in one region; prints as service/region/lane.

    mixed: replicas of other profiles that stand there from the beginning, beside those of `profile` that the file or
    the policy starts with; the bounds count all of them. 0 of a profile: a policy may reshape or regroup to it.
    """

    service: str
    region: str
    profile: Profile
    lane: str = SHARED
    initial: int | None = None  # None: sized for the last training window's demand
    minimum: int = 1
    maximum: int | None = None
    mixed: tuple[tuple[Profile, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.service}/{self.region}/{self.lane}"

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Its own profile first, then those mixed in."""
        return (self.profile, *(profile for profile, _ in self.mixed))

    @property
    def beside(self) -> int:
        """Mixed replicas at the start."""
        return sum(n for _, n in self.mixed)

    def clamp(self, replicas: float) -> int:
        """The count nearest to `replicas` that the pool's bounds allow."""
        n = max(self.minimum, int(replicas))
        return n if self.maximum is None else min(n, self.maximum)


@dataclass(frozen=True)
class Fault:
    """From at_s on a pool's replica is gone, or every replica of a region, which starts none until until_s.

    Times in seconds of the trace. pool: number in the fleet; replica: number in the pool.
    """

    at_s: float
    region: str | None = None
    pool: int | None = None
    replica: int | None = None
    until_s: float = math.inf

    def __post_init__(self) -> None:
        one = self.pool is not None and self.replica is not None
        if one == (self.region is not None) or (self.pool is None) != (self.replica is None):
            raise ValueError("a fault names either a region or a pool and its replica")
        if not 0 <= self.at_s < self.until_s or not math.isfinite(self.at_s):
            raise ValueError(
                f"a fault from {self.at_s:g} s to {self.until_s:g} s: it must begin at 0 s or later and end"
            )


@dataclass(frozen=True)
class Clients:
    """Who has seen no token timeout_s after sending gives up and, `retries` times, sends again.

    The k-th retry, from 0, is sent backoff_s · factor^k after giving up.
    """

    timeout_s: Annotated[Time, Field(gt=0)]
    retries: Annotated[int, Field(strict=True, ge=0, le=100)] = 0
    backoff_s: Time = 1.0
    factor: Annotated[float, Field(strict=True, ge=1, le=100, allow_inf_nan=False)] = 2.0

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True)
class RegionChoice:
    """Which region a request goes to.

    home: its own, else the nearest that is up; threshold: the nearest whose memory utilisation is below `threshold`,
    else the least utilised.
    """

    rule: Literal["home", "threshold"] = "home"
    threshold: Annotated[Share, Field(gt=0)] = 0.7

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True)
class Hold:
    """Tiers whose requests wait in their home pool's hold queue until released.

    On each completion in that pool `releases[0]` are released below memory utilisation `lower`, `releases[1]` below
    `upper`; None: never by itself.
    """

    tiers: Annotated[tuple[Annotated[str, AfterValidator(_tier)], ...], Field(min_length=1)]
    lower: Share | None = 0.5
    upper: Share | None = 0.6
    releases: tuple[Released, Released] = (2, 1)

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    def __post_init__(self) -> None:
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower {self.lower:g} is above upper {self.upper:g}")


Lane = Literal["shared", "prefill", "decode"]
Order = Literal["fcfs", "priority", "deadline", "tier", "promotion"]
Sessions = Literal["open", "closed"]


@dataclass(frozen=True)
class Fleet:
    """All pools, in the order the replay numbers them, and the world around them.

    regions: all there are, those of pools and those requests come from. latency_s[i][j]: one way from region i to j,
    seconds; empty: none anywhere. inventory: region -> GPU type -> GPUs; a region without an entry is unbounded.
    faults: by time. order: of waiting queues. sessions: whether a turn waits for the one before it (closed).
    """

    pools: tuple[Pool, ...]
    regions: tuple[str, ...] = ()
    latency_s: tuple[tuple[float, ...], ...] = ()
    inventory: Mapping[str, Mapping[str, int]] = field(default_factory=dict, hash=False)
    faults: tuple[Fault, ...] = ()
    clients: Clients | None = None
    order: Order = "fcfs"
    region_choice: RegionChoice = RegionChoice()
    hold: Hold | None = None
    prefix_cache: bool = True
    sessions: Sessions = "open"
    kv_bandwidth_gb_s: float | None = None  # between replicas, for migrating requests; None: KV moves in no time

    def index(self) -> dict[tuple[str, str], int]:
        """(service, region) -> number of the pool that its requests come to."""
        return {(pool.service, pool.region): i for i, pool in enumerate(self.pools) if pool.lane != DECODE}

    def network_s(self, origin: str, region: str) -> float:
        """One-way latency, seconds; 0 where none is given."""
        if not self.latency_s or origin not in self.regions or region not in self.regions:
            return 0.0
        return self.latency_s[self.regions.index(origin)][self.regions.index(region)]


def preferences(
    fleet: Fleet, service: str, origin: str, decode: bool = False, silo: str | None = None
) -> tuple[int, ...]:
    """Numbers of the service's pools by latency from the origin, s; ties: the origin's own, then the fleet's order.

    Those requests come to, or (decode) those of the decode lane; silo: those of one of SILOS alone.
    """
    mine = [(n, pool) for n, pool in enumerate(fleet.pools) if pool.service == service]
    if silo is not None:
        mine = [(n, pool) for n, pool in mine if pool.lane == silo]
    pools = [(n, pool.region) for n, pool in mine if (pool.lane == DECODE) == decode]
    return tuple(n for n, region in sorted(pools, key=lambda p: (fleet.network_s(origin, p[1]), p[1] != origin, p[0])))


def onward(fleet: Fleet, pool: Pool) -> Pool:
    """The decode pool that a prefill pool hands over to while all regions are up: of its region, else the nearest."""
    decodes = [fleet.pools[n] for n in preferences(fleet, pool.service, pool.region, decode=True)]
    return next((other for other in decodes if other.region == pool.region), decodes[0])


def check_lanes(fleet: Fleet) -> None:
    """UserError (exit 5) where a service has one of the lanes prefill and decode without the other."""
    for pool in fleet.pools:
        other = {PREFILL: DECODE, DECODE: PREFILL}.get(pool.lane)
        if other and not any(p.lane == other and p.service == pool.service for p in fleet.pools):
            raise UserError(f"pool {pool}: '{pool.service}' has no {other} lane anywhere", Exit.CONFIG)


def gpus_taken(fleet: Fleet, counts: Sequence[int]) -> dict[tuple[str, str | None], int]:
    """(region, GPU type) -> GPUs that `counts` replicas a pool occupy, with the mixed ones beside them."""
    taken: dict[tuple[str, str | None], int] = {}
    for pool, count in zip(fleet.pools, counts, strict=True):
        for profile, n in ((pool.profile, count), *pool.mixed):
            key = (pool.region, profile.gpu)
            taken[key] = taken.get(key, 0) + n * profile.gpus_per_replica
    return taken


def within_inventory(fleet: Fleet, counts: Sequence[int]) -> tuple[int, ...]:
    """The counts a pool, cut to what the regions' GPUs hold: first minima, then one replica in turn, in fleet order."""
    taken = gpus_taken(fleet, [0] * len(counts))
    given = [0] * len(counts)

    def add(p: int) -> bool:
        pool = fleet.pools[p]
        key, more = (pool.region, pool.profile.gpu), pool.profile.gpus_per_replica
        there = fleet.inventory.get(pool.region)
        if there is not None and taken.get(key, 0) + more > there.get(pool.profile.gpu or "", 0):
            return False
        taken[key] = taken.get(key, 0) + more
        given[p] += 1
        return True

    for goals in ([min(n, pool.minimum) for n, pool in zip(counts, fleet.pools, strict=True)], counts):
        waiting = list(range(len(counts)))
        while waiting:
            waiting = [p for p in waiting if given[p] < goals[p] and add(p)]
    return tuple(given)

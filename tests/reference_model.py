"""The nouns of the slow, obvious fleet: latency, shape, request, and the rules of a fleet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Latency:
    base: float
    knots: Sequence[float]
    slopes: Sequence[float]
    attn_pair: float
    prefix_kv: float
    decode_seq: float
    decode_kv: float

    def tokens(self, n: int) -> float:
        total = 0.0
        ends = [*self.knots[1:], math.inf]
        for slope, low, high in zip(self.slopes, self.knots, ends, strict=True):
            total += slope * max(0.0, min(n, high) - low)
        return total

    def iteration(self, n: int, pairs: float, prefix: int, seqs: int, context: int) -> float:
        return (
            self.base
            + self.tokens(n)
            + self.attn_pair * pairs
            + self.prefix_kv * prefix
            + self.decode_seq * seqs
            + self.decode_kv * context
        )


@dataclass
class Shape:
    latency: Latency
    kv_tokens: int
    block: int
    max_batch_tokens: int
    max_seqs: int
    hash_tokens: int = 0  # tokens of a hash block; 0: no prefix cache
    gpu: str = ""
    gpus: int = 1
    kv_bytes_per_token: float = 0.0
    bandwidth: float = math.inf  # bytes/s

    @property
    def blocks(self) -> int:
        return self.kv_tokens // self.block

    def transfer_s(self, tokens: int) -> float:
        return tokens * self.kv_bytes_per_token / self.bandwidth


@dataclass(eq=False)
class Request:
    number: int
    arrival: float
    pool: int
    input: int
    output: int
    predicted: int = 1
    kind: int = 0
    computed: int = 0
    generated: int = 0
    preemptions: int = 0
    status: str = "waiting"
    replica: int = -1
    admitted: float | None = None
    first: float | None = None
    done: float | None = None
    # given, beyond the above
    rank: float = 0.0
    service: int = 0
    origin: int = 0
    held: bool = False
    hashes: Sequence[int] = ()
    tier: int = 0
    # counted
    restarts: int = 0
    tries: int = 1
    network: float = 0.0
    hold: float = 0.0
    transfer: float = 0.0
    prefilled: tuple[int, int] | None = None  # (pool, replica) of the prefill lane it came from
    cached_tokens: int = 0
    # where it stands
    shared: int = 0  # leading hash blocks it shares
    receipt: int = 0  # order of receipt at its replica
    patience: float | None = None  # when its client gives up, while that waits for a first token
    released: bool = False  # from a hold queue
    held_since: float = 0.0
    moving: tuple[int, int] | None = None  # (pool, replica) it leaves for when its iteration ends; -1: any replica
    left: float = 0.0  # when it was handed over
    ghost: bool = False  # its client is gone: it leaves when the iteration in progress ends

    def __post_init__(self):
        self.own = (self.pool, self.predicted)

    @property
    def need(self) -> int:
        return self.input + self.generated - self.computed

    @property
    def decodes(self) -> bool:
        return self.generated > 0 and self.need == 1

    def fresh(self) -> None:
        """Start again from nothing; counts stay."""
        # reading: the prediction starts again too; preemptions, restarts, hold and cached_tokens add up over tries
        self.pool, self.predicted = self.own
        self.computed = self.generated = self.shared = 0
        self.replica, self.admitted, self.first, self.moving = -1, None, None, None
        self.transfer, self.prefilled = 0.0, None


@dataclass
class Rules:
    """What a fleet knows beyond its pools; each default switches its feature off."""

    shapes: Sequence[Shape] = ()  # the first ones by pool, more for reshaping
    lanes: Sequence[str] = ()  # by pool; absent: every pool is shared
    service_of: Sequence[int] = ()  # by pool; absent: every pool serves service 0
    pool_region: Sequence[int] = ()  # absent: every pool is in region 0
    pool_service: Sequence[int] = ()  # present: requests choose a region, else a request's pool is given
    latency_s: Sequence[Sequence[float]] = ()
    threshold: float | None = None  # the region rule: threshold, or home
    timeout_s: float | None = None
    retries: int = 0
    backoff_s: float = 0.0
    factor: float = 1.0
    next: Sequence[int] = ()  # by request: the next turn, or -1
    think_s: Sequence[float] = ()
    faults: Sequence[Sequence] = ()  # [at_s, "replica", pool, index] or [at_s, "region", region, until_s]
    release: tuple[float, float] | None = None
    releases: tuple[int, int] = (2, 1)
    heartbeat_s: float = 0.0  # 0: what a router holds is routed again only when a replica becomes active
    fruitless: int = 10_000
    refusals: int = 0  # in a row, in a pool, that end a round of those asked again; 0: all are asked
    most: Sequence[int] = ()  # replicas by pool
    inventory: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    startup: Mapping[str, float] = field(default_factory=lambda: {"cold": 0.0, "warm": 0.0, "swap": 0.0})

    def starting_s(self, kind: str, pool: int, index: int) -> float:
        """Lognormal of the kind's mean and `cv`, drawn by pool and number."""
        mean, cv = self.startup[kind], self.startup.get("cv", 0.0)
        if not mean or not cv:
            return mean
        sigma = math.sqrt(math.log(1 + cv**2))
        normal = np.random.default_rng([0, pool, index]).standard_normal()
        return mean * math.exp(sigma * normal - sigma**2 / 2)

    def region(self, pool: int) -> int:
        return self.pool_region[pool] if self.pool_region else 0

    def lane(self, pool: int) -> str:
        return self.lanes[pool] if self.lanes else "shared"

    def decodes(self, pool: int) -> list[int]:
        """The decode pools of a pool's service."""
        services = self.service_of or [0] * len(self.lanes)
        return [p for p, lane in enumerate(self.lanes) if lane == "decode" and services[p] == services[pool]]

    def latency(self, origin: int, region: int) -> float:
        return self.latency_s[origin][region] if self.latency_s else 0.0

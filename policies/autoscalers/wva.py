"""llm-d's Workload Variant Autoscaler, saturation analyzer V2: tokens of demand against tokens of capacity."""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, ClassVar

from lmaas.replay.fleet import Pool

from ..knobs import Knob
from .base import Autoscaler, PoolSeen, Samples, positive
from .behaviour import Behaviour

BUCKETS = (100.0, 500.0)  # mean output tokens: short, medium, long
HISTORY = 10  # observations a bucket is averaged over


@dataclass
class Capacity:
    """What a replica holds, the lengths seen, and the tokens in use where the queue was full, by output bucket."""

    kv_tokens: int
    max_batch_tokens: int
    max_seqs: int
    input_tokens: float  # mean, as last seen
    output_tokens: float
    recommended: Samples
    observed: dict[int, deque[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wva(Autoscaler):
    """More where demand / up_threshold exceeds the supply, starting replicas included; fewer by demand / down_boundary.

    demand: KV tokens in use + waiting · mean prompt. A replica's capacity is the lesser of k1, KV tokens ·
    kv_threshold, and k2: tokens in use while queue_threshold or more wait a replica, else the mean of the last ten
    such observations at alike output lengths, else N · (I + O/2) with N = min(max_batch_tokens · O/(I + O), max_seqs).
    Ours: the pool's means for its replicas one by one. Its count goes through an HPA with Kubernetes' default
    behaviour, as llm-d deploys it. Source: llm-d/llm-d-workload-variant-autoscaler, analyzers/saturation_v2 and
    pipeline/cost_aware_optimizer.go, with the defaults 0.80, 5, 0.85 and 0.70.
    """

    kv_threshold: float = 0.8
    queue_threshold: float = 5.0
    up_threshold: float = 0.85
    down_boundary: float = 0.7
    control_s: float = 30.0

    knob: ClassVar[Knob] = Knob("up_threshold", offset=0.0, least=0.01, most=1.0, falls=True)

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        positive(queue_threshold=self.queue_threshold)
        for name in ("kv_threshold", "up_threshold", "down_boundary"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share above 0, at most 1")

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Capacity:
        """The engine's own limits, and the training lengths until some are seen."""
        requests = max(float(rates["requests_s"]), 1e-12)
        profile = pool.profile
        return Capacity(
            profile.kv_tokens,
            profile.max_batch_tokens,
            profile.max_seqs,
            float(rates["prompt_tokens_s"]) / requests,
            float(rates["output_tokens_s"]) / requests,
            Behaviour().remember(),
        )

    def count(self, pool: PoolSeen, memory: Capacity) -> int:
        """The count through the HPA."""
        return Behaviour().limited(pool, self.desired(pool, memory), memory.recommended)

    def desired(self, pool: PoolSeen, memory: Capacity) -> int:
        """Replicas whose tokens of capacity match the demand."""
        if pool.arrivals:
            memory.input_tokens = pool.arrived_input_tokens / pool.arrivals
        if pool.completions:
            memory.output_tokens = pool.completed_output_tokens / pool.completions
        used = pool.kv_fraction * pool.active * memory.kv_tokens
        capacity = self.capacity(pool, used, memory)
        demand = used + pool.waiting * memory.input_tokens
        lacking = demand / self.up_threshold - pool.ordered * capacity
        if lacking > 0:
            return pool.ordered + math.ceil(lacking / capacity)
        spare = pool.active * capacity - demand / self.down_boundary
        return max(pool.ordered - math.floor(max(spare, 0.0) / capacity), 1)

    def capacity(self, pool: PoolSeen, used: float, memory: Capacity) -> float:
        """Tokens a replica can hold and work on at once."""
        k1 = memory.kv_tokens * self.kv_threshold
        bucket = sum(memory.output_tokens >= edge for edge in BUCKETS)
        seen = memory.observed.setdefault(bucket, deque(maxlen=HISTORY))
        if pool.active and used > 0 and pool.waiting / pool.active >= self.queue_threshold:
            seen.append(used / pool.active)
            return min(k1, seen[-1])
        return min(k1, fmean(seen) if seen else self.derived(memory))

    def derived(self, memory: Capacity) -> float:
        """Of the engine's limits, where nothing was observed."""
        inputs, outputs = memory.input_tokens, max(memory.output_tokens, 1.0)
        steady = min(memory.max_batch_tokens * outputs / (inputs + outputs), memory.max_seqs)
        return max(steady * (inputs + outputs / 2), 1.0)

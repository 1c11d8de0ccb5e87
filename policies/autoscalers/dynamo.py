"""NVIDIA Dynamo's SLA planner, throughput-based: last interval's load over interpolated throughput, corrected."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmaas.replay.fleet import DECODE, PREFILL, Pool
from lmaas.replay.profile import Profile

from ..knobs import Knob
from .base import Autoscaler, PoolSeen, positive


@dataclass
class Load:
    """The pool's engine and lane, and the lengths and corrections last seen."""

    profile: Profile
    lane: str
    input_tokens: float
    output_tokens: float
    prefill_correction: float = 1.0
    decode_correction: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DynamoPlanner(Autoscaler):
    """Prefill: requests · ISL / interval · min(1, c_p) / throughput. Decode: requests · OSL / interval / throughput.

    c_p is observed over expected TTFT, c_d observed over expected ITL; decode throughput is the best that keeps
    ITL · c_d within tpot_s at a context of ISL + OSL/2. Next interval's load is this one's (its `constant` predictor).
    *Ours:* throughputs and expectations come from the profile's own formula in place of its measured grid; expected
    TTFT is that of a mean prompt alone, expected ITL that at the concurrency seen; a shared pool, which the planner
    does not size this way, takes the sum of both shares; ttft_s is no part of the rule beyond the correction.
    Source: ai-dynamo/dynamo, planner design document.
    """

    tpot_s: float = 0.1  # ITL target
    correct: bool = True
    control_s: float = 180.0  # adjustment interval

    knob: ClassVar[Knob] = Knob("tpot_s", offset=0.0, least=0.001, most=10.0, falls=True)

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        positive(tpot_s=self.tpot_s)
        if not isinstance(self.correct, bool):
            raise ValueError(f"correct is {self.correct}; true or false")

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Load:
        """The training lengths until some are seen."""
        requests = max(float(rates["requests_s"]), 1e-12)
        lengths = (float(rates[f"{kind}_tokens_s"]) / requests for kind in ("prompt", "output"))
        return Load(pool.profile, pool.lane, *lengths)

    def count(self, pool: PoolSeen, memory: Load) -> int:
        """ceil of the lane's share; of both where the pool does both."""
        self.observe(pool, memory)
        requests_s = pool.arrivals / max(pool.interval_s, 1e-9)
        prefill = requests_s * memory.input_tokens * min(1.0, memory.prefill_correction) / prefill_tokens_s(memory)
        target_s = self.tpot_s / memory.decode_correction
        decode = requests_s * memory.output_tokens / decode_tokens_s(memory, target_s)
        share = {PREFILL: prefill, DECODE: decode}.get(memory.lane, prefill + decode)
        return max(math.ceil(share - 1e-9), 1)

    def observe(self, pool: PoolSeen, memory: Load) -> None:
        """Lengths and corrections of the last interval, where something was seen in it."""
        if pool.arrivals:
            memory.input_tokens = pool.arrived_input_tokens / pool.arrivals
        if not pool.completions:
            return
        memory.output_tokens = pool.completed_output_tokens / pool.completions
        if not self.correct:
            return
        ttft_s, _ = memory.profile.alone_s(np.array([memory.input_tokens]), np.array([1.0]))
        memory.prefill_correction = pool.mean_ttft_s / float(ttft_s[0])
        running = max(pool.running / max(pool.active, 1), 1.0)
        observed_s = (pool.mean_e2e_s - pool.mean_ttft_s) / max(memory.output_tokens - 1, 1.0)
        memory.decode_correction = max(observed_s, 1e-9) / float(step_s(memory, np.array([running]))[0])


def prefill_tokens_s(load: Load) -> float:
    """Prompt tokens a replica prefills a second, one mean prompt after the other."""
    ttft_s, _ = load.profile.alone_s(np.array([load.input_tokens]), np.array([1.0]))
    return load.input_tokens / (float(ttft_s[0]) - load.profile.overhead_s)


def decode_tokens_s(load: Load, target_s: float) -> float:
    """Output tokens a replica decodes a second at the largest batch whose iterations last at most target_s."""
    context = load.input_tokens + load.output_tokens / 2
    most = min(load.profile.max_seqs, load.profile.max_batch_tokens, max(int(load.profile.kv_tokens / context), 1))
    batch = np.arange(1, most + 1, dtype=np.float64)
    steps_s = step_s(load, batch)
    within = steps_s <= target_s
    return float((batch / steps_s)[within].max()) if within.any() else float(1 / steps_s[0])  # no batch is fast enough


def step_s(load: Load, batch: np.ndarray) -> np.ndarray:
    """Seconds of an iteration that decodes so many requests of mean context."""
    latency, context = load.profile.latency, load.input_tokens + load.output_tokens / 2
    tokens_s = latency.token_s(int(np.ceil(batch.max())))
    each = np.interp(batch, np.arange(len(tokens_s)), tokens_s)
    return np.asarray(latency.base + each + batch * (latency.decode_seq + latency.decode_kv * context))

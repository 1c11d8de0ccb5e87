"""TokenScale: token rates over token velocities, by length bucket where requests are decoded."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmaas.replay.fleet import DECODE, PREFILL, Fleet, Pool
from lmaas.replay.profile import Profile
from lmaas.replay.protocol import Actions, History, Seen, SeenRequests

from ..knobs import check_headroom
from ..told import LENGTHS, TRUE, check_error, check_name
from .base import Autoscaler, PoolSeen, Run, looks, positive
from .dynamo import Load, prefill_tokens_s

INPUT_EDGES, OUTPUT_EDGES = (256, 1024), (100, 350)  # tokens: DynamoLLM's classes (arXiv 2408.00741)
BUCKETS = (len(INPUT_EDGES) + 1) * (len(OUTPUT_EDGES) + 1)


@dataclass
class Arrived:
    """What a pool's replicas can do, and what came: (t, interval, f8[3, BUCKETS]) of each look, oldest first.

    The three are requests, prompt tokens and predicted output tokens by bucket.
    """

    profile: Profile
    lane: str
    prefill_tokens_s: float  # V_P, or what the link to the decode lane carries of KV where that is less
    steps_s: np.ndarray  # seconds of n tokens in an iteration, from 0 to the largest batch
    looks: deque[tuple[float, float, np.ndarray]] = field(default_factory=deque)


@dataclass
class Known:
    """Requests that were in a pool at the last look, as request · pools + pool."""

    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class Scaling(Run):
    """A run, with the requests known so far."""

    known: Known


@dataclass(frozen=True, kw_only=True)
class TokenScale(Autoscaler):
    """Prefill lanes: λ_in / min(V_P, V_BW). Decode lanes: Σ_b λ_b / V_b. A pool that does both: the larger of the two.

    λ_in: prompt tokens/s; λ_b: prompt and predicted output tokens/s that arrived, of each of nine buckets of lengths;
    V_P, V_b: the most a replica can process of them, V_BW: what the network carries of KV. `lengths`: whose word is
    taken for the output lengths. Scale-in without hysteresis. Source: TokenScale (arXiv 2512.03416), as a
    re-implementation gives it. *Ours:* edges of the buckets (DynamoLLM's), rates over window_s, velocities from the
    profile's formula (V_P: the training part's mean prompt alone; V_b: the largest batch of the bucket's mean lengths
    that memory and max_seqs allow), demand times 1 + headroom; a request that came and went between two looks counts
    by the mean lengths of such. *Left out:* decoders that turn into prefillers in a burst.
    """

    lengths: str = "buckets"  # type: ignore[misc]  # of the class in autoscalers that read none
    length_error: float = 0.0
    window_s: float = 60.0
    headroom: float = 0.0
    control_s: float = 10.0

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        positive(window_s=self.window_s)
        check_headroom(self.headroom)
        check_name("lengths", self.lengths, (*LENGTHS, TRUE))
        check_error("length_error", self.length_error, f"lengths={TRUE}", self.lengths == TRUE)

    @property
    def foresight(self) -> bool:  # type: ignore[override]
        """Whether it is told the true lengths."""
        return self.lengths == TRUE

    def start(self, fleet: Fleet, history: History) -> Scaling:
        """Velocities of every pool; nothing came yet."""
        rates = {(row["service"], row["lane"]): row for row in history.rates.iter_rows(named=True)}
        carries = math.inf if fleet.kv_bandwidth_gb_s is None else fleet.kv_bandwidth_gb_s * 1e9
        memory = [self.velocities(pool, rates[pool.service, pool.lane], carries) for pool in fleet.pools]
        return Scaling(fleet, memory, Known())

    def velocities(self, pool: Pool, rates: dict[str, Any], carries: float) -> Arrived:
        """Of the training part's mean prompt; carries: bytes/s of the network."""
        profile = pool.profile
        prompt = float(rates["prompt_tokens_s"]) / max(float(rates["requests_s"]), 1e-12)
        prefill = prefill_tokens_s(Load(profile, pool.lane, max(prompt, 1.0), 1.0))
        network = carries / profile.kv_bytes_per_token if profile.kv_bytes_per_token else math.inf
        most = min(profile.max_seqs, profile.max_batch_tokens)
        return Arrived(profile, pool.lane, min(prefill, network), profile.latency.token_s(most))

    def react(self, t: float, seen: Seen, state: Run) -> Actions:
        """The count of every pool."""
        assert isinstance(state, Scaling)
        pools = state.fleet.pools
        sums = np.zeros((len(pools), 3, BUCKETS))
        if seen.closer is not None:  # windows have none: all are of the mean lengths
            sums = newly(seen.requests, state.known, len(pools))
        counts = {}
        for p, (pool, now) in enumerate(zip(pools, looks(t, seen), strict=True)):
            self.add(now, state.memory[p], sums[p])
            counts[p] = pool.clamp(self.count(now, state.memory[p]))
        return Actions(counts)

    def add(self, pool: PoolSeen, memory: Arrived, sums: np.ndarray) -> None:
        """What came since the last look: `sums`, and those that have gone already."""
        requests, inputs, _ = sums.sum(axis=1)
        gone = pool.arrivals - requests
        if gone > 0:
            each = max(pool.arrived_input_tokens - inputs, 0.0) / gone
            answer = pool.completed_output_tokens / pool.completions if pool.completions else 1.0
            sums[:, buckets(np.array([each]), np.array([answer]))[0]] += gone, gone * each, gone * answer
        memory.looks.append((pool.t, pool.interval_s, sums))
        while len(memory.looks) > 1 and memory.looks[0][0] <= pool.t - self.window_s:  # the last one always counts
            memory.looks.popleft()

    def count(self, pool: PoolSeen, memory: Arrived) -> int:
        """Token rates of the window over velocities."""
        over_s = max(sum(interval for _, interval, _ in memory.looks), 1e-9)
        requests, inputs, outputs = np.sum([sums for *_, sums in memory.looks], axis=0) / over_s
        prefill = float(inputs.sum()) / memory.prefill_tokens_s
        decode = decoders(memory, requests, inputs, outputs)
        share = {PREFILL: prefill, DECODE: decode}.get(memory.lane, max(prefill, decode))
        return max(math.ceil(share * (1 + self.headroom) - 1e-9), 1)


def newly(requests: SeenRequests, known: Known, pools: int) -> np.ndarray:
    """Requests, prompt and predicted output tokens there since the last look, f8[pools, 3, BUCKETS].

    In a decode lane those handed over since.
    """
    here = (requests.where != "held") & (requests.where != "travelling")
    keys = requests.request[here] * pools + requests.pool[here]  # rising: by request, of one pool each
    new = ~np.isin(keys, known.keys, assume_unique=True)
    known.keys = keys
    pool, inputs, outputs = (c[here][new] for c in (requests.pool, requests.input_tokens, requests.predicted_tokens))
    at = pool * BUCKETS + buckets(inputs, outputs)
    size = pools * BUCKETS
    sums = [np.bincount(at, weights, minlength=size) for weights in (None, inputs, outputs)]
    return np.stack(sums).astype(np.float64).reshape(3, pools, BUCKETS).swapaxes(0, 1).copy()


def decoders(memory: Arrived, requests_s: np.ndarray, input_s: np.ndarray, output_s: np.ndarray) -> float:
    """Σ_b λ_b / V_b, by bucket."""
    some = requests_s > 0
    inputs, outputs = input_s[some] / requests_s[some], np.maximum(output_s[some] / requests_s[some], 1.0)
    return float(((input_s + output_s)[some] / velocity(memory, inputs, outputs)).sum())


def velocity(memory: Arrived, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """V_b: prompt and output tokens/s of a replica that decodes as many requests of these lengths as it can hold."""
    held, latency = inputs + outputs / 2, memory.profile.latency
    most = np.clip(memory.profile.kv_tokens // held, 1, len(memory.steps_s) - 1)
    step_s = latency.base + memory.steps_s[most.astype(int)]
    step_s = step_s + most * (latency.decode_seq + latency.decode_kv * held)
    return np.asarray(most / step_s / outputs * (inputs + outputs))


def buckets(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """i8, the bucket of each request: short, medium and long prompts, each with short, medium and long answers."""
    row = np.searchsorted(INPUT_EDGES, inputs, side="right")
    column = np.searchsorted(OUTPUT_EDGES, outputs, side="right")
    return row * (len(OUTPUT_EDGES) + 1) + column

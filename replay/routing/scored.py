"""llm-d's endpoint picker: cached prefix, queue and KV cache weighed against each other."""

from dataclasses import dataclass

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Range, Router


@router
def scored(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The highest weighted sum of three scores from 0 to 1: prompt cached, short queue, free KV cache.

    params: prefix, queue, kv (weights), queue_over, kv_over. Prompt cached: matched over prompt tokens (llm-d: over its
    whole blocks). Queue: (most - own) / (most - fewest) waiting requests, 1 where all are alike. KV: 1 - share in use.
    Replicas with more than queue_over waiting or more than kv_over of KV in use are left out, unless all are. Ties to
    the lowest index (llm-d: by chance). O(replicas · log hashes). Scorers, thresholds and default weights of llm-d and
    kubernetes-sigs/gateway-api-inference-extension, pkg/epp/scheduling/framework/plugins/scorer (queue.go,
    kvcache_utilization.go) and multi/prefix.
    """
    n, left = replicas.shape[0], 0
    for i in range(n):
        busy = replicas[i, c.KV_TOKENS] / replicas[i, c.KV_CAPACITY_TOKENS]
        scores[i] = np.inf if replicas[i, c.WAITING] > params[3] or busy > params[4] else 0.0
        left += scores[i] == 0.0
    fewest, most = np.inf, 0.0
    for i in range(n):
        if scores[i] == 0.0 or left == 0:
            fewest, most = min(fewest, replicas[i, c.WAITING]), max(most, replicas[i, c.WAITING])
    for i in range(n):
        if scores[i] == 0.0 or left == 0:
            cached = replicas[i, c.MATCHED_TOKENS] / request[c.INPUT_TOKENS]
            short = (most - replicas[i, c.WAITING]) / (most - fewest) if most > fewest else 1.0
            free = 1.0 - replicas[i, c.KV_TOKENS] / replicas[i, c.KV_CAPACITY_TOKENS]
            scores[i] = -(params[0] * cached + params[1] * short + params[2] * free)
    return c.SCORES


@dataclass(frozen=True)
class Scored(Router):
    """A router that needs one of its three scores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.numbers[:3]):
            raise ValueError("prefix, queue and kv are all 0; one of these weights at least must be above 0")


WEIGHTS = {"prefix": 2.0, "queue": 1.0, "kv": 1.0, "queue_over": 5.0, "kv_over": 0.8}
RANGES = {**dict.fromkeys(WEIGHTS, Range()), "kv_over": Range(0, 1)}
ROUTER = Scored(scored, params=WEIGHTS, tokens=True, prefix=True, ranges=RANGES)

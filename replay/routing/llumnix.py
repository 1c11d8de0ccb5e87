"""Llumnix's dispatch: the replica with the most free KV cache a request."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Router
from .steps import requests_at


@router
def llumnix(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The highest freeness: (free KV - prompt tokens not yet prefilled) / requests; one without requests before all.

    In tokens, where Llumnix counts blocks. O(replicas). AlibabaPAI/llumnix (OSDI'24), load `remaining_steps`; its
    migration between replicas is no router's.
    """
    for i in range(replicas.shape[0]):
        here = requests_at(replicas, i)
        free = replicas[i, c.KV_CAPACITY_TOKENS] - replicas[i, c.KV_TOKENS] - replicas[i, c.PREFILL_TOKENS]
        scores[i] = -free / here if here > 0.0 else -np.inf
    return c.SCORES


ROUTER = Router(llumnix, tokens=True)

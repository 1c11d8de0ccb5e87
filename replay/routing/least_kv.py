"""The replica with the least of its KV cache in use."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Router


@router
def least_kv(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The smallest share of KV cache in use; requests not yet admitted hold none.

    AIBrix's least-kv-cache. No linear score where profiles differ, so all replicas are looked at: O(replicas).
    """
    for i in range(replicas.shape[0]):
        scores[i] = replicas[i, c.KV_TOKENS] / replicas[i, c.KV_CAPACITY_TOKENS]
    return c.SCORES


ROUTER = Router(least_kv, tokens=True)

"""A session stays with its replica."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Router
from .steps import MASK, STEP, fewest_requests, mix, times


@router
def session_affinity(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """All requests of a session to one replica, by hash; a request without session to the fewest requests.

    Highest random weight: the replica whose number, hashed with the session's, comes out largest; ties to the lowest
    index. A replica that joins takes over only what it wins, one that leaves gives up only its own: with n replicas
    one session in n moves. Load plays no part. O(replicas). Thaler and Ravishankar, IEEE/ACM ToN 6(1), 1998; in place
    of the hash ring of vLLM production-stack's session router.
    """
    if request[c.SESSION] < 0:
        return fewest_requests(replicas)
    session = int(request[c.SESSION])
    key = mix((session & MASK) ^ mix((session >> 32) & MASK))
    best, highest = 0, -1
    for i in range(replicas.shape[0]):
        weight = mix(key ^ times(int(replicas[i, c.INDEX]) + 1, STEP))
        if weight > highest:
            best, highest = i, weight
    return best


ROUTER = Router(session_affinity)

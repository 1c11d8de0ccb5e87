"""The replica with the fewest requests."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Router


@router
def least_requests(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The fewest requests, waiting and running.

    Running ones too: a balancer that counts only waiting ones piles ties on replica 0. O(log replicas).
    """
    for i in range(replicas.shape[0]):
        scores[i] = replicas[i, c.WAITING] + replicas[i, c.RUNNING]
    return c.SCORES


ROUTER = Router(least_requests, weights={c.WAITING: 1.0, c.RUNNING: 1.0})

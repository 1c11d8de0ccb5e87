"""The better of two replicas drawn at random."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import REPLAY_SEED, Router
from .steps import draw, requests_at


@router
def power_of_two(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """Of two different replicas drawn at random, the one with fewer requests, ties to the lower index.

    params: seed. Requests are waiting and running ones; a single replica takes all; O(1). Mitzenmacher, The Power of
    Two Choices in Randomized Load Balancing, IEEE TPDS 12(10), 2001; Ray Serve's default, on queue length.
    """
    n = replicas.shape[0]
    if n == 1:
        return 0
    one = draw(memory, params[0], request[c.POOL], n)
    other = draw(memory, params[0], request[c.POOL], n - 1)
    if other >= one:
        other += 1
    low, high = min(one, other), max(one, other)
    return high if requests_at(replicas, high) < requests_at(replicas, low) else low


ROUTER = Router(power_of_two, params={"seed": REPLAY_SEED})

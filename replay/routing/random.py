"""A replica at random."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import REPLAY_SEED, Router
from .steps import draw


@router
def random(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """Any active replica, each as likely: what a balancer that knows nothing does.

    params: seed. One draw (steps.draw) a request; O(1). Vidur's and AIBrix's `random`.
    """
    return draw(memory, params[0], request[c.POOL], replicas.shape[0])


ROUTER = Router(random, params={"seed": REPLAY_SEED})

"""The replica with the fewest outstanding tokens: prompt not yet prefilled and predicted output to come."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Router


@router
def least_outstanding(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """Join the shortest queue, measured in tokens."""
    for i in range(replicas.shape[0]):
        scores[i] = replicas[i, c.OUTSTANDING_TOKENS]
    return c.SCORES


ROUTER = Router(least_outstanding, tokens=True)

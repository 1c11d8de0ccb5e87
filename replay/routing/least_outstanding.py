"""The replica with the fewest outstanding tokens."""

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
    """The fewest outstanding tokens: prompt not yet prefilled and predicted output to come.

    Join the shortest queue, measured in tokens (SageServe's endpoints). O(log replicas).
    """
    for i in range(replicas.shape[0]):
        scores[i] = replicas[i, c.OUTSTANDING_TOKENS]
    return c.SCORES


ROUTER = Router(least_outstanding, tokens=True, weights={c.OUTSTANDING_TOKENS: 1.0})

"""Replicas in turn."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Router


@router
def round_robin(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """Active replicas in turn, by index, starting at 0; a rejected request uses its turn.

    memory[0]: row after the last choice, memory[1]: index of the last choice; both -1 at the start. O(1).
    """
    n, last = replicas.shape[0], memory[1]
    row = int(memory[0])
    if row < 0 or row > n or (row > 0 and replicas[row - 1, c.INDEX] != last):  # replicas came or went
        row = 0
        while row < n and replicas[row, c.INDEX] <= last:
            row += 1
    if row >= n:
        row = 0
    memory[0] = row + 1
    memory[1] = replicas[row, c.INDEX]
    return row


ROUTER = Router(round_robin)

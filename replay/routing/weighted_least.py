"""Shares of the traffic by kind of request and profile of replica, the least loaded replica of the profile."""

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Range
from .steps import fewest_requests
from .weighted import LARGEST, Weighted, whose_turn


@router
def weighted_least(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """Each kind of request in turn over the profiles, in shares of their replicas' weights; there the fewest tokens.

    params: as those of `weighted`, which says what a turn is and what zero means; of the profile whose turn it is the
    replica with the fewest outstanding tokens is chosen, ties to the lowest index. Replicas of a profile are alike, so
    what an assignment gives one of them any may take (policies.oserve.flow). O(replicas).
    """
    turn = whose_turn(request, replicas, params, memory)
    if turn < 0:
        return fewest_requests(replicas)
    profile = replicas[turn, c.PROFILE]
    chosen = -1
    for i in range(replicas.shape[0]):
        if replicas[i, c.PROFILE] == profile and (
            chosen < 0 or replicas[i, c.OUTSTANDING_TOKENS] < replicas[chosen, c.OUTSTANDING_TOKENS]
        ):
            chosen = i
    return chosen


ROUTER = Weighted(weighted_least, params={"weights": [[1.0]]}, tokens=True, ranges={"weights": Range(0, LARGEST)})

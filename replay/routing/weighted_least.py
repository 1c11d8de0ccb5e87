"""Shares of the traffic by kind of request and profile of replica, the least loaded replica of the profile."""

import numpy as np

from .. import columns as c
from ..jit import jit, router
from ..routers import Range
from .steps import fewest_requests
from .weighted import LARGEST, Weighted, whose_turn

FEW, PART = 4.0, 8.0  # waiting requests that make a queue: so many, and one for every PART that run


@jit
def least_of(replicas: np.ndarray, profile: float) -> int:
    """The profile's replica with the fewest outstanding tokens, ties to the lowest index. O(replicas)."""
    chosen = -1
    for i in range(replicas.shape[0]):
        if replicas[i, c.PROFILE] == profile and (
            chosen < 0 or replicas[i, c.OUTSTANDING_TOKENS] < replicas[chosen, c.OUTSTANDING_TOKENS]
        ):
            chosen = i
    return chosen


@jit
def soonest(request: np.ndarray, replicas: np.ndarray, params: np.ndarray) -> int:
    """The replica that is done soonest with its outstanding tokens and the request's, by `rates`; -1: none has one."""
    at = 2 + int(params[0]) * int(params[1])  # behind the weights
    rows, columns = int(params[at]), int(params[at + 1])
    first = at + 2 + min(int(request[c.KIND]), rows - 1) * columns
    own = request[c.INPUT_TOKENS] + request[c.PREDICTED_TOKENS]
    chosen, least = -1, np.inf
    for i in range(replicas.shape[0]):
        rate = params[first + min(int(replicas[i, c.PROFILE]), columns - 1)]
        if rate > 0.0:
            busy = (replicas[i, c.OUTSTANDING_TOKENS] + own) / rate
            if busy < least:
                chosen, least = i, busy
    return chosen


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

    params: weights as those of `weighted`, which says what a turn is and what zero means; of the profile whose turn it
    is the replica with the fewest outstanding tokens is chosen, ties to the lowest index. Replicas of a profile are
    alike, so what an assignment gives one of them any may take (policies.oserve.flow). rates (a table likewise):
    requests/s of a kind that a replica of a profile serves, 0: none of them. Where the chosen one has a queue (FEW
    waiting, and one for every PART running), or where all weigh zero, the request goes where outstanding tokens over
    rates are fewest instead, so that what shares did not foresee does not pile up in one place. O(replicas).
    """
    turn, chosen = whose_turn(request, replicas, params, memory), -1
    if turn >= 0:
        chosen = least_of(replicas, replicas[turn, c.PROFILE])
        waiting = replicas[chosen, c.WAITING]
        if waiting < FEW or PART * waiting < replicas[chosen, c.RUNNING]:
            return chosen
    other = soonest(request, replicas, params)
    if other >= 0:
        return other
    return chosen if chosen >= 0 else fewest_requests(replicas)


TABLE = Range(0, LARGEST)
ROUTER = Weighted(
    weighted_least,
    params={"weights": [[1.0]], "rates": [[0.0]]},
    tokens=True,
    ranges={"weights": TABLE, "rates": TABLE},
)

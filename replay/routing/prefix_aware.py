"""Where most of the prompt is cached, while load is even."""

import math

import numpy as np

from .. import columns as c
from ..jit import router
from ..routers import Range, Router
from .steps import fewest_requests, requests_at


@router
def prefix_aware(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The longest cached prefix on a replica not overloaded; the fewest requests where load is uneven or none match.

    params: spread, sigmas. Requests are waiting and running ones (AIBrix's gateway counts what it has sent). Where the
    most minus the fewest exceeds spread: the fewest requests. Else the longest match above 0 among the replicas with at
    most mean + sigmas · standard deviation (of a sample) requests, ties to fewer requests, then to the lowest index
    (AIBrix: by chance). O(replicas · log hashes). AIBrix's prefix-cache router; it has since changed its defaults.
    """
    n = replicas.shape[0]
    if n == 1:
        return 0
    low, high, total = np.inf, 0.0, 0.0
    for i in range(n):
        here = requests_at(replicas, i)
        low, high, total = min(low, here), max(high, here), total + here
    if high - low > params[0]:
        return fewest_requests(replicas)
    squares = 0.0
    for i in range(n):
        off = requests_at(replicas, i) - total / n
        squares += off * off
    most = total / n + params[1] * math.sqrt(squares / (n - 1))
    best = -1
    for i in range(n):
        matched, here = replicas[i, c.MATCHED_TOKENS], requests_at(replicas, i)
        if matched <= 0.0 or here > most:
            continue
        longest = replicas[best, c.MATCHED_TOKENS] if best >= 0 else 0.0
        if matched > longest or (matched == longest and here < requests_at(replicas, best)):
            best = i
    return best if best >= 0 else fewest_requests(replicas)


ROUTER = Router(
    prefix_aware,
    params={"spread": 16.0, "sigmas": 2.0},
    prefix=True,
    ranges={"spread": Range(), "sigmas": Range()},
)

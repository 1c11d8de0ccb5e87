"""Shares of the traffic by kind of request and profile of replica."""

from dataclasses import dataclass

import numpy as np

from .. import columns as c
from ..jit import jit, router
from ..routers import Range, Router
from .steps import MASK, STEP, fewest_requests

LARGEST = 1_000_000_000  # a weight: sums of them stay exact enough to tell shares apart
KINDS = 8  # with a turn of their own; the kinds after share them


@jit
def whose_turn(request: np.ndarray, replicas: np.ndarray, params: np.ndarray, memory: np.ndarray) -> int:
    """The replica among whose weight the kind's next turn falls; -1: all weigh zero. O(replicas)."""
    rows, columns = int(params[0]), int(params[1])
    first = 2 + min(int(request[c.KIND]), rows - 1) * columns
    total = 0.0
    for i in range(replicas.shape[0]):
        total += params[first + min(int(replicas[i, c.PROFILE]), columns - 1)]
    if total <= 0.0:
        return -1
    turn = int(request[c.KIND]) % KINDS
    memory[turn] = 0 if memory[turn] < 0 else (int(memory[turn]) + STEP) & MASK
    rest = memory[turn] / (MASK + 1) * total
    chosen = 0
    for i in range(replicas.shape[0]):
        weight = params[first + min(int(replicas[i, c.PROFILE]), columns - 1)]
        if weight > 0.0:
            chosen = i
            if rest < weight:
                break
            rest -= weight
    return chosen


@router
def weighted(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """Each kind of request in turn over the replicas, in shares weights[kind][profile].

    params: weights (rows, columns, numbers): a replica's weight by the request's kind and its profile, both by their
    number; the last row and column stand for all after them. Zero: no such requests; where all weigh zero, the fewest
    requests. The n-th request of a kind goes where n · 2^32/φ mod 2^32 falls among the weights laid end to end: a
    sequence as even as a smooth weighted round robin (nginx), in one number a kind. O(replicas).
    """
    chosen = whose_turn(request, replicas, params, memory)
    return fewest_requests(replicas) if chosen < 0 else chosen


@dataclass(frozen=True)
class Weighted(Router):
    """A router whose weights are shares."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(map(any, self.params["weights"])):  # type: ignore[arg-type]
            raise ValueError(f"weights is {self.params['weights']}; shares of which one at least is above 0")


ROUTER = Weighted(weighted, params={"weights": [[1.0]]}, ranges={"weights": Range(0, LARGEST)})

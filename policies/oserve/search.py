"""OServe's upper level: which shapes a budget of GPUs is divided into, guided by the flow of the lower level."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .flow import Assignment, assign

PATIENCE = 20  # steps without a better deployment, after which the search ends (the paper's)
PROMISING = 3  # neighbours of a deployment that are solved, of those not yet visited
CLOSE = 1e-9  # of the demand: less served than so much more is no gain

Counts = tuple[int, ...]
Value = tuple[float, float, int]  # served, minus the peak, minus the GPUs that change hands: the larger the better


@dataclass(frozen=True, eq=False)
class Budget:
    """What may be deployed: gpus i8[shapes] a replica, capacity f8[shapes, types] (`flow.assign`), GPUs in all.

    demand f8[types], requests/s; before: the deployment there is, to which a change is measured. least, most: replicas.
    """

    gpus: np.ndarray
    capacity: np.ndarray
    demand: np.ndarray
    total: int
    before: Counts | None = None
    least: int = 0
    most: int | None = None

    def allows(self, counts: Counts) -> bool:
        """Whether there are not too few replicas, nor too many."""
        return sum(counts) >= self.least and (self.most is None or sum(counts) <= self.most)


@dataclass
class Deployments:
    """Deployments and what they are worth, each solved once."""

    budget: Budget
    known: dict[Counts, tuple[Value, Assignment]] = field(default_factory=dict)

    def value(self, counts: Counts) -> Value:
        """Larger is better: more served, then a lower peak, then fewer GPUs that change hands."""
        return self._solved(counts)[0]

    def flow(self, counts: Counts) -> Assignment:
        """The assignment."""
        return self._solved(counts)[1]

    def better(self, one: Counts, other: Counts) -> bool:
        """Whether `one` is worth more, by more than rounding."""
        (a, p, m), (b, q, n) = self.value(one), self.value(other)
        margin = CLOSE * max(float(self.budget.demand.sum()), 1e-12)
        if abs(a - b) > margin:
            return a > b
        return p > q + CLOSE if abs(p - q) > CLOSE else m > n

    def worth_mixing(self, mixed: Counts, pooled: Counts, least: float) -> bool:
        """Whether `mixed` beats replicas of one shape: it alone serves a type, or what it gains is at least `least`.

        A gain is a share of what is served, or of how full the fullest would be were all served. The flow takes
        requests for a steady stream; in bursts fewer kinds of replicas stand in for each other, which it does not see.
        """
        one, other = self.flow(mixed), self.flow(pooled)
        runs = [(self.budget.capacity[np.array(counts) > 0] > 0).any(axis=0) for counts in (mixed, pooled)]
        if (runs[0] & ~runs[1] & (self.budget.demand > 0)).any():
            return True
        return one.served >= (1 + least) * other.served or (1 + least) * one.pressure <= other.pressure

    def _solved(self, counts: Counts) -> tuple[Value, Assignment]:
        if counts not in self.known:
            flow = assign(self.budget.capacity, np.array(counts, np.int64), self.budget.demand)
            self.known[counts] = ((flow.served, -flow.peak, -moved(self.budget, counts)), flow)
        return self.known[counts]


def moved(budget: Budget, counts: Counts) -> int:
    """GPUs of replicas that are there and not in `counts`."""
    if budget.before is None:
        return 0
    gone = np.maximum(np.array(budget.before) - np.array(counts), 0)
    return int((gone * budget.gpus).sum())


def fillings(gpus: np.ndarray, total: int) -> Iterator[Counts]:
    """Every way to fill `total` GPUs with replicas so that no further one fits."""

    def fill(shape: int, left: int) -> Iterator[Counts]:
        if shape == len(gpus):
            yield ()
            return
        for n in range(left // int(gpus[shape]) + 1):
            for rest in fill(shape + 1, left - n * int(gpus[shape])):
                yield (n, *rest)

    least = int(gpus.min())
    return (c for c in fill(0, total) if total - int((np.array(c) * gpus).sum()) < least)


def exhaustive(budget: Budget) -> Counts:
    """The best of all deployments: for small budgets, and to check the search by."""
    tried = Deployments(budget)
    best: Counts | None = None
    for counts in filter(budget.allows, fillings(budget.gpus, budget.total)):
        if best is None or tried.better(counts, best):
            best = counts
    assert best is not None
    return best


def search(budget: Budget, patience: int = PATIENCE, deployments: Deployments | None = None) -> Counts:
    """A good deployment, as the flow guides to it (the paper's procedure; its operators are partly ours).

    From equal replicas of the smallest shape, or the deployment there is: GPUs go from where the flow has room to where
    it has a bottleneck, as its prices tell; the best of the PROMISING neighbours not yet visited is next, and
    `patience` steps in a row without a better one end it.
    """
    tried = Deployments(budget) if deployments is None else deployments
    best = now = budget.before if budget.before is not None and any(budget.before) else _smallest(budget)
    visited, idle = {now}, 0
    while idle < patience:
        around = [counts for counts in _neighbours(budget, now, tried.flow(now)) if counts not in visited]
        if not around:
            break
        now = max(around[:PROMISING], key=tried.value)
        visited.add(now)
        idle = 0 if tried.better(now, best) else idle + 1
        best = now if idle == 0 else best
    return best


def _smallest(budget: Budget) -> Counts:
    """Equal replicas, as many as there is room for, of the shape with the fewest GPUs that serves anything."""
    order = np.lexsort((budget.gpus, ~(budget.capacity > 0).any(axis=1)))
    counts = np.zeros(len(budget.gpus), np.int64)
    n = budget.total // int(budget.gpus[order[0]])
    counts[order[0]] = n if budget.most is None else min(n, budget.most)
    return tuple(int(n) for n in counts)


def _neighbours(budget: Budget, now: Counts, flow: Assignment) -> list[Counts]:
    """Deployments in which GPUs of one shape go to another, the most promising first.

    As many replicas of a shape as one of another needs give way, what is over is filled up; the promise is what the
    flow's prices say of those that come less those that go.
    """
    counts, prices = np.array(now), flow.prices
    idle = budget.total - int((counts * budget.gpus).sum())
    found: dict[Counts, float] = {}
    for giver in np.flatnonzero(counts > 0):
        for taker in range(len(counts)):
            gone = min(-(-max(int(budget.gpus[taker]) - idle, 0) // int(budget.gpus[giver])), int(counts[giver]))
            free = idle + gone * int(budget.gpus[giver])
            if taker == giver or free < budget.gpus[taker]:
                continue
            new = counts.copy()
            new[giver] -= gone
            new[taker] += free // int(budget.gpus[taker])
            new = _filled(budget, new, free % int(budget.gpus[taker]), prices)
            found[tuple(int(n) for n in new)] = float(((new - counts) * prices).sum())
    found.pop(now, None)
    return sorted(filter(budget.allows, found), key=lambda counts: (-found[counts], counts))


def _filled(budget: Budget, counts: np.ndarray, free: int, prices: np.ndarray) -> np.ndarray:
    """Idle GPUs go to the shapes that are worth most a GPU."""
    for shape in np.argsort(-prices / budget.gpus, kind="stable"):
        counts[shape] += free // int(budget.gpus[shape])
        free %= int(budget.gpus[shape])
    return counts

"""OServe's upper level: which shapes a budget of GPUs is divided into, guided by the flow of the lower level."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .flow import Assignment, assign

PATIENCE = 20  # steps without a better deployment, after which the search ends (the paper's)
CLOSE = 1e-9  # of the demand: less served than so much more is no gain
WHOLE = 16  # GPUs up to which the search has all deployments in view
FULL = 1e-6  # of the demand: where less is left, all is served
DIGITS = 9  # decimals of a promise: beyond them promises are alike

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
        return self.beats(self.value(one), self.value(other))

    def beats(self, one: Value, other: Value) -> bool:
        """The same of what they are worth."""
        (a, p, m), (b, q, n) = one, other
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


class Open:
    """Deployments that are not solved yet, and what each may be worth at most, by the prices of every flow that is.

    By duality a flow bounds all other deployments: c' serves at most what c does and Σ prices · (c' - c); where c
    serves all, the fullest shape of a c' that does so, too, is at least Σ prices · c / Σ prices · c' times as full.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.servable = float(budget.demand[(budget.capacity > 0).any(axis=0)].sum())
        self.flows: list[Assignment] = []
        self.seen: set[Counts] = set()
        self.counts = np.empty((0, len(budget.gpus)), np.int64)
        self.worth = np.empty((0, 3))  # as Value

    def add(self, found: Iterable[Counts]) -> None:
        """Those that were never here before."""
        new = [counts for counts in found if counts not in self.seen]
        if not new:
            return
        self.seen.update(new)
        worth = np.array([[self.servable, 0.0, -moved(self.budget, counts)] for counts in new])
        for flow in self.flows:
            self._bound(np.array(new), worth, flow)
        self.counts, self.worth = np.vstack([self.counts, np.array(new)]), np.vstack([self.worth, worth])

    def close(self, counts: Counts, flow: Assignment) -> None:
        """It is solved; its flow says something of all others."""
        self.seen.add(counts)
        others = (self.counts != np.array(counts)).any(axis=1)
        self.counts, self.worth = self.counts[others], self.worth[others]
        self.flows.append(flow)
        self._bound(self.counts, self.worth, flow)

    def top(self) -> tuple[Value, Counts] | None:
        """What is promised at most, and by which (of alike ones the first in order of counts); None: none is open."""
        if not len(self.counts):
            return None
        served = np.round(self.worth[:, 0] / max(self.servable, 1e-12), DIGITS)
        k = np.lexsort((*self.counts.T[::-1], -self.worth[:, 2], -np.round(self.worth[:, 1], DIGITS), -served))[0]
        promised, peak, gpus = self.worth[k]
        return (float(promised), float(peak), int(gpus)), tuple(int(n) for n in self.counts[k])

    def _bound(self, counts: np.ndarray, worth: np.ndarray, flow: Assignment) -> None:
        here, there = float(flow.counts @ flow.prices), counts @ flow.prices
        if self.servable - flow.served > FULL * self.servable:
            worth[:, 0] = np.minimum(worth[:, 0], flow.served + there - here)
        else:
            worth[:, 1] = np.minimum(worth[:, 1], -flow.peak * here / np.maximum(there, 1e-300))


def search(
    budget: Budget, patience: int = PATIENCE, deployments: Deployments | None = None, whole: int = WHOLE
) -> Counts:
    """A good deployment, as the flow guides to it (the paper's procedure; what is ours: docs/policies.md).

    From equal replicas of the smallest shape, or the deployment there is: each step solves one deployment, of those in
    view that which the prices of all flows so far promise most of. In view are the neighbours of every deployment
    solved (GPUs of one shape go to another), up to `whole` GPUs all from the start. `patience` steps in a row without a
    better one end it, or, where all are in view, that none promises to be better.
    """
    tried = Deployments(budget) if deployments is None else deployments
    best = now = budget.before if budget.before is not None and any(budget.before) else _smallest(budget)
    view, all_seen, idle = Open(budget), budget.total <= whole, 0
    if all_seen:
        view.add(filter(budget.allows, fillings(budget.gpus, budget.total)))
    while idle < patience:
        flow = tried.flow(now)
        view.close(now, flow)
        if not all_seen:
            view.add(_neighbours(budget, now, flow.prices))
        top = view.top()
        if top is None or (all_seen and not tried.beats(top[0], tried.value(best))):
            break
        now = top[1]
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


def _neighbours(budget: Budget, now: Counts, prices: np.ndarray) -> list[Counts]:
    """Deployments in which GPUs of one shape go to another.

    As many replicas of a shape as one of another needs give way; what is over is filled up by the flow's prices.
    """
    counts, found = np.array(now), set()
    idle = budget.total - int((counts * budget.gpus).sum())
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
            found.add(tuple(int(n) for n in new))
    return sorted(filter(budget.allows, found - {now}))


def _filled(budget: Budget, counts: np.ndarray, free: int, prices: np.ndarray) -> np.ndarray:
    """Idle GPUs go to the shapes that are worth most a GPU."""
    for shape in np.argsort(-prices / budget.gpus, kind="stable"):
        counts[shape] += free // int(budget.gpus[shape])
        free %= int(budget.gpus[shape])
    return counts

"""Mélange's allocation as an ILP: how many replicas of each shape, at the least price, serve all of the demand."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quiet import quiet

SLACK = 1e-6  # HiGHS' own tolerance: loads that add up to 3.000001 fit three replicas
NODES = 5_000  # of the search tree: a bound that, unlike a time limit, is the same on every machine
GAP = 1e-4  # of the price


@dataclass(frozen=True, eq=False)
class Problem:
    """Kinds of requests and shapes of replicas, of all pools together.

    capacity f8[shapes, kinds], requests/s of a kind alone that a replica sustains, 0: none (of another pool, or out of
    reach); demand f8[kinds], requests/s; price f8[shapes], $/h a replica. rows f8[bounds, shapes], low, high
    f8[bounds]: low <= rows · replicas <= high (GPUs of a region, replicas of a pool).
    """

    capacity: np.ndarray
    demand: np.ndarray
    price: np.ndarray
    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray


def cheapest(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """(replicas i8[shapes], requests/s that find no room f8[kinds]): min Σ price·B, Σ_j x_kj / n_kj <= B_k, B whole.

    All demand is served, Σ_k x_kj = λ_j, of kinds that some shape serves (arXiv 2404.14527, by HiGHS). The paper cuts
    each λ_j into equal slices, each for one shape as a whole; here x is any share, the limit of many slices. Where the
    bounds leave no room for all, as few requests/s as can be are left, and then the price is the least.
    ArithmeticError where the bounds cannot be met.
    """
    found = _solved(problem, 0.0)
    if found is None:
        fewest = _solved(problem, None)
        if fewest is None:
            raise ArithmeticError(f"no {len(problem.price)} counts of replicas meet {len(problem.rows)} bounds")
        least = float(fewest[1].sum())
        found = _solved(problem, least * (1 + SLACK) + SLACK * float(problem.demand.sum())) or fewest
    replicas, left = found
    return replicas, np.where((problem.capacity > 0).any(axis=0), left, problem.demand)


def _solved(problem: Problem, most_left: float | None) -> tuple[np.ndarray, np.ndarray] | None:
    """(replicas, left) at the least price with at most so many requests/s left; None: with the fewest left at all."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # deferred: most commands do without
    from scipy.sparse import csr_array, diags_array, eye_array, hstack

    shapes = len(problem.price)
    k, j = np.nonzero((problem.capacity > 0) & (problem.demand > 0))
    kinds = np.unique(j)
    n, m, demand = len(k), len(kinds), problem.demand[kinds]
    place = (np.searchsorted(kinds, j), np.arange(n))
    load = problem.demand[j] / problem.capacity[k, j]  # replicas, where all of a kind goes to a shape
    # variables: replicas by shape, share of its kind by (shape, kind), share left by kind
    whole = hstack([csr_array((m, shapes)), csr_array((np.ones(n), place), shape=(m, n)), eye_array(m)])
    most = np.ones(shapes)
    np.maximum.at(most, k, load)
    weighed = csr_array((load / most[k], (k, np.arange(n))), shape=(shapes, n))
    fits = hstack([-diags_array(1 / most), weighed, csr_array((shapes, m))])
    bounds = hstack([csr_array(problem.rows), csr_array((len(problem.rows), n + m))])
    limits: list[Any] = [
        LinearConstraint(whole, 1.0, 1.0),
        LinearConstraint(fits, -np.inf, SLACK),
        LinearConstraint(bounds, problem.low, problem.high),
    ]
    unit, total = max(float(problem.price.max(initial=0.0)), 1e-12), max(float(demand.sum()), 1e-12)
    cost = np.concatenate([problem.price / unit, np.zeros(n + m)])
    if most_left is None:
        cost = np.concatenate([np.zeros(shapes + n), demand / total])
    elif most_left > 0:
        rest = np.concatenate([np.zeros(shapes + n), demand / total])
        limits.append(LinearConstraint(rest[None, :], 0.0, most_left / total))
    upper = np.concatenate([np.full(shapes, np.inf), np.ones(n), np.zeros(m) if most_left == 0 else np.ones(m)])
    with quiet():
        found = milp(
            cost,
            integrality=np.concatenate([np.ones(shapes), np.zeros(n + m)]),
            bounds=Bounds(0.0, upper),
            constraints=limits,
            options={"mip_rel_gap": GAP, "node_limit": NODES, "presolve": False},
        )
    if found.x is None:
        return None
    left = np.zeros(len(problem.demand))
    left[kinds] = np.clip(found.x[shapes + n :], 0.0, 1.0) * demand
    return np.rint(found.x[:shapes]).astype(np.int64), np.where(left > SLACK * total, left, 0.0)

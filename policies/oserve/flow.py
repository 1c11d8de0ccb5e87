"""OServe's lower level: which share of each request type goes to replicas of which shape, as a generalised flow."""

from dataclasses import dataclass
from typing import Any

import numpy as np

LIGHT = 1e-6  # of a request/s: what the fullest shape's utilisation weighs beside what is served, in prices


@dataclass(frozen=True)
class Assignment:
    """Requests/s of every type that replicas of every shape take.

    counts i8[shapes], replicas; rates f8[shapes, types], of all replicas of a shape together; utilisation f8[shapes], 0
    to 1, NaN where there is no replica; left f8[types], requests/s that nobody can take; prices f8[shapes], requests/s
    that one replica more adds at most (the dual of the flow: what a second of it serves of types not served in full);
    pressure: utilisation of the fullest shape were all demand served that any shape can serve, above 1 where it is not.
    """

    counts: np.ndarray
    rates: np.ndarray
    utilisation: np.ndarray
    left: np.ndarray
    prices: np.ndarray
    pressure: float

    @property
    def served(self) -> float:
        """Requests/s."""
        return float(self.rates.sum())

    @property
    def peak(self) -> float:
        """Utilisation of the fullest shape."""
        return float(np.nanmax(self.utilisation, initial=0.0))

    @property
    def weights(self) -> list[list[float]]:
        """Shares by type (rows) and shape of one replica (columns), as the router `weighted` takes them.

        The excess, where there is any, goes the same way. A type without a share is spread by load.
        """
        shares: list[list[float]] = (self.rates / np.maximum(self.counts, 1)[:, None]).T.tolist()
        return shares


def assign(capacity: np.ndarray, counts: np.ndarray, demand: np.ndarray) -> Assignment:
    """The flow that serves most; where that is all, the one whose fullest shape is least full.

    capacity f8[shapes, types], n: requests/s of a type that a replica of a shape can process alone, 0: none;
    counts i8[shapes]; demand f8[types], λ, requests/s. First min z subject to Σ_k x_kj = λ_j and Σ_j x_kj / n_kj <=
    c_k · z; where z is over 1, max Σ x subject to Σ_k x_kj <= λ_j and Σ_j x_kj / n_kj <= c_k (arXiv 2602.12151; the
    units of its max flow differ by edge, so it is this LP). Replicas of one shape are alike: a solution averaged over
    them is a solution. Solved with HiGHS; ArithmeticError where that finds none. Where replicas of one shape alone
    stand it is a knapsack of types, solved as such (a hundredth of the time: most minutes of most pools).
    """
    runs = (capacity > 0) & (counts[:, None] > 0)
    shapes = np.flatnonzero(runs.any(axis=1))
    if not len(shapes) or not (runs.any(axis=0) * demand).any():
        rates, wanted, pressure = np.zeros_like(capacity), (demand > 0).astype(np.float64), 0.0
    elif len(shapes) == 1:
        rates, wanted, pressure = _by_one(capacity, int(shapes[0]), int(counts[shapes[0]]), demand)
    else:
        rates, wanted, pressure = _by_several(capacity, counts, demand, runs)
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.where(runs, rates / capacity, 0.0).sum(axis=1) / counts
    left = np.maximum(demand - rates.sum(axis=0), 0.0)
    prices = (capacity * wanted).max(axis=1)
    return Assignment(counts, rates, np.where(counts > 0, used, np.nan), left, prices, pressure)


def _by_one(capacity: np.ndarray, shape: int, count: int, demand: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(rates, wanted, pressure) where one shape alone stands: types by how many a second of it serves, most first.

    wanted f8[types]: of a request/s more that is served, what is not gained already: 1 for types left over in part, for
    the others what they would displace, n of the last type served over their own.
    """
    n, rates, wanted = capacity[shape], np.zeros_like(capacity), (demand > 0).astype(np.float64)
    room, last = float(count), 0.0
    for j in np.argsort(-n, kind="stable").tolist():
        if n[j] <= 0 or demand[j] <= 0:
            continue
        rates[shape, j] = min(demand[j], room * n[j])
        room -= rates[shape, j] / n[j]
        if rates[shape, j] < demand[j]:
            last = n[j]
            break
    served = rates[shape] > 0
    light = LIGHT * float(demand.max()) / count  # with room for all, a request/s more lifts the peak alone
    wanted[served] = last / n[served] if last else light / n[served]
    can = n > 0
    return rates, wanted, float((demand[can] / n[can]).sum()) / count


def _by_several(
    capacity: np.ndarray, counts: np.ndarray, demand: np.ndarray, runs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """(rates, wanted, pressure) by HiGHS.

    Two problems, not one that weighs the peak lightly: a weight too small to cost a request is below the solver's
    tolerance, and then the fullest shape is up to a fifth fuller than it has to be.
    """
    from scipy.sparse import csr_array, hstack  # deferred: most commands do without

    k, j = np.nonzero(runs & (demand > 0))
    n, shapes, scale = len(k), len(counts), float(demand.max())
    kinds, row = np.unique(j, return_inverse=True)  # those that some replica serves
    asked = demand[kinds] / scale
    flow = csr_array((np.ones(n), (row, np.arange(n))), shape=(len(kinds), n))
    load = csr_array((scale / capacity[k, j], (k, np.arange(n))), shape=(shapes, n))
    room = counts.astype(np.float64)
    found = _solved(
        np.append(np.zeros(n), 1.0), A_eq=hstack([flow, csr_array((len(kinds), 1))]), b_eq=asked,
        A_ub=hstack([load, csr_array(-room[:, None])]), b_ub=np.zeros(shapes),
    )  # fmt: skip
    pressure, wanted = float(found.x[n]), (demand > 0).astype(np.float64)
    if pressure <= 1.0:
        wanted[kinds] = LIGHT * np.maximum(found.eqlin.marginals, 0.0)
    else:
        limits = csr_array(np.vstack([flow.toarray(), load.toarray()]))
        found = _solved(-np.ones(n), A_ub=limits, b_ub=np.concatenate([asked, room]))
        wanted[kinds] = 1.0 + found.ineqlin.marginals[: len(kinds)]  # 1 less what one request/s more would add
    rates = np.zeros_like(capacity)
    rates[k, j] = np.maximum(found.x[:n], 0.0) * scale
    return rates, wanted, pressure


def _solved(cost: np.ndarray, **limits: Any) -> Any:
    """HiGHS' answer, all variables from 0 up."""
    from scipy.optimize import linprog  # deferred, likewise

    found = linprog(cost, bounds=(0.0, None), method="highs", **limits)
    if found.x is None:
        raise ArithmeticError(f"the assignment of request types to shapes: {found.message}")
    return found

"""OServe's lower level: which share of each request type goes to replicas of which shape, as a generalised flow."""

from dataclasses import dataclass

import numpy as np

LIGHT = 1e-6  # of a request/s: what the fullest shape's utilisation weighs beside what is served


@dataclass(frozen=True)
class Assignment:
    """Requests/s of every type that replicas of every shape take.

    counts i8[shapes], replicas; rates f8[shapes, types], of all replicas of a shape together; utilisation f8[shapes], 0
    to 1, NaN where there is no replica; left f8[types], requests/s that nobody can take; prices f8[shapes], requests/s
    that one replica more adds at most (the dual of the flow: what a second of it serves of types not served in full).
    """

    counts: np.ndarray
    rates: np.ndarray
    utilisation: np.ndarray
    left: np.ndarray
    prices: np.ndarray

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
    """The flow that serves most, and among such the one whose fullest shape is least full.

    capacity f8[shapes, types], n: requests/s of a type that a replica of a shape can process alone, 0: none;
    counts i8[shapes]; demand f8[types], λ, requests/s. max Σ x - LIGHT·z subject to Σ_k x_kj <= λ_j and
    Σ_j x_kj / n_kj <= c_k · z, z <= 1 (arXiv 2602.12151; the units of its max flow differ by edge, so it is this LP).
    Replicas of one shape are alike: a solution averaged over them is a solution. Solved with HiGHS; ArithmeticError
    where that finds none. Where replicas of one shape alone stand it is a knapsack of types, solved as such (a
    hundredth of the time: most minutes of most pools).
    """
    runs = (capacity > 0) & (counts[:, None] > 0)
    shapes = np.flatnonzero(runs.any(axis=1))
    if len(shapes) == 1 and demand.any():
        rates, wanted = _by_one(capacity, int(shapes[0]), int(counts[shapes[0]]), demand)
    else:
        rates, wanted = _by_several(capacity, counts, demand, runs)
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.where(runs, rates / capacity, 0.0).sum(axis=1) / counts
    left = np.maximum(demand - rates.sum(axis=0), 0.0)
    return Assignment(counts, rates, np.where(counts > 0, used, np.nan), left, (capacity * wanted).max(axis=1))


def _by_one(capacity: np.ndarray, shape: int, count: int, demand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rates, wanted) where one shape alone stands: types are served by how many a second of it serves, most first.

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
    return rates, wanted


def _by_several(
    capacity: np.ndarray, counts: np.ndarray, demand: np.ndarray, runs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(rates, wanted) by HiGHS."""
    from scipy.optimize import linprog  # deferred: most commands do without
    from scipy.sparse import csr_array

    shapes, types = capacity.shape
    k, j = np.nonzero(runs)
    n = len(k)
    rates, wanted = np.zeros((shapes, types)), (demand > 0).astype(np.float64)
    if n and demand.any():
        scale = float(demand.max())
        rows = np.concatenate([j, types + k, types + np.arange(shapes)])
        columns = np.concatenate([np.arange(n), np.arange(n), np.full(shapes, n)])
        values = np.concatenate([np.ones(n), scale / capacity[k, j], -counts.astype(np.float64)])
        limits = csr_array((values, (rows, columns)), shape=(types + shapes, n + 1))
        found = linprog(
            np.concatenate([-np.ones(n), [LIGHT]]),
            A_ub=limits,
            b_ub=np.concatenate([demand / scale, np.zeros(shapes)]),
            bounds=[(0.0, None)] * n + [(0.0, 1.0)],
            method="highs",
        )
        if found.x is None:
            raise ArithmeticError(f"the assignment of {types} request types to {shapes} shapes: {found.message}")
        rates[k, j] = np.maximum(found.x[:n], 0.0) * scale
        wanted *= 1.0 + found.ineqlin.marginals[:types]  # 1 less what one request/s more would add
    return rates, wanted

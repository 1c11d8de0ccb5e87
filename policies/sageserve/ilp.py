"""SageServe's hourly ILP: replicas a service, region and GPU type, at the least cost of machines and starts."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..quiet import quiet

NODES = 1000  # of the search tree: a bound that, unlike a time limit, is the same on every machine
NO_PLAN = 2  # scipy.optimize.milp: infeasible
ALIKE_COST = 1e-3  # of the least α, by which ties are broken
ALIKE = 1e-6  # HiGHS' own tolerance: 3.000001 replicas are three


class Infeasible(ValueError):
    """No plan meets all constraints; the message names the one that binds, with its numbers."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be planned, for m services, r regions and g GPU types.

    now i8[m, r, g]: replicas there are; demand f8[m, r], ρ, and rate f8[m, g], θ, in tokens/s (0: the service does not
    run on it); f8[m, g] each: vm_cost, α, of a replica and hour (the paper's is by type alone: a replica fills a
    machine there), start_cost, σ, of a start, and gpus a replica; cap f8[r, g]: GPUs of a region; floor, most f8[m, r]:
    replicas of a pool, of all types; local: ε, the share of its demand that a region must serve itself. there
    bool[m, r, g]: which of them are there at all; None: all. inf: no bound.
    """

    services: tuple[str, ...]
    regions: tuple[str, ...]
    types: tuple[str, ...]
    now: np.ndarray
    demand: np.ndarray
    rate: np.ndarray
    vm_cost: np.ndarray
    start_cost: np.ndarray
    gpus: np.ndarray
    cap: np.ndarray
    floor: np.ndarray
    most: np.ndarray
    local: float = 1.0
    there: np.ndarray | None = None

    def cost(self, replicas: np.ndarray) -> float:
        """Σ α·δ + σ·max(0, δ), δ = replicas - now (papers: the ILP's objective)."""
        delta = replicas - self.now
        starts = self.start_cost[:, None, :] * np.maximum(delta, 0)
        return float((self.vm_cost[:, None, :] * delta).sum() + starts.sum())


def solve(problem: Problem) -> np.ndarray:
    """i8[m, r, g], the replicas that cost least: min Σ α·δ + σ·max(0, δ), δ = replicas - now, by HiGHS.

    Subject to, with x = now + δ: floor <= Σ_g x <= most; local: Σ_g θ·x >= ε·ρ; global: Σ_rg θ·x >= Σ_r ρ; caps:
    Σ_m gpus·x <= cap. max(0, δ) is a variable >= 0 and >= δ, exact as σ >= 0 (the artifact's big M is not needed). Of
    plans that cost the same (within a thousandth of α a replica) it is the one on earlier types, then in earlier
    regions, then of earlier services. A search is cut at NODES (seen: gaps below 0.3 %). Infeasible: no plan.
    """
    alpha = np.broadcast_to(problem.vm_cost[:, None, :], problem.now.shape)
    sigma = np.broadcast_to(problem.start_cost[:, None, :], problem.now.shape)
    found = _minimum(problem, alpha + _place(problem), sigma)
    if found is None:
        raise Infeasible(binding(problem))
    return found


def _place(problem: Problem) -> np.ndarray:
    """What breaks ties, f8[m, r, g]: rises with type, region and service, to a thousandth of the least α."""
    services, regions, types = problem.now.shape
    k = np.arange(1, problem.now.size + 1, dtype=np.float64).reshape(types, regions, services)
    paid = problem.vm_cost[problem.vm_cost > 0]
    unit = float(paid.min()) if len(paid) else 1.0
    return np.asarray(ALIKE_COST * unit * k.transpose(2, 1, 0) / k.max())


def _minimum(problem: Problem, cost: np.ndarray, start_cost: np.ndarray) -> np.ndarray | None:
    """The feasible plan with the least Σ cost·x + start_cost·starts, f8[m, r, g] both; None: there is none."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # deferred: scipy, which most commands do without
    from scipy.sparse import csr_array, hstack, identity

    n = problem.now.size
    rows, low, high = _constraints(problem)
    limits = [LinearConstraint(hstack([csr_array(rows), csr_array((len(rows), n))]), low, high)]
    starts = hstack([-identity(n), identity(n)])  # starts - x >= -now
    limits.append(LinearConstraint(starts, -problem.now.reshape(-1).astype(np.float64), np.full(n, np.inf)))
    runs = np.broadcast_to(problem.rate[:, None, :] > 0, problem.now.shape)
    runs = (runs if problem.there is None else runs & problem.there).reshape(-1)
    upper = np.concatenate([np.where(runs, np.inf, 0.0), np.full(n, np.inf)])
    asked: dict[str, Any] = {
        "c": np.concatenate([cost.reshape(-1), start_cost.reshape(-1)]),
        "integrality": np.concatenate([np.ones(n), np.zeros(n)]),
        "bounds": Bounds(0.0, upper),
        "constraints": limits,
    }
    with quiet():
        found = milp(**asked, options={"mip_rel_gap": 0.0, "node_limit": NODES})
        if found.x is None and found.status != NO_PLAN:
            found = milp(**asked)  # cut before the first plan: until one is found
    return None if found.x is None else np.rint(found.x[:n]).astype(np.int64).reshape(problem.now.shape)


def _constraints(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coefficients f8[rows, x], low, high); demand in units of the fastest replica: tolerances are relative."""
    services, regions, types = problem.now.shape
    parts: list[np.ndarray] = []
    low: list[float] = []
    high: list[float] = []

    def add(coefficient: np.ndarray, least: float, most: float) -> None:
        parts.append(coefficient.reshape(-1))
        low.append(least)
        high.append(most)

    for m in range(services):
        unit = max(float(problem.rate[m].max()), 1e-12)
        for r in range(regions):
            pool = np.zeros(problem.now.shape)
            pool[m, r] = 1.0
            add(pool, float(problem.floor[m, r]), float(problem.most[m, r]))
            here = np.zeros(problem.now.shape)
            here[m, r] = problem.rate[m] / unit
            add(here, problem.local * float(problem.demand[m, r]) / unit - ALIKE, np.inf)
        everywhere = np.zeros(problem.now.shape)
        everywhere[m] = problem.rate[m] / unit
        add(everywhere, float(problem.demand[m].sum()) / unit - ALIKE, np.inf)
    for r in range(regions):
        for g in range(types):
            if np.isfinite(problem.cap[r, g]):
                taken = np.zeros(problem.now.shape)
                taken[:, r, g] = problem.gpus[:, g]
                add(taken, 0.0, float(problem.cap[r, g]))
    return np.array(parts), np.array(low), np.array(high)


# --- why there is no plan ---


def binding(problem: Problem) -> str:
    """Which constraint no plan can meet, with its numbers: a floor, a region's cap, or the demand of all regions."""
    nothing = np.zeros_like(problem.demand)
    for r, region in enumerate(problem.regions):
        if not feasible(of_region(replace(problem, demand=nothing), r)):
            return (
                f"floor: region {region} is to have at least {problem.floor[:, r].sum():g} replicas "
                f"({_pools(problem, problem.floor[:, r], 'least')}), and has {_holds(problem, r)}"
            )
    for r, region in enumerate(problem.regions):
        if not feasible(of_region(problem, r)):
            asked = problem.local * problem.demand[:, r]
            return (
                f"region cap: {region} is to serve {problem.local:.0%} of its demand itself, "
                f"{_pools(problem, asked, 'tokens/s')}, and has {_holds(problem, r)}"
            )
    for m, service in enumerate(problem.services):
        alone = nothing.copy()
        alone[m] = problem.demand[m]
        if not feasible(replace(problem, demand=alone)):
            return (
                f"global demand: {service} needs {problem.demand[m].sum():,.0f} tokens/s in all regions, and what they "
                f"have serves at most {_most_served(problem, m):,.0f} of it: {_all_hold(problem)}"
            )
    needs = ", ".join(f"{s} {d:,.0f}" for s, d in zip(problem.services, problem.demand.sum(axis=1), strict=True))
    return f"global demand: each service alone finds room, all together do not: {needs} tokens/s; {_all_hold(problem)}"


def feasible(problem: Problem) -> bool:
    """Whether any plan meets all constraints."""
    nothing = np.zeros(problem.now.shape)
    return _minimum(problem, nothing, nothing) is not None


def of_region(problem: Problem, r: int) -> Problem:
    """The problem of one region that serves its share of its own demand, and nothing else."""
    one = slice(r, r + 1)
    return replace(
        problem, regions=problem.regions[one], now=problem.now[:, one], demand=problem.local * problem.demand[:, one],
        cap=problem.cap[one], floor=problem.floor[:, one], most=problem.most[:, one], local=1.0,
        there=None if problem.there is None else problem.there[:, one],
    )  # fmt: skip


def _most_served(problem: Problem, m: int) -> float:
    """Tokens/s of service m that the caps and bounds hold, floors of the others kept."""
    free = replace(problem, demand=np.zeros_like(problem.demand))
    gain = np.zeros(problem.now.shape)
    gain[m] = -problem.rate[m]
    found = _minimum(free, gain, np.zeros(problem.now.shape))
    return 0.0 if found is None else float((found[m] * problem.rate[m]).sum())


def _pools(problem: Problem, values: np.ndarray, unit: str) -> str:
    pairs = zip(problem.services, values, problem.gpus, problem.rate, strict=True)
    said = []
    for service, value, gpus, rate in pairs:
        sizes = ", ".join(
            f"{rate[g]:,.0f} tokens/s a replica of {gpus[g]:g} {problem.types[g]}"
            for g in range(len(problem.types))
            if rate[g] > 0
        )
        said.append(f"{service} {value:,.0f} {unit} ({sizes or 'on no type'})")
    return ", ".join(said)


def _holds(problem: Problem, r: int) -> str:
    """A region's bounds in words."""
    caps = [f"{n:g} {name}" for name, n in zip(problem.types, problem.cap[r], strict=True) if np.isfinite(n)]
    most = [f"{s} at most {n:g}" for s, n in zip(problem.services, problem.most[:, r], strict=True) if np.isfinite(n)]
    return "; ".join([*([", ".join(caps)] if caps else []), *([", ".join(most)] if most else [])]) or "no bound"


def _all_hold(problem: Problem) -> str:
    return "; ".join(f"{region}: {_holds(problem, r)}" for r, region in enumerate(problem.regions))

"""The hourly plan: demand from the forecast and the batch backlog, replicas from the ILP, within the regions' GPUs."""

from dataclasses import replace

import numpy as np
import polars as pl

from lmaas.replay.fleet import SHARED, Fleet, preferences
from lmaas.replay.protocol import History, Seen

from .base import ordered
from .ilp import Infeasible, Problem, binding, feasible, of_region, solve

SHRINK = 7  # halvings of the share of the demand that the GPUs hold: known to 1 %


def demand_ahead(rows: pl.DataFrame, fleet: Fleet, t: float, after_s: float, until_s: float) -> np.ndarray | None:
    """ρ, f8[pools], tokens/s: the largest of the windows in [t + after_s, t + until_s], a pool's origins added up.

    rows: forecasts known at t, of which the latest issue counts. None: there is none for that time.
    """
    ends = pl.col("start_s") + pl.col("length_s")
    near = latest(rows).filter((pl.col("start_s") >= t + after_s - 1e-6) & (ends <= t + until_s + 1e-6))
    table = by_pool(near, fleet)
    return None if len(table) == 0 else np.asarray(table.max(axis=0))


def latest(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the last issue."""
    return rows.filter(pl.col("issued_s") == pl.col("issued_s").max())


def by_pool(rows: pl.DataFrame, fleet: Fleet) -> np.ndarray:
    """f8[windows, pools], tokens/s, of one issue's rows: origins without a pool of the service add to their nearest."""
    starts = np.unique(rows["start_s"].to_numpy())
    table = np.zeros((len(starts), len(fleet.pools)))
    home = fleet.index()
    for (service, origin), part in rows.partition_by("service", "origin", as_dict=True).items():
        at = home.get((service, origin))
        at = preferences(fleet, service, origin)[0] if at is None else at
        place = np.searchsorted(starts, part["start_s"].to_numpy())
        table[place, at] += part["value"].to_numpy() / part["length_s"].to_numpy()
    return table


def sustained(fleet: Fleet, history: History) -> np.ndarray:
    """θ, f8[pools]: the prompt tokens/s that a replica sustains within the SLO (μ of History.rates).

    ValueError, which ends the policy and no other, for a fleet with lanes.
    """
    if odd := [str(pool) for pool in fleet.pools if pool.lane != SHARED]:
        raise ValueError(f"sageserve plans shared pools; {odd[0]} is a lane: give the service pools without `lane`")
    rates = {(row["service"], row["lane"]): row["prompt_tokens_s"] for row in history.rates.iter_rows(named=True)}
    return np.array([rates[pool.service, pool.lane] for pool in fleet.pools])


def hourly_problem(
    fleet: Fleet, rate: np.ndarray, demand: np.ndarray, seen: Seen, *, vm_cost: float, start_cost: float, local: float
) -> Problem:
    """The ILP of the fleet as it stands: every pool on its own profile's GPU type, mixed replicas counted as that.

    rate, demand: θ and ρ by pool, tokens/s. Caps are the regions' inventories, floors and bounds the pools' own.
    """
    pools = fleet.pools
    services = tuple(dict.fromkeys(pool.service for pool in pools))
    regions = tuple(dict.fromkeys(pool.region for pool in pools))
    types = tuple(dict.fromkeys(pool.profile.gpu or "GPU" for pool in pools))
    shape = (len(services), len(regions), len(types))
    now, theta, gpus = np.zeros(shape, np.int64), np.zeros((shape[0], shape[2])), np.zeros((shape[0], shape[2]))
    wanted, floor, most = np.zeros(shape[:2]), np.zeros(shape[:2]), np.zeros(shape[:2])
    for p, pool in enumerate(pools):
        m, r, g = places(fleet, p, services, regions, types)
        now[m, r, g] = ordered(seen, p)
        theta[m, g], gpus[m, g] = rate[p], pool.profile.gpus_per_replica
        wanted[m, r], floor[m, r] = demand[p], pool.minimum
        most[m, r] = np.inf if pool.maximum is None else pool.maximum
    inventory = [[fleet.inventory[r].get(g, 0) if r in fleet.inventory else np.inf for g in types] for r in regions]
    return Problem(
        services, regions, types, now, wanted, theta, np.full(shape[2], vm_cost),
        np.where(theta > 0, start_cost, 0.0), gpus, np.array(inventory, np.float64), floor, most, local,
    )  # fmt: skip


def places(
    fleet: Fleet, p: int, services: tuple[str, ...], regions: tuple[str, ...], types: tuple[str, ...]
) -> tuple[int, int, int]:
    """Where pool p stands in the ILP's arrays."""
    pool = fleet.pools[p]
    return services.index(pool.service), regions.index(pool.region), types.index(pool.profile.gpu or "GPU")


def counts(problem: Problem, fleet: Fleet) -> tuple[np.ndarray, str | None]:
    """(replicas i8[pools] of the plan, why not all of the demand is in it).

    Where bounds and GPUs do not hold it: of each pool what its `max` holds, then of each region the largest share that
    its GPUs hold, then of all (ours: the paper says nothing of it). Infeasible where the minima find no room.
    """
    why = None
    try:
        found = solve(problem)
    except Infeasible as reason:
        why = str(reason)
        found = solve(shrunk(problem))
    spots = [places(fleet, p, problem.services, problem.regions, problem.types) for p in range(len(fleet.pools))]
    return np.array([found[spot] for spot in spots]), why


def shrunk(problem: Problem) -> Problem:
    """The problem with as much of its demand as there is room for, as `counts` says."""
    if not feasible(replace(problem, demand=0 * problem.demand)):
        raise Infeasible(binding(problem))
    fastest = problem.rate.max(axis=1)[:, None]
    held = np.where(np.isfinite(problem.most), problem.most, 0.0) * fastest
    demand = np.where(np.isfinite(problem.most), np.minimum(problem.demand, held), problem.demand)
    for r in range(len(problem.regions)):
        alone = of_region(replace(problem, demand=demand), r)
        demand[:, r] *= _share(alone)
    return replace(problem, demand=demand * _share(replace(problem, demand=demand)))


def _share(problem: Problem) -> float:
    """The largest share of the demand for which there is a plan."""
    low, high = 0.0, 1.0
    if feasible(problem):
        return high
    for _ in range(SHRINK):
        middle = (low + high) / 2
        if feasible(replace(problem, demand=middle * problem.demand)):
            low = middle
        else:
            high = middle
    return low

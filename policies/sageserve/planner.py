"""The hourly plan: demand from the forecast and the batch backlog, replicas from the ILP, within the regions' GPUs."""

from dataclasses import replace

import numpy as np
import polars as pl

from lmaas.replay.fleet import Fleet, preferences
from lmaas.replay.protocol import Seen

from .ilp import Infeasible, Problem, binding, feasible, of_region, solve
from .slots import Slot, slots_of, standing

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


def hourly_problem(
    fleet: Fleet, rate: np.ndarray, demand: np.ndarray, seen: Seen, *, vm_cost: np.ndarray, start_cost: np.ndarray,
    local: float,
) -> Problem:  # fmt: skip
    """The ILP of the fleet as it stands: a slot is a service, region and GPU type.

    rate: θ by slot, demand: ρ by pool, tokens/s; vm_cost: α, start_cost: σ, by slot. Caps are the regions'
    inventories, floors and bounds the pools' own.
    """
    pools, slots = fleet.pools, slots_of(fleet)
    services = tuple(dict.fromkeys(pool.service for pool in pools))
    regions = tuple(dict.fromkeys(pool.region for pool in pools))
    types = tuple(dict.fromkeys(profile.gpu or "GPU" for _, profile in slots))
    shape = (len(services), len(regions), len(types))
    now, there = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    theta, gpus, alpha, sigma = (np.zeros((shape[0], shape[2])) for _ in range(4))
    wanted, floor, most = np.zeros(shape[:2]), np.zeros(shape[:2]), np.zeros(shape[:2])
    for slot, standing_now, *its in zip(slots, standing(fleet, seen), rate, vm_cost, start_cost, strict=True):
        m, r, g = place(fleet, slot, services, regions, types)
        now[m, r, g], there[m, r, g] = standing_now, True
        theta[m, g], alpha[m, g], sigma[m, g] = its
        gpus[m, g] = slot[1].gpus_per_replica
    for p, pool in enumerate(pools):
        m, r, _ = place(fleet, (p, pool.profile), services, regions, types)
        wanted[m, r], floor[m, r] = demand[p], pool.minimum
        most[m, r] = np.inf if pool.maximum is None else pool.maximum
    inventory = [[fleet.inventory[r].get(g, 0) if r in fleet.inventory else np.inf for g in types] for r in regions]
    return Problem(
        services, regions, types, now, wanted, theta, alpha, sigma, gpus, np.array(inventory, np.float64), floor, most,
        local, there,
    )  # fmt: skip


def place(
    fleet: Fleet, slot: Slot, services: tuple[str, ...], regions: tuple[str, ...], types: tuple[str, ...]
) -> tuple[int, int, int]:
    """Where a slot stands in the ILP's arrays."""
    pool = fleet.pools[slot[0]]
    return services.index(pool.service), regions.index(pool.region), types.index(slot[1].gpu or "GPU")


def counts(problem: Problem, fleet: Fleet) -> tuple[np.ndarray, str | None]:
    """(replicas i8[slots] of the plan, why not all of the demand is in it).

    Where bounds and GPUs do not hold it: of each pool what its `max` holds, then of each region the largest share that
    its GPUs hold, then of all (ours: the paper says nothing of it). Infeasible where the minima find no room.
    """
    why = None
    try:
        found = solve(problem)
    except Infeasible as reason:
        why = str(reason)
        found = solve(shrunk(problem))
    spots = [place(fleet, slot, problem.services, problem.regions, problem.types) for slot in slots_of(fleet)]
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

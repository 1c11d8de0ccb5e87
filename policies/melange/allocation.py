"""What Mélange makes of the training part: shapes, demand by kind, the ILP's replicas, shares for the router."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lmaas.replay.fleet import SHARED, Fleet, Pool
from lmaas.replay.profile import Profile, find_profile, profiles
from lmaas.replay.world import world_of

from ..oserve.capacity import capacities
from ..oserve.flow import assign
from ..oserve.sharing import by_profile
from ..prepare import Prepared
from ..typed import Types, mixes
from .ilp import Problem, cheapest

if TYPE_CHECKING:
    from ..inputs import Inputs

PEAK, MEAN = "peak", "mean"
SCARCE = 1e-3  # of all demand: as much of a kind is taken to come at least, so that it has a way to go


@dataclass(frozen=True, eq=False)
class Choice:
    """One pool: shapes to choose among, requests/s a replica sustains f8[shapes, kinds], requests/s asked f8[kinds]."""

    pool: Pool
    shapes: tuple[Profile, ...]
    capacity: np.ndarray
    demand: np.ndarray


@dataclass(frozen=True)
class Chosen:
    """The router's shares and rates (rows: kinds, columns: profiles of the replay) and what is to be said."""

    weights: list[list[float]]
    rates: list[list[float]]
    notes: tuple[str, ...]


def allocated(
    ready: Prepared, inputs: "Inputs", types: Types, names: Sequence[str], demand: str, headroom: float
) -> Prepared:
    """The same with kinds of requests by home pool and type, the cheapest replicas, and a Chosen in History.own."""
    fleet, found = ready.fleet, inputs.typed(types)
    if odd := [str(pool) for pool in fleet.pools if pool.lane != SHARED]:
        raise ValueError(f"melange mixes shared pools; {odd[0]} is a lane: give the service pools without `lane`")
    choices = []
    for p, pool in enumerate(fleet.pools):
        shapes = candidates(pool, names)
        known = found.requests.filter((pl.col("service") == pool.service) & (pl.col("done_s") < ready.cut_s))
        capacity = inputs.once(
            ("melange", types, pool.service, *(shape.model_dump_json() for shape in shapes)),
            lambda shapes=shapes, known=known: capacities(shapes, mixes(known, types.count), ready.attain, ready.seed),  # type: ignore[misc]
        )
        rates = by_window(found.requests.filter(pl.col("pool") == p), ready, types.count)
        asked = (asked_for(rates, capacity, prices(shapes)) if demand == PEAK else rates.mean(axis=0)) * (1 + headroom)
        choices.append(Choice(pool, shapes, capacity, asked))
    counts, left = cheapest(problem(choices, fleet))
    parts = np.split(counts, np.cumsum([len(choice.shapes) for choice in choices])[:-1])
    missed = np.split(left, np.cumsum([len(choice.demand) for choice in choices])[:-1])
    pools = tuple(_placed(choice, part) for choice, part in zip(choices, parts, strict=True))
    fleet = replace(fleet, pools=pools)
    notes = tuple(_said(*each) for each in zip(choices, parts, missed, strict=True))
    chosen = Chosen(*shares(choices, parts, fleet), notes)
    requests = found.requests.with_columns(kind=pl.col("pool") * types.count + pl.col("type"))
    kinds = tuple(pool.service for pool in pools for _ in range(types.count))
    history = replace(ready.history, own=chosen)
    return replace(ready, requests=requests, kinds=kinds, fleet=fleet, history=history)


def candidates(pool: Pool, names: Sequence[str]) -> tuple[Profile, ...]:
    """The pool's own profile and those named of its model; else those mixed in; else the shipped of its weights.

    Weights are the same where model and dtype are; the shipped ones take the start-up times of the pool's own.
    """
    own = pool.profile
    if names:
        others = [profile for profile in map(find_profile, names) if profile.model == own.model]
        wanted = [own] if own.name in names or not others else []
        return (*wanted, *(profile for profile in others if profile.name != own.name))
    if pool.mixed:
        return pool.profiles
    if own.model is None or own.name not in profiles()["name"].to_list():
        return (own,)
    shipped = [find_profile(name) for name in profiles()["name"]]
    others = [p for p in shipped if (p.model, p.dtype) == (own.model, own.dtype) and p.name != own.name]
    return (own, *(p.model_copy(update={"startup_s": own.startup_s}) for p in others if p.usd_per_gpu_hour is not None))


def prices(shapes: Sequence[Profile]) -> np.ndarray:
    """$/h a replica, f8[shapes]; ValueError for one without a price."""
    for shape in shapes:
        if shape.usd_per_gpu_hour is None:
            raise ValueError(
                f"melange minimises $/h and {shape.name} has no usd_per_gpu_hour; give it in the fleet file"
            )
    return np.array([(shape.usd_per_gpu_hour or 0.0) * shape.gpus_per_replica for shape in shapes])


def by_window(requests: pl.DataFrame, ready: Prepared, types: int) -> np.ndarray:
    """Requests/s by kind in every whole window of the training part, f8[windows, kinds]; one of nothing without any."""
    first, cut_s = float(ready.requests["arrival_s"][0]), ready.cut_s
    length = min(ready.window_s, max(cut_s - first, 1e-9))
    windows = max(int((cut_s - first) / length + 1e-9), 1)
    before = requests.filter(pl.col("arrival_s") < cut_s)
    at = windows - np.ceil((cut_s - before["arrival_s"].to_numpy()) / length).astype(np.int64)
    table = np.zeros((windows, types))
    np.add.at(table, (at[at >= 0], before["type"].to_numpy()[at >= 0]), 1.0)
    return table / length


def asked_for(rates: np.ndarray, capacity: np.ndarray, price: np.ndarray) -> np.ndarray:
    """The window whose requests cost most, each where it is cheapest, f8[kinds]."""
    with np.errstate(divide="ignore"):
        dollars = (price[:, None] / capacity).min(axis=0)
    dollars = np.where(np.isfinite(dollars), dollars, 0.0)
    return np.asarray(rates[int(np.argmax(rates @ dollars))])


def problem(choices: Sequence[Choice], fleet: Fleet) -> Problem:
    """All pools' shapes and kinds side by side, bounded by pools' `min` and `max` and by the regions' GPUs."""
    shapes = [(p, shape) for p, choice in enumerate(choices) for shape in choice.shapes]
    widths = [len(choice.demand) for choice in choices]
    capacity, row, column = np.zeros((len(shapes), sum(widths))), 0, 0
    for choice, width in zip(choices, widths, strict=True):
        capacity[row : row + len(choice.shapes), column : column + width] = choice.capacity
        row, column = row + len(choice.shapes), column + width
    rows, low, high = [], [], []
    for p, choice in enumerate(choices):
        rows.append([float(p == q) for q, _ in shapes])
        low.append(max(choice.pool.minimum, 1))
        high.append(np.inf if choice.pool.maximum is None else choice.pool.maximum)
    for region, gpus in fleet.inventory.items():
        for gpu in dict.fromkeys(shape.gpu for p, shape in shapes if choices[p].pool.region == region):
            here = [choices[p].pool.region == region and shape.gpu == gpu for p, shape in shapes]
            rows.append([float(s.gpus_per_replica) * h for (_, s), h in zip(shapes, here, strict=True)])
            low.append(0)
            high.append(gpus.get(gpu or "", 0))
    price = np.concatenate([prices(choice.shapes) for choice in choices])
    demand = np.concatenate([choice.demand for choice in choices])
    return Problem(capacity, demand, price, np.array(rows), np.array(low, np.float64), np.array(high, np.float64))


def shares(
    choices: Sequence[Choice], counts: Sequence[np.ndarray], fleet: Fleet
) -> tuple[list[list[float]], list[list[float]]]:
    """(weights, rates) of the router, a column a profile of the replay: every pool's flow, and what replicas serve."""
    profiles_ = [profile.name for profile in world_of(fleet).profiles]
    weights, rates = [], []
    for choice, part in zip(choices, counts, strict=True):
        floor = max(SCARCE * float(choice.demand.sum()), 1e-6)
        flow, names = assign(choice.capacity, part, np.maximum(choice.demand, floor)), [s.name for s in choice.shapes]
        weights += by_profile(flow.weights, names, profiles_)
        rates += by_profile(choice.capacity.T, names, profiles_)
    return weights, rates


def _placed(choice: Choice, counts: np.ndarray) -> Pool:
    """The pool with the chosen replicas, those of another profile mixed in."""
    pairs = [(shape, int(n)) for shape, n in zip(choice.shapes, counts, strict=True)]
    own = sum(n for shape, n in pairs if shape == choice.pool.profile)
    mixed = tuple((shape, n) for shape, n in pairs if n and shape != choice.pool.profile)
    return replace(choice.pool, initial=own, mixed=mixed)


def _said(choice: Choice, counts: np.ndarray, left: np.ndarray) -> str:
    """What a pool is made of, in a sentence."""
    bought = ", ".join(f"{n} x {shape.name}" for shape, n in zip(choice.shapes, counts, strict=True) if n)
    dollars = float(prices(choice.shapes) @ counts)
    words = f"{choice.pool}: {bought} at {dollars:,.2f} $/h, the cheapest of {len(choice.shapes)} shapes"
    if left.sum() > 0:
        words += f"; {left.sum():,.3g} of {choice.demand.sum():,.3g} requests/s find no room"
    return words

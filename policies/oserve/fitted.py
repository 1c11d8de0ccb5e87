"""What OServe makes of the training part: types, what every shape serves of each, a first deployment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lmaas.replay.fleet import SHARED, Pool
from lmaas.replay.profile import Profile
from lmaas.replay.rates import holds

from ..planning import common_start
from ..prepare import Prepared
from ..typed import Types, mixes
from .capacity import capacities
from .search import PATIENCE, Budget, Counts, Deployments, search
from .shapes import budgets

if TYPE_CHECKING:
    from ..inputs import Inputs

POOLING = 0.01  # what a mixed deployment must gain on replicas of one shape
RECENT_S = 3600.0  # of the training part: the demand that the first deployment is for
SCARCE = 1e-3  # of all demand: as much of a type is taken to come at least, so that it has a way to go


@dataclass(frozen=True, eq=False)
class Division:
    """A pool's GPUs and what they may be divided into.

    capacity f8[shapes, types], requests/s of one type alone that a replica sustains; demand f8[types], requests/s of
    the last hour of the training part; begins: replicas of each shape at the start; least, most: bounds of their count;
    begin_s: when the replay begins.
    """

    shapes: tuple[Profile, ...]
    capacity: np.ndarray
    demand: np.ndarray
    total: int
    begins: Counts
    least: int
    most: int | None
    begin_s: float = 0.0

    @property
    def gpus(self) -> np.ndarray:
        """i8[shapes], of a replica."""
        return np.array([shape.gpus_per_replica for shape in self.shapes])

    @property
    def names(self) -> list[str]:
        """Of the shapes."""
        return [shape.name for shape in self.shapes]

    def budget(self, demand: np.ndarray, before: Counts | None) -> Budget:
        """What is searched."""
        return Budget(self.gpus, self.capacity, demand, self.total, before, self.least, self.most)


def fitted(
    ready: Prepared, inputs: "Inputs", types: Types, shapes_of: Callable[[Pool], tuple[Profile, ...]], *,
    gpus: int | None, headroom: float, reserve: float, alike: bool, pooling: float = POOLING,
) -> Prepared:  # fmt: skip
    """The same with kinds of requests by home pool and type, the shapes in the pools, and History.own: a Division each.

    shapes_of: of a pool (shapes.shapes_of). Pools whose count or mix the fleet file says begin with that. alike:
    replicas of one shape alone are deployed; pooling: what others must gain on these (`best_of`).
    """
    if odd := [str(pool) for pool in ready.fleet.pools if pool.lane != SHARED]:
        raise ValueError(f"oserve divides shared pools; {odd[0]} is a lane: give the service pools without `lane`")
    found, fleet = inputs.typed(types), ready.fleet
    counts = common_start(fleet, ready.history)
    totals = budgets(fleet, counts, gpus, headroom)
    divisions, pools = [], []
    for p, pool in enumerate(fleet.pools):
        shapes = shapes_of(pool)
        if odd := [profile.name for profile in pool.profiles if profile not in shapes]:
            raise ValueError(f"oserve divides GPUs of one kind, a shape each; {pool} has {odd[0]} beside its own")
        known = found.requests.filter((pl.col("service") == pool.service) & (pl.col("done_s") < ready.cut_s))
        table = inputs.once(
            ("capacity", types, pool.service, *(shape.model_dump_json() for shape in shapes)),
            lambda shapes=shapes, known=known: _capacity(shapes, known, types.count, ready),  # type: ignore[misc]
        )
        kept = [k for k, shape in enumerate(shapes) if table[k].any() or shape == pool.profile]
        demand = _recent(found.requests.filter(pl.col("pool") == p), ready, types.count)
        division = Division(
            tuple(shapes[k] for k in kept), table[kept], demand, totals[p], (), pool.minimum, pool.maximum,
            ready.start_s,
        )  # fmt: skip
        begins = _begins(division, pool, counts[p], reserve, alike, pooling)
        divisions.append(replace(division, begins=begins))
        pools.append(_with_shapes(pool, divisions[-1]))
    requests = found.requests.with_columns(kind=pl.col("pool") * types.count + pl.col("type"))
    kinds = tuple(pool.service for pool in pools for _ in range(types.count))
    return replace(
        ready, requests=requests, kinds=kinds, fleet=replace(fleet, pools=tuple(pools)),
        history=replace(ready.history, own=tuple(divisions)),
    )  # fmt: skip


def floored(demand: np.ndarray) -> np.ndarray:
    """The demand with at least a little of every type."""
    floor = max(SCARCE * float(demand.sum()), 1e-6)
    return np.asarray(np.maximum(demand, floor))


def of_one_shape(division: Division) -> list[Counts]:
    """As many replicas as there is room for, of each shape alone."""
    found = []
    for k, gpus in enumerate(division.gpus):
        n = division.total // int(gpus)
        n = n if division.most is None else min(n, division.most)
        if n >= max(division.least, 1):
            found.append(tuple(n if j == k else 0 for j in range(len(division.gpus))))
    return found


def best_of(
    division: Division, demand: np.ndarray, before: Counts | None, alike: bool, patience: int = PATIENCE,
    pooling: float = POOLING,
) -> tuple[Counts, Deployments]:  # fmt: skip
    """The deployment for a demand, and what was worked out on the way.

    One of several shapes has to gain the share `pooling` on the best of one shape alone (`Deployments.worth_mixing`).
    """
    tried = Deployments(division.budget(demand, before))
    best = before if alike else search(tried.budget, patience, tried)
    pooled = None
    for counts in of_one_shape(division):  # the search ends where no step is better, which may be short of these
        if pooled is None or tried.better(counts, pooled):
            pooled = counts
    if (
        best is None
        or (pooled is not None and tried.better(pooled, best))
        or (pooled is not None and not alike and not tried.worth_mixing(best, pooled, pooling))
    ):
        best = pooled
    return best or tuple(0 for _ in division.shapes), tried


def _begins(division: Division, pool: Pool, count: int, reserve: float, alike: bool, pooling: float) -> Counts:
    """The file's own word, else the deployment for the last hour's demand."""
    own = tuple(count if shape == pool.profile else 0 for shape in division.shapes)
    if pool.initial is not None or pool.beside or not division.demand.any() or not division.capacity.any():
        mixed = {profile.name: n for profile, n in pool.mixed}
        return tuple(n + mixed.get(shape.name, 0) for n, shape in zip(own, division.shapes, strict=True))
    return best_of(division, floored(division.demand * (1 + reserve)), None, alike, pooling=pooling)[0]


def _with_shapes(pool: Pool, division: Division) -> Pool:
    """The pool with its shapes, those that are not its own as mixed ones, of which it may begin with none."""
    pairs = list(zip(division.shapes, division.begins, strict=True))
    own = next((n for shape, n in pairs if shape == pool.profile), 0)
    return replace(pool, initial=own, mixed=tuple((shape, n) for shape, n in pairs if shape != pool.profile))


def _capacity(shapes: Sequence[Profile], known: pl.DataFrame, types: int, ready: Prepared) -> np.ndarray:
    """capacities, and 0 where a shape's KV cannot hold the type's longest request."""
    parts = mixes(known, types)
    found = capacities(shapes, parts, ready.attain, ready.seed)
    for j, mix in enumerate(parts):
        longest = (mix.input_tokens + mix.output_tokens - 1).max(initial=1)
        found[[not bool(holds(shape, np.array(longest))) for shape in shapes], j] = 0.0
    return found


def _recent(requests: pl.DataFrame, ready: Prepared, types: int) -> np.ndarray:
    """Requests/s by type in the last RECENT_S before the cut."""
    before = requests.filter(pl.col("arrival_s") < ready.cut_s)
    if not before.height:
        return np.zeros(types)
    span = min(RECENT_S, max(ready.cut_s - float(ready.requests["arrival_s"][0]), 1e-9))
    recent = before.filter(pl.col("arrival_s") >= ready.cut_s - span)["type"].to_numpy()
    return np.bincount(recent, minlength=types) / span

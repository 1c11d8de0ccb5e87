"""What OServe keeps of its pools, and how it reads forecasts and the fleet by them."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from lmaas.replay.fleet import Fleet, preferences
from lmaas.replay.profile import Profile
from lmaas.replay.protocol import SeenReplicas
from lmaas.replay.routers import Router

from .fitted import Division
from .moves import Place, settled
from .search import Counts
from .sharing import by_profile
from .switching import Cluster


@dataclass
class Divided:
    """A pool as it is divided: what may be, where replicas stand, what is being switched to.

    stands: the deployment it was last brought to, of which a fault may have taken some.
    """

    division: Division
    cluster: Cluster
    stands: Counts
    places: tuple[Place, ...] = ()
    target: Counts | None = None  # while replicas give way and start
    weights: list[list[float]] = field(default_factory=list)  # by type, a row of every shape


@dataclass
class State:
    """Every pool's; columns: of each pool's shapes among the replay's profiles."""

    fleet: Fleet
    pools: list[Divided]
    profiles: list[str]
    first_s: float  # of the forecasts
    router: str | Router
    notes: list[str] = field(default_factory=list)
    lead_s: float = 0.0


def present(p: int, pool: Divided, replicas: SeenReplicas) -> tuple[Counts, bool]:
    """(replicas of every shape that are active or starting, whether any gives way or starts); places are kept up."""
    mine = replicas.pool == p
    live = mine & (replicas.state != "draining")
    names = pool.division.names
    shape_of = [names.index(str(name)) for name in replicas.profile[live]]
    counts = tuple(shape_of.count(k) for k in range(len(names)))
    busy = bool((mine & (replicas.state != "active")).any())
    if not busy:
        pool.places = settled(
            replicas.replica[live].tolist(), shape_of, pool.places, pool.division.shapes, pool.cluster
        )
    return counts, busy


def by_pool(rows: pl.DataFrame, fleet: Fleet, types: int) -> np.ndarray:
    """f8[pools, types], requests/s, of the latest issue: origins without a pool of the service add to their nearest."""
    latest = rows.filter(pl.col("issued_s") == pl.col("issued_s").max())
    found = np.zeros((len(fleet.pools), types))
    for service, origin, kind, value, length in latest.select(
        "service", "origin", "type", "value", "length_s"
    ).iter_rows():
        found[preferences(fleet, service, origin)[0], int(kind)] += value / length
    return found


def table(state: State) -> list[list[float]] | None:
    """The router's weights: a row a pool and type, a column a profile of the replay."""
    rows = [row for pool in state.pools for row in by_profile(pool.weights, pool.division.names, state.profiles)]
    return rows if any(map(any, rows)) else None


def said(pool: str, division: Division) -> str:
    """What is divided, in a sentence."""
    begins = ", ".join(f"{n} x {shape.name}" for n, shape in zip(division.begins, division.shapes, strict=True) if n)
    names = [shape.name + _doubt(shape) for shape in division.shapes]
    shapes = f", of {', '.join(names)}" if len(names) > 1 else "; no other shape to divide them into"
    return f"{pool}: {division.total} GPUs, begins with {begins or 'no replica'}{shapes}"


def _doubt(shape: Profile) -> str:
    """How far off an estimated shape may be."""
    mape = (shape.error or {}).get("mape")
    return f" (estimated, off by {mape:.0%})" if shape.provenance == "estimated" and mape is not None else ""

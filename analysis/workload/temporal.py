"""How the load changes: the statistics of time as one group, from the states `finest` and `gaps` alone."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import polars as pl

from lmaas.analysis.progress import each

from . import arrivals, bursts, changes, memory, predictability, rhythm
from .buckets import edges

if TYPE_CHECKING:
    from .given import Given

Tables = Mapping[str, pl.DataFrame | None]

COLUMNS: dict[str, dict[str, str]] = {
    **arrivals.COLUMNS,
    **bursts.COLUMNS,
    **memory.COLUMNS,
    **rhythm.COLUMNS,
    **changes.COLUMNS,
    **predictability.COLUMNS,
}


def describe(given: "Given") -> dict[str, pl.DataFrame]:
    """The tables of COLUMNS that this trace gives: those without a row are absent."""
    meta, finest, gaps = given.meta, given.states["finest"], given.states["gaps"]
    span = (finest, given.summary.keys.base_s, *given.at)
    clock_s = given.clock_s if meta.epoch else None
    lower_us, upper_us = edges(gaps["bucket"].to_numpy())
    n, total_us = (gaps[c].cast(pl.Float64).to_numpy() for c in ("n", "total"))
    # % of the time on two weeks of five million requests, measured
    work: tuple[tuple[float, Callable[[], Tables]], ...] = (
        (6, lambda: arrivals.gaps(lower_us, upper_us, n, total_us, meta.quantum_s)),
        (8, lambda: bursts.bursts(*span)),
        (2, lambda: {"autocorrelation": memory.autocorrelations(*span, given.window_s)}),
        (3, lambda: {"long_memory": memory.long_memory(*span, clock_s)}),
        (41, lambda: {"season_strength": rhythm.season_strength(*span)}),
        (1, lambda: rhythm.calendar(*span, clock_s)),
        (3, lambda: changes.changes(*span, clock_s)),
        (36, lambda: {"predictability": predictability.predictability(*span)}),
    )
    found = (item for tables in each(given.tell, work) for item in tables.items())
    return {name: table for name, table in found if table is not None and len(table)}

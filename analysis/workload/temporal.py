"""How the load changes: the statistics of time as one group, from the states `finest` and `gaps` alone."""

from typing import TYPE_CHECKING

import polars as pl

from . import arrivals, bursts, changes, memory, predictability, rhythm
from .buckets import edges

if TYPE_CHECKING:
    from .given import Given

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
    tables: dict[str, pl.DataFrame | None] = {
        **arrivals.gaps(lower_us, upper_us, n, total_us, meta.quantum_s),
        **bursts.bursts(*span),
        "autocorrelation": memory.autocorrelations(*span, given.window_s),
        "long_memory": memory.long_memory(*span, clock_s),
        "season_strength": rhythm.season_strength(*span),
        **rhythm.calendar(*span, clock_s),
        **changes.changes(*span, clock_s),
        "predictability": predictability.predictability(*span),
    }
    return {name: table for name, table in tables.items() if table is not None and len(table)}

"""A stored trace put into order of arrival, within a memory that its length of time, not its lists, decides."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from polars.io.plugins import register_io_source

from .trace import ROW_GROUP

HASHES = 1 << 22  # in lists, of a row group: 32 MiB, of which writers and readers hold several
AT_ONCE = 2 * HASHES  # sorted in one go


def group_rows(hashes_a_row: float) -> int:
    """Rows of a row group where rows hold so many hashes on average."""
    return int(min(max(HASHES / max(hashes_a_row, 1.0), 1024), ROW_GROUP))


def sort_rows(trace: Path, arrival: pl.Expr, **written: Any) -> None:
    """Sort by `arrival`, which becomes arrival_s; equal times keep their order. written: how, as sink_parquet takes it.

    Lists are read in as many passes as they take, each for a stretch of time, so that memory holds one stretch of
    them: a shuffled file costs a pass over it for every AT_ONCE hashes.
    """
    rows = pl.scan_parquet(trace, glob=False).with_columns(arrival.alias("arrival_s"))
    cuts = _cuts(rows, _hashes(trace))
    beside = trace.with_name("sorted.parquet")
    if len(cuts) == 0:
        ordered = rows.sort("arrival_s", maintain_order=True)
    else:
        ordered = register_io_source(_stretches(rows, cuts), schema=rows.collect_schema(), is_pure=True)
    ordered.sink_parquet(beside, **written)
    beside.replace(trace)


def _hashes(trace: Path) -> int:
    """How many stand in the file's lists, by its metadata."""
    found, lists = pq.read_metadata(trace), 0
    for group in map(found.row_group, range(found.num_row_groups)):
        columns = map(group.column, range(group.num_columns))
        lists += sum(column.num_values for column in columns if "." in column.path_in_schema)
    return lists


def _cuts(rows: pl.LazyFrame, hashes: int) -> np.ndarray:
    """Times at which a new pass begins, f8, rising; none where one pass will do."""
    passes = -(-hashes // AT_ONCE)
    if passes <= 1:
        return np.empty(0)
    times = np.sort(rows.select("arrival_s").collect(engine="streaming")["arrival_s"].to_numpy())
    cuts = np.unique(times[len(times) * np.arange(1, passes) // passes])
    return np.asarray(cuts[cuts > times[0]])


def _stretches(rows: pl.LazyFrame, cuts: np.ndarray) -> Any:
    """What Polars asks for rows, a stretch of time after the other."""
    bounds = [-np.inf, *cuts.tolist(), np.inf]

    def read(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        for low, high in itertools.pairwise(bounds):
            stretch = rows.filter(pl.col("arrival_s").is_between(low, high, closed="left")).collect(engine="streaming")
            yield from stretch.sort("arrival_s", maintain_order=True).iter_slices(1024)

    return read

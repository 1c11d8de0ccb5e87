"""Rows read in batches as a lazy frame with their numbers: what the readers beside Polars' own have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import polars as pl
from polars.io.plugins import register_io_source


def scan_batches(
    read: Callable[[bool], Iterable[pl.DataFrame]],
    columns: Sequence[str],
    row: str,
    hashes: str | None = None,
    *more: str,
) -> pl.LazyFrame:
    """The batches of `read(whole)` one after another, with the column `row` (u64, from 0); text but for `hashes`.

    columns: in order; hashes: the one of them that is a list of u64; more: further columns that the batches have.
    whole: false where only the first rows are wanted, so that what looks at all of the file first need not.
    """
    schema: dict[str, pl.DataType] = {row: pl.UInt64()}
    schema |= {name: pl.List(pl.UInt64()) if name == hashes else pl.String() for name in (*columns, *more)}

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        start = 0
        for frame in read(n_rows is None):
            frame = frame.with_row_index(row, offset=start).cast({row: pl.UInt64})
            start += frame.height
            if n_rows is not None:
                frame, n_rows = frame.head(n_rows), max(n_rows - frame.height, 0)
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame.select(with_columns or list(schema))
            if n_rows == 0:
                return

    return register_io_source(batches, schema=schema, is_pure=True)

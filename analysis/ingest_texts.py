"""The text that rows set aside are stored with: as it stands in the source, but for what people and models wrote."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from .formats.careful import row_batches, texts_of
from .formats.merged import Merged
from .formats.prose import has_prose, holds_prose, without_free_text, without_prose
from .formats.source import Source


def put_texts(source: Source, rows_read: int, rejects: Path, *, whole: bool) -> None:
    """Give the rejects the text of their rows in place of the values read, where it can be found.

    `whole`: with prompts, answers and free text; else these are replaced by their length, and rows of a CSV with
    columns of prompts keep the values read.
    """
    bare = None if whole else _bare(source)
    tries: list[Iterable[list[Any]]] = [source.texts()] if source.kind == "jsonl" else []
    if source.kind == "csv" and (whole or not has_prose(source.columns)):
        tries = [source.texts(), _rows(source)]  # lines are rows, unless quoted fields span them
    if not any(_put(pieces, rows_read, rejects, bare) for pieces in tries) and not whole:
        _strip_values(rejects)


def _bare(source: Source) -> Callable[[str], str]:
    if source.kind == "csv":
        return partial(without_free_text, delimiter=source.delimiter, width=len(source.columns))
    return partial(without_prose, torn=any(map(holds_prose, source.samples)))


def _rows(source: Source) -> Iterable[list[str]]:
    for file in source.files if isinstance(source, Merged) else (source,):
        yield from row_batches(file)


def _put(pieces: Iterable[list[Any]], rows_read: int, rejects: Path, bare: Callable[[str], str] | None) -> bool:
    """Whether the pieces are as many as the rows; then those of the rejects are put there, made `bare`."""
    beside = rejects.with_name("lines.parquet")
    known = pl.scan_parquet(rejects, glob=False).drop("text").with_columns(pl.col("reason").cast(pl.Categorical))
    told = known.sort("source_row", maintain_order=True).collect()
    rows = put = 0
    schema = pl.scan_parquet(rejects, glob=False).head(0).collect().to_arrow().schema
    # one pass, in which lines that were kept cost no more than to be counted
    with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
        for read, texts in texts_of(pieces, told["source_row"].to_numpy()):
            rows += read
            if texts:
                texts = texts if bare is None else list(map(bare, texts))
                here = told[put : put + len(texts)].with_columns(pl.col("reason").cast(pl.String))
                writer.write_table(here.with_columns(pl.Series("text", texts, pl.String)).to_arrow().cast(schema))
                put += len(texts)
    if rows != rows_read:
        beside.unlink()
        return False
    beside.replace(rejects)
    return True


def _strip_values(rejects: Path) -> None:
    beside = rejects.with_name("lines.parquet")
    text = pl.col("text").map_batches(_stripped, return_dtype=pl.String(), is_elementwise=True)
    pl.scan_parquet(rejects, glob=False).with_columns(text).sink_parquet(beside, compression="zstd")
    beside.replace(rejects)


def _stripped(texts: pl.Series) -> pl.Series:
    bare = [None if text is None else without_prose(text) for text in texts.to_list()]
    return pl.Series(texts.name, bare, dtype=pl.String)

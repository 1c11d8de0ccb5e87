"""Keys of JSONL that its first lines do not have: a status that only failures carry, a session that begins late."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

import polars as pl
from polars.io.plugins import register_io_source

from .source import Source, literal

TEXT = "text"


def with_late_keys(source: Source, known: Iterable[str]) -> Source:
    """`source`, its columns with those of the `known` keys that stand anywhere in it, as far as it is JSONL.

    One pass over the bytes, a tenth of what reading them costs, measured; it looks for the keys as text, so that one
    of an object within counts, too: a column without values.
    """
    absent = [key for key in dict.fromkeys(known) if key not in source.columns]
    if source.kind != "jsonl" or not absent:
        return source
    as_written = {key: f"{json.dumps(key, ensure_ascii=False)}:" for key in absent}
    lines, text = _lines(source), pl.col(TEXT)
    try:
        if not lines.select(text.str.contains_any(list(as_written.values())).any()).collect(engine="streaming").item():
            return source
        there = {key: text.str.contains(written, literal=True).any() for key, written in as_written.items()}
        found = lines.select(**there).collect(engine="streaming").row(0, named=True)
    except (pl.exceptions.PolarsError, OSError):
        return source  # damaged: whoever reads it tells
    return replace(source, columns=(*source.columns, *(key for key in absent if found[key])))


def _lines(source: Source) -> pl.LazyFrame:
    if source.compression is None:
        return pl.scan_lines(literal(source.path), name=TEXT)

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        for lines in source.lines():
            yield pl.DataFrame({TEXT: lines}, schema={TEXT: pl.String()})

    return register_io_source(batches, schema={TEXT: pl.String()}, is_pure=True)

"""A damaged CSV or JSONL, line by line: what can be read is, the rest keeps its reason.

Slower than `Source.scan`, and used only where that one fails; a batch without a bad line is still read fast.
"""

import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import polars as pl

from . import jsontext
from .batches import scan_batches
from .fields import csv_fields
from .prose import has_prose
from .source import RESERVED, Source

MALFORMED = f"{RESERVED}malformed"  # column: why a line could not be taken apart; null where it could
BATCH_LINES = 20_000  # one bad line costs its batch the fast parser
SPANNED = 10_000  # lines that a quoted field may span

Row = list[Any]


def scan_carefully(source: Source, columns: Sequence[str], row: str, hashes: str | None = None) -> pl.LazyFrame:
    """As `Source.scan`, with the column MALFORMED: a line is a row, whatever is in it, or, in a CSV, several lines that
    a quoted field spans.
    """
    take = _csv_rows if source.kind == "csv" else json_rows

    def read(whole: bool) -> Iterable[pl.DataFrame]:
        lines = (take(source, lines, columns, hashes) for lines in row_batches(source))
        return source.frames(columns, hashes) or lines

    return scan_batches(read, columns, row, hashes, MALFORMED)


def texts_of(pieces: Iterable[list[Any]], rows: np.ndarray) -> Iterator[tuple[int, list[str]]]:
    """Those of the pieces, batches of them, that have these ascending numbers; the last part has the number of all."""
    start, texts = 0, list[str]()
    for batch in pieces:
        first, last = np.searchsorted(rows, [start, start + len(batch)])
        texts += [_as_text(batch[at - start]) for at in rows[first:last].tolist()]
        start += len(batch)
        if len(texts) >= BATCH_LINES:
            yield 0, texts
            texts = []
    yield start, texts


def _as_text(piece: Any) -> str:
    text = piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate is legal JSON, and no text


def row_batches(source: Source) -> Iterator[list[str]]:
    """What each row is read from: a line, or in a CSV the lines that a quoted field spans."""
    if source.kind == "csv":
        rows = _rows(chain.from_iterable(source.lines()), source)
        while batch := list(islice(rows, BATCH_LINES)):
            yield batch
        return
    for lines in source.lines():
        for start in range(0, len(lines), BATCH_LINES):
            yield lines[start : start + BATCH_LINES]


def _rows(lines: Iterable[str], source: Source) -> Iterator[str]:
    """The lines of a CSV, those joined that a quoted field spans; a quote that is never closed joins none."""
    lines, ahead = iter(lines), deque[str]()
    while True:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        if line.count('"') % 2 and csv_fields(line, source.delimiter) is None:
            ahead.extend(islice(lines, max(SPANNED - len(ahead), 0)))
            # quotes within a field are doubled, so the next odd number of them closes it
            closing = next((at for at, text in enumerate(ahead) if text.count('"') % 2), None)
            if closing is not None:
                whole = "\n".join([line, *islice(ahead, closing + 1)])
                fields = csv_fields(whole, source.delimiter)
                if fields is not None and len(fields) == len(source.columns):
                    for _ in range(closing + 1):
                        ahead.popleft()
                    line = whole
        yield line


def _frame(rows: list[Row], columns: Sequence[str], hashes: str | None) -> pl.DataFrame:
    schema: dict[str, pl.DataType] = {name: pl.List(pl.UInt64()) if name == hashes else pl.String() for name in columns}
    return pl.DataFrame(rows, schema=schema | {MALFORMED: pl.String()}, orient="row")


def _csv_rows(source: Source, lines: list[str], columns: Sequence[str], hashes: str | None) -> pl.DataFrame:
    fast = _csv_fast(source, lines)
    if fast is not None:
        return fast.select(*columns, pl.lit(None, pl.String).alias(MALFORMED))
    places = [source.columns.index(name) for name in columns]
    width = len(source.columns)
    torn = has_prose(source.columns)  # then a line of another length may be a piece of a text, and is not kept
    rows: list[Row] = []
    for line in lines:
        fields = csv_fields(line, source.delimiter)
        if fields is not None and len(fields) > width:  # perhaps a comma within quotes that follow a space: 1, "a, b"
            padded = csv_fields(line, source.delimiter, padded=True)
            fields = padded if padded is not None and len(padded) == width else fields
        if fields is None or (torn and line and len(fields) < width):
            rows.append([None] * len(places) + ["malformed line"])
        elif any(fields[width:]):
            rows.append([None] * len(places) + ["too many fields"])
        else:
            rows.append([(fields[i] or None) if i < len(fields) else None for i in places] + [None])
    return _frame(rows, columns, hashes)


def _csv_fast(source: Source, lines: list[str]) -> pl.DataFrame | None:
    """All columns of a batch without a bad line; None where there is one."""
    try:
        frame = pl.read_csv(
            io.BytesIO("\n".join(lines).encode()),
            has_header=False,
            new_columns=list(source.columns),
            separator=source.delimiter,
            infer_schema=False,
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    # a quoted field that spans lines makes fewer rows than lines
    return frame if frame.shape == (len(lines), len(source.columns)) else None


def json_rows(source: Source, lines: list[str], columns: Sequence[str], hashes: str | None) -> pl.DataFrame:
    """`columns` and MALFORMED of lines of JSON, each of which is a row."""
    schema = dict(_frame([], columns, hashes).schema)
    if not source.marked:  # what is no request is told by this reader alone, not by a key of the user's
        del schema[MALFORMED]
    try:
        frame = pl.read_ndjson(io.BytesIO("\n".join(lines).encode(errors="replace")), schema=schema)
    except pl.exceptions.PolarsError:
        frame = pl.DataFrame()
    if frame.height == len(lines) and not jsontext.holds_nul(frame):
        return frame if source.marked else frame.with_columns(pl.lit(None, pl.String).alias(MALFORMED))
    return _frame([_json_row(line, columns, hashes, source.marked) for line in lines], columns, hashes)


def _json_row(line: str, columns: Sequence[str], hashes: str | None, marked: bool) -> Row:
    try:
        # numbers stay text: no rounding, no limit on their length
        value = json.loads(line, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_first_of_each)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return [None] * len(columns) + ["malformed line"]
    row: Row = [None if name == hashes else _json_text(value.get(name)) for name in columns]
    aside = _json_text(value.get(MALFORMED)) if marked else None
    if hashes is None or value.get(hashes) is None:
        return [*row, aside]
    numbers = _json_hashes(value[hashes])
    if numbers is None:
        return [*row, "block_hashes not unsigned 64-bit integers"]
    row[list(columns).index(hashes)] = numbers
    return [*row, aside]


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of them; of a key that is there twice the first value, as the fast readers take it."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate is legal JSON and no text


def _json_hashes(value: Any) -> list[int] | None:
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) and item.isascii() and item.isdigit() and len(item) <= 20 for item in value):
        return None
    numbers = [int(item) for item in value]
    return numbers if all(number < 1 << 64 for number in numbers) else None

"""Formats whose JSON values hold several requests, or other things beside requests: unfolded to flat rows.

A nested format says with `unfold` what requests a value holds; they are then read and checked like the lines of any
JSONL. What is no request is a row, too: set aside with the reason, so that every part is accounted for.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol, runtime_checkable

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from . import jsontext
from .base import Format
from .careful import MALFORMED, json_rows
from .source import Source

ROWS = 1000  # handed on at a time: who looks at the first does not wait for a whole block
PLAIN = frozenset({str, int, bool, type(None)})
EXACT = 2.0**63  # integers below are read as they stand
NOTHING = np.empty(0, np.uint64)
ODD = (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError)  # what hostile shapes lead to


@dataclass(frozen=True, slots=True)
class Record:
    """One row: a request's fields, flat, or the reason why it is none; `raw`: what it was read from."""

    raw: Any
    fields: Mapping[str, Any] = field(default_factory=dict)
    aside: str | None = None


@runtime_checkable
class Nested(Format, Protocol):
    """A format of nested JSON; its Reading is over `fields`."""

    fields: tuple[str, ...]

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """The rows that an object of the source holds, in order.

        May raise what careless access to hostile data raises; that object then counts as one malformed row.
        """
        ...


@dataclass(frozen=True)
class Unfolded(Source):
    """A source as the flat rows of a nested format: its `columns` are the format's fields."""

    inner: Source | None = None
    format: Nested | None = None

    @property
    def by_line(self) -> bool:
        """There is no file that could be scanned."""
        return True

    @property
    def marked(self) -> bool:
        """Its rows say themselves, as MALFORMED, why they are set aside."""
        return True

    def lines(self) -> Iterator[list[str]]:
        """A flat JSON object for each row."""
        for records in self._records():
            yield [_line(record) for record in records]

    def texts(self) -> Iterator[list[Any]]:
        """What each row was read from."""
        for records in self._records(jsontext.exactly):
            yield [record.raw for record in records]

    def frames(self, columns: Sequence[str], hashes: str | None) -> Iterator[pl.DataFrame]:
        """The rows, lists of hashes as they are and the rest by way of JSON."""
        for records in self._records():
            yield self._frame(records, columns, hashes)

    def _frame(self, records: Sequence[Record], columns: Sequence[str], hashes: str | None) -> pl.DataFrame:
        plain = [name for name in columns if name != hashes]
        lists = None if hashes is None else _lists([record.fields.get(hashes) for record in records])
        if hashes is None or lists is not None:
            frame = _quickly(records, plain)
            if frame is None:
                frame = json_rows(self, [_line(record, plain) for record in records], plain, None)
            frame = frame if lists is None else frame.with_columns(lists.alias(hashes or ""))
            return frame.select(*columns, MALFORMED)
        return json_rows(self, [_line(record) for record in records], columns, hashes)

    def _records(self, loads: Callable[[str], Any] = jsontext.quickly) -> Iterator[list[Record]]:
        assert self.inner is not None and self.format is not None
        batch: list[Record] = []  # counted in rows: a line may hold thousands
        for lines in self.inner.lines():
            for line in lines:
                records = list(_unfold(self.format, line, loads(line)))
                if any(map(_is_rounded, records)):
                    records = list(_unfold(self.format, line, jsontext.exactly(line)))
                batch += records
                if len(batch) >= ROWS:
                    yield batch
                    batch = []
        yield batch


def unfolded(source: Source, format: Nested) -> Unfolded:
    """The rows that `format` finds in `source`."""
    return Unfolded(
        source.path,
        "jsonl",
        format.fields,
        compression=source.compression,
        samples=source.samples,
        inner=source,
        format=format,
    )


def values(source: Source) -> Iterator[Mapping[str, Any]]:
    """Every object of the source, as it was before it was unfolded: for what a few samples cannot tell."""
    inner = source.inner if isinstance(source, Unfolded) and source.inner is not None else source
    for lines in inner.lines():
        yield from jsontext.objects(lines)


def carefully(make: Callable[..., Record], raw: Any, *beside: Any) -> Record:
    """The record that `make` makes of one part of a value; a part that is not what it should be is set aside alone."""
    try:
        return make(raw, *beside)
    except ODD:
        return Record(raw, aside="malformed record")


def thousandth(value: Any) -> Any:
    """Milliseconds as seconds; what is no number stays as it is, for the checks to refuse."""
    return value / 1000 if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _line(record: Record, names: Sequence[str] | None = None) -> str:
    fields = record.fields if names is None else {name: record.fields.get(name) for name in names}
    return json.dumps({**fields, MALFORMED: record.aside}, default=np.ndarray.tolist)


def _quickly(records: Sequence[Record], names: Sequence[str]) -> pl.DataFrame | None:
    """The fields of ordinary records; None where one has what orjson or Polars does not take as it is."""
    rows = [{name: record.fields.get(name) for name in names} | {MALFORMED: record.aside} for record in records]
    schema = pl.Schema(dict.fromkeys((*names, MALFORMED), pl.String()))
    if not all(map(_is_plain, rows)):
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(b"\n".join(map(orjson.dumps, rows))), schema=schema)
    except (TypeError, pl.exceptions.PolarsError):
        return None
    return frame if frame.height == len(records) else None


def _is_plain(row: Mapping[str, Any]) -> bool:
    """Whether nothing in it is nested or an infinite number, of which orjson makes null."""
    return all(type(v) in PLAIN or (type(v) is float and isfinite(v)) for v in row.values())


def _is_rounded(record: Record) -> bool:
    """Whether a number may have been a whole one beyond 64 bits."""
    return any(type(value) is float and abs(value) >= EXACT for value in record.fields.values())


def _lists(values: Sequence[Any]) -> pl.Series | None:
    """Lists of whole numbers; None where something else is among them, for a careful reader."""
    arrays = [NOTHING if value is None else _numbers(value) for value in values]
    known = [array for array in arrays if array is not None]
    if len(known) < len(arrays):
        return None
    ends = np.zeros(len(known) + 1, np.int64)
    np.cumsum([len(array) for array in known], out=ends[1:])
    numbers = pa.array(np.concatenate([NOTHING, *known]))
    absent = pa.array([value is None for value in values], pa.bool_())
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(ends), numbers, mask=absent), dtype=pl.List(pl.UInt64()))


def _numbers(value: Any) -> np.ndarray | None:
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        return None
    try:
        return np.array(value, np.uint64)
    except OverflowError:
        return None


def _unfold(format: Nested, line: str, value: Any) -> Iterator[Record]:
    if not isinstance(value, dict):
        yield Record(line, aside="malformed line")
        return
    try:
        yield from format.unfold(value)
    except ODD:
        yield Record(line, aside="malformed record")

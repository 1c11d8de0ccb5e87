"""Formats whose JSON values hold several requests, or other things beside requests: unfolded to flat rows.

A nested format says with `unfold` what requests a value holds; they are then read and checked like the lines of any
JSONL. What is no request is a row, too: set aside with the reason, so that every part is accounted for.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from . import jsontext
from .base import Format
from .careful import MALFORMED
from .source import Source

LINES = 1000  # unfolded at a time: who looks at the first rows does not wait for a whole block
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
            yield [json.dumps({**record.fields, MALFORMED: record.aside}) for record in records]

    def texts(self) -> Iterator[list[str]]:
        """What each row was read from."""
        for records in self._records():
            yield [_text(r.raw) for r in records]

    def _records(self) -> Iterator[list[Record]]:
        assert self.inner is not None and self.format is not None
        for lines in self.inner.lines():
            for at in range(0, len(lines), LINES):
                yield [record for line in lines[at : at + LINES] for record in _unfold(self.format, line)]


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


def _text(raw: Any) -> str:
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate is legal JSON, and no text


def _unfold(format: Nested, line: str) -> Iterator[Record]:
    try:
        value = jsontext.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        yield Record(line, aside="malformed line")
        return
    try:
        yield from format.unfold(value)
    except ODD:
        yield Record(line, aside="malformed record")

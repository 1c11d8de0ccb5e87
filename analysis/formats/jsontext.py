"""JSON as text: objects of lines, and values that span lines or stand in an array."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import polars as pl

_BLANK = re.compile(r"\s*")
_ENDLESS = re.compile(r"[0-9]{40}")  # half the time of \d


def quickly(text: str) -> Any:
    """As `loads`, several times as fast, but for whole numbers beyond 64 bits, which are rounded; None of no JSON."""
    try:
        return orjson.loads(text)
    except ValueError:
        return exactly(text)  # NaN, infinity and lone surrogates are Python's alone


def exactly(text: str) -> Any:
    """As `loads`; None where it is no JSON."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return None


def loads(text: str) -> Any:
    """The value of one text; whole numbers of any size exactly, an endless one as text. ValueError, RecursionError."""
    # measured on lists of hashes: five times as fast where Python need not look at each number
    return json.loads(text, parse_int=_number) if _ENDLESS.search(text) else json.loads(text)


def objects(lines: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """Those of the lines that are a JSON object."""
    found = []
    for line in lines:
        try:
            value = loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return tuple(found)


def values(text: str) -> list[Any]:
    """The JSON values that follow each other in `text`, and in place of an array its elements."""
    decoder = json.JSONDecoder(parse_int=_number if _ENDLESS.search(text) else None)
    found, at = [], _skip(text, 0)
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found += value if isinstance(value, list) else [value]
        at = _skip(text, at)
    return found


def holds_nul(frame: pl.DataFrame) -> bool:
    """Whether a text has a NUL: Polars reads each lone high surrogate so, and different texts would become one."""
    texts = frame.select(pl.col(pl.String).str.contains("\0", literal=True).any())
    return any(texts.row(0)) if texts.height else False


def keys(samples: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The keys of the samples, each once, in order of appearance."""
    return tuple(dict.fromkeys(key for sample in samples for key in sample))


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) < 40 else digits  # int() refuses above 4,300 digits

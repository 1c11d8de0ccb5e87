"""What was asked: the text of a prompt in the layouts that loggers write, for its hashed n-grams alone (grams.py)."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from lmaas.analysis.grams import hashed

from . import jsontext
from .source import Source

COLUMN = "prompt_grams"
ANSWERS = ("assistant", "model", "ai", "tool", "function", "system", "developer")  # roles that ask nothing
TEXTS = ("text", "content")  # keys of a part of a message that hold its text
MOST = 1 << 20  # characters of one JSON text that are looked into


def grams(source: Source, *columns: str) -> dict[str, pl.Expr]:
    """`{"prompt_grams": expression}` over the first of the columns that is there, else nothing."""
    there = next((name for name in columns if name in source.columns), None)
    if there is None:
        return {}
    return {COLUMN: pl.col(there).map_batches(_grams, return_dtype=pl.String(), is_elementwise=True)}


def plain_grams(column: str) -> dict[str, pl.Expr]:
    """As `grams`, over a column of texts that are nothing but what was asked."""
    return {COLUMN: pl.col(column).map_batches(hashed, return_dtype=pl.String(), is_elementwise=True)}


def _grams(values: pl.Series) -> pl.Series:
    asked = [question(value) for value in values.to_list()]
    return hashed(pl.Series(values.name, asked, dtype=pl.String))


def question(value: Any) -> str | None:
    """The last thing that a user said: a text, a list of messages, or an object that holds one of these.

    Never what was answered to it: of a conversation that is logged with its answer the answer would be in it. JSON
    within text is looked into; None where there is no text.
    """
    if isinstance(value, str):
        if value.lstrip()[:1] not in ("{", "["):
            return value
        if len(value) > MOST:
            return None
        inner = jsontext.quickly(value)
        return value if inner is None else question(inner) if not isinstance(inner, str) else inner
    if isinstance(value, list):
        return _last(value)
    if isinstance(value, Mapping):
        if "role" in value:
            return _last([value])
        inner = next((value[name] for name in ("messages", "prompt", "input") if value.get(name)), None)
        return _text(value) if inner is None else _last(inner) if isinstance(inner, list) else _text(inner)
    return None


def _last(items: list[Any]) -> str | None:
    """The text of the last user's message; of a list of bare texts the last one."""
    for item in reversed(items):
        if isinstance(item, str):
            return item
        if isinstance(item, Mapping) and str(item.get("role", "user")).lower() not in ANSWERS:
            return _text(item)
    return None


def _text(message: Any) -> str | None:
    """Of a message with `content` or `parts`, each a text or a list of parts that have one."""
    if isinstance(message, str):
        return message
    if not isinstance(message, Mapping):
        return None
    content = message.get("content", message.get("parts", message.get("text")))
    parts = content if isinstance(content, list) else [content]
    texts = [part if isinstance(part, str) else _of_part(part) for part in parts]
    found = " ".join(text for text in texts if text)
    return found or None


def _of_part(part: Any) -> str | None:
    if not isinstance(part, Mapping):
        return None
    return next((part[name] for name in TEXTS if isinstance(part.get(name), str)), None)

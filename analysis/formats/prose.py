"""Prompts and answers, which are never stored: what is set aside keeps their length in place of them."""

import json
import re
from collections.abc import Sequence
from typing import Any

from . import jsontext

# keys and columns that hold what people and models wrote, in the formats read here; of dotted ones, any part
NAMES = {
    "prompt", "prompts", "messages", "message", "content", "contents", "text", "text_input", "text_output",
    "input", "inputs", "output", "outputs", "completion", "completions", "response", "responses", "response_text",
    "answer", "generated_text", "generated_texts", "payload", "body", "request_body", "response_body",
    "request_args", "request", "tools", "system", "instructions", "reasoning_content", "query",
}  # fmt: skip
_KEY = re.compile(r'"(?:[^"\\]*\.)?(?:' + "|".join(sorted(NAMES)) + r')(?:\.[^"\\]*)?"\s*:', re.IGNORECASE)


def has_prose(columns: Sequence[str]) -> bool:
    """Whether one of the columns is called like text that people or models wrote."""
    return any(_is_prose(column) for column in columns)


def without_prose(line: str) -> str:
    """A line of JSON, each text under a key of NAMES replaced by its length; a broken one ends before the first key."""
    if not _KEY.search(line) and '"key"' not in line:
        return line
    try:
        value = jsontext.loads(line)
    except (ValueError, RecursionError):
        found = _KEY.search(line)
        return line if found is None else f"{line[: found.start()]}… ({len(line):,} characters)"
    stripped = _stripped(value)
    return line if stripped == value else json.dumps(stripped, ensure_ascii=False)


def _is_prose(key: str) -> bool:
    return not NAMES.isdisjoint(key.lower().split("."))


def _stripped(value: Any) -> Any:
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    if not isinstance(value, dict):
        return value
    key = value.get("key")  # of OTLP's attributes: {"key": name, "value": {"stringValue": text}}
    if isinstance(key, str) and "value" in value and _is_prose(key):
        return {**value, "value": _lengths(value["value"])}
    return {k: _lengths(v) if _is_prose(k) and isinstance(v, str | list) else _stripped(v) for k, v in value.items()}


def _lengths(value: Any) -> Any:
    """Numbers stay, texts become their lengths."""
    if isinstance(value, str):
        return f"({len(value):,} characters)"
    if isinstance(value, list):
        return [_lengths(item) for item in value]
    return {k: _lengths(v) for k, v in value.items()} if isinstance(value, dict) else value

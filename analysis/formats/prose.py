"""Prompts and answers, which are never stored: what is set aside keeps their length in place of them."""

import csv
import functools
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import jsontext
from .fields import csv_fields

# keys and columns that hold what people and models wrote, in the formats read here; of dotted ones, any part
NAMES = {
    "prompt", "prompts", "messages", "message", "content", "contents", "text", "text_input", "text_output",
    "input", "inputs", "output", "outputs", "completion", "completions", "response", "responses", "response_text",
    "answer", "generated_text", "generated_texts", "payload", "body", "request_body", "response_body",
    "request_args", "request", "tools", "system", "instructions", "reasoning_content", "query",
}  # fmt: skip
# words that make a longer name one of these (`user_prompt`, `systemPrompt`, `gen_ai.system_instructions`)
WORDS = {
    "prompt", "prompts", "message", "messages", "content", "contents", "text", "texts", "question", "questions",
    "answer", "answers", "instruction", "instructions", "arguments", "definitions", "query", "queries", "payload",
    "body", "transcript", "explanation", "stacktrace",
}  # fmt: skip
LAST = {"input", "inputs", "output", "outputs", "completion", "completions", "request", "response"}  # `raw_response`
# a name that ends so is of a number, a name or a time of it (`prompt_name`, `message.id`, `gen_ai.request.model`)
ABOUT = {
    "id", "ids", "name", "type", "kind", "role", "model", "version", "hash", "hashes", "tokens", "token", "len", "lens",
    "length", "lengths", "size", "count", "counts", "limit", "max", "rate", "cost", "price", "details", "format",
    "time", "times", "timestamp", "start", "end", "at", "ms", "us", "ns", "s", "seconds", "duration", "latency",
    "status", "code", "reason", "reasons", "chunk", "bytes", "sent", "key", "path", "method", "host", "port", "address",
}  # fmt: skip
WHOLE = {"request", "response", "responses", "system", "tools"}  # where an object holds other things beside the text
TOOLS_ANSWER = {"tool", "result"}
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_KEY = re.compile(r'"((?:[^"\\]|\\[^"])*)\\*"\s*:')
_LETTER = re.compile(r"[^\W\d_]")
_SIGN_WORD = re.compile(r"[\u3000-\U0003ffff]")  # of scripts without spaces a character is a word, as in `grams`
WORDS_KEPT, LENGTH_KEPT = 3, 100  # of an id, a name, a date; what has more may be what somebody wrote
_NUMBER = re.compile(r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?\s*|-?")


def has_prose(columns: Sequence[str]) -> bool:
    """Whether one of the columns is called like text that people or models wrote."""
    return any(_is_prose(column) for column in columns)


def holds_prose(value: Any) -> bool:
    """Whether text that people or models wrote stands anywhere in a JSON value, by the names of its keys."""
    if isinstance(value, list):
        return any(map(holds_prose, value))
    if isinstance(value, str):
        return _begins_json(value) and _first_key(value) is not None
    return isinstance(value, Mapping) and (has_prose(tuple(value)) or any(map(holds_prose, value.values())))


def without_prose(line: str, torn: bool = False) -> str:
    """A line of JSON, each text under a key of prose, and each free text, replaced by its length.

    A broken line ends before the first such key. `torn`: the source holds prose, so that a line that does not even
    begin like JSON may be a piece of it.
    """
    key = _first_key(line)
    if key is None and '"key"' not in line and not _may_be_free(line) and (not torn or _begins_json(line)):
        return line
    try:
        value = jsontext.loads(line)
    except (ValueError, RecursionError):
        if torn and not _begins_json(line):
            return f"… ({len(line):,} characters)"
        pieces = '"'.join(map(_bare, line[:key].split('"')))
        return pieces if key is None else f"{pieces}… ({len(line):,} characters)"
    stripped = _stripped(value)
    return line if stripped == value else json.dumps(stripped, ensure_ascii=False)


def without_free_text(line: str, delimiter: str, width: int) -> str:
    """A row of a CSV, each free text replaced by its length; all of it where it has not `width` fields."""
    if not _may_be_free(line):
        return line
    fields = csv_fields(line, delimiter)
    if fields is None or len(fields) != width:  # maybe a piece of a text, commas and all
        return _bare(line)
    kept = [_stripped(field) for field in fields]
    if kept == fields:
        return line
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator="").writerow(kept)
    return written.getvalue()


def _is_free(text: str) -> bool:
    """Whether it may be what a person or a model wrote: longer than an id, a name or a date."""
    if not _LETTER.search(text):
        return False
    words = len(_SIGN_WORD.findall(text)) + sum(_LETTER.search(word) is not None for word in text.split())
    return words > WORDS_KEPT or len(text) > LENGTH_KEPT


def _bare(text: str) -> str:
    return f"({len(text):,} characters)" if _is_free(text) else text


def _may_be_free(line: str) -> bool:
    """Whether a text in the line may be free; false where it surely is not, at a tenth of the cost of a look."""
    if not line.isascii() or "\\" in line:
        return True
    return any(len(piece) > LENGTH_KEPT or len(piece.split(None, WORDS_KEPT)) > WORDS_KEPT for piece in line.split('"'))


def _first_key(text: str) -> int | None:
    """Where the first key of prose begins, also of JSON within a text of JSON."""
    return next((found.start() for found in _KEY.finditer(text) if _is_prose(found[1].rstrip("\\"))), None)


def _begins_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


@functools.lru_cache(maxsize=4096)
def _is_prose(key: str) -> bool:
    parts = key.lower().split(".")
    words = [word.lower() for word in _WORD.findall(key)]
    if not words or (len(words) > 1 and words[-1] in ABOUT):
        return False
    return not NAMES.isdisjoint(parts) or not WORDS.isdisjoint(words) or words[-1] in LAST or set(words) >= TOOLS_ANSWER


def _stripped(value: Any) -> Any:
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    if isinstance(value, str):
        return without_prose(value) if _begins_json(value) else _bare(value)
    if not isinstance(value, dict):
        return value
    key = value.get("key")  # of OTLP's attributes: {"key": name, "value": {"stringValue": text}}
    if isinstance(key, str) and "value" in value and _is_prose(key):
        return {**value, "value": _lengths(value["value"])}
    return {_bare(k): _lengths(v) if _is_prose(k) and not _is_whole(k, v) else _stripped(v) for k, v in value.items()}


def _is_whole(key: str, value: Any) -> bool:
    """Whether `value` holds more than text, which is then looked for in it."""
    if isinstance(value, dict):
        words = set(_WORD.findall(key.lower()))
        return not WHOLE.isdisjoint(words) or (NAMES.isdisjoint(key.lower().split(".")) and WORDS.isdisjoint(words))
    return False


def _lengths(value: Any) -> Any:
    """Numbers stay, written as text too; other texts become their lengths."""
    if isinstance(value, str):
        return value if _NUMBER.fullmatch(value) else f"({len(value):,} characters)"
    if isinstance(value, list):
        return [_lengths(item) for item in value]
    return {k: _lengths(v) for k, v in value.items()} if isinstance(value, dict) else value

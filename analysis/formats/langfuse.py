"""Langfuse's exports of observations (CSV, JSON, JSONL, Parquet; langfuse/langfuse)."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import polars as pl

from . import jsontext
from .base import Reading
from .cells import first, inside, read_only, unless_zero
from .durations import between
from .prompts import grams
from .source import Source, missing_columns

TOKENS = pl.Struct({"input": pl.Float64(), "output": pl.Float64(), "cached": pl.Float64()})
CACHED = ("input_cached_tokens", "cache_read_input_tokens", "input_cache_read", "input_cached")
_RECENT: deque[tuple[pl.Series, pl.Series]] = deque(maxlen=4)  # batches of usages and their sums; several threads
LIMITS = ("$.max_tokens", "$.maxTokens", "$.max_completion_tokens", "$.max_output_tokens")


class Langfuse:
    """`id,trace_id,type,start_time,end_time,…,usage_details,completion_start_time,…`, or the same in camelCase.

    The two latencies that an export states are milliseconds or seconds by the age of the integration that wrote it:
    they are not read, the times are.
    """

    name = "langfuse"
    kinds = ("csv", "jsonl", "parquet")
    required = ("id", "type")
    optional = (
        *("level", "end_time", "endTime", "usage_details", "usageDetails", "usage", "user_id", "userId"),
        *("session_id", "sessionId", "model_parameters", "modelParameters"),
        *("provided_model_name", "providedModelName", "model", "input"),
    )

    def recognises(self, source: Source) -> bool:
        """By the keys that tell an observation, in one of the two spellings."""
        return any(set(_names(snake)) <= set(source.columns) for snake in (True, False))

    def read(self, source: Source) -> Reading:
        """Generations are requests; their tokens are the sums that Langfuse itself shows."""
        snake = "start_time" in source.columns
        absent = [name for name in _names(snake) if name not in source.columns]
        if absent:
            raise missing_columns(source, absent)
        start, end, began = _named(snake, "start_time", "end_time", "completion_start_time")
        (usage,) = _named(snake, "usage_details")
        usage = usage if usage in source.columns else "usage"  # as it was called until 2024
        failed = first(source, "level") == "ERROR"
        made = _tokens(source, usage, "output", "outputUsage", "completionTokens", "completion_tokens")
        given = _tokens(source, usage, "input", "inputUsage", "promptTokens", "prompt_tokens")
        unfinished = first(source, end).is_null() & made.is_null()
        columns = {
            **grams(source, "input"),
            "request_id": first(source, "id"),
            "service": first(source, "provided_model_name", "providedModelName", "model"),
            "tenant": first(source, *_named(snake, "user_id")),
            "session_id": first(source, *_named(snake, "session_id")),
            "max_tokens": inside(source, *_named(snake, "model_parameters"), *LIMITS),
            "input_tokens": unless_zero(given, failed),
            "output_tokens": unless_zero(made, failed),
            "cached_tokens": _tokens(source, usage, "cached"),
            "ttft_s": between(source, start, began, "datetime"),
            "e2e_s": between(source, start, end, "datetime") if end in source.columns else pl.lit(None, pl.String),
            "status": pl.when(failed)
            .then(pl.lit("failed"))
            .when(unfinished)
            .then(pl.lit("incomplete"))
            .otherwise(pl.lit("ok")),
        }
        other = (first(source, "type") != "GENERATION").fill_null(True)
        asides = {"observation that is no generation": other}
        return Reading(start, "datetime", read_only(columns), asides=asides, ids_repeat=True)


def _names(snake: bool) -> tuple[str, ...]:
    return ("id", "type", *_named(snake, "trace_id", "start_time", "completion_start_time"))


def _named(snake: bool, *names: str) -> tuple[str, ...]:
    """`trace_id`, or `traceId`."""
    return names if snake else tuple(name[0] + name.title().replace("_", "")[1:] for name in names)


def _tokens(source: Source, usage: str, part: str, *columns: str) -> pl.Expr:
    """The tokens of one part of the usage, as text; where an export has no usage, of a column that states them."""
    if usage not in source.columns:
        return first(source, *columns)
    parts = pl.col(usage).map_batches(_sums, return_dtype=TOKENS, is_elementwise=True)
    return parts.struct.field(part).cast(pl.String)


def _sums(usages: pl.Series) -> pl.Series:
    """The parts of each usage; a query asks a dozen times for those of the same batch of texts."""
    text = usages.dtype == pl.String
    for seen, sums in tuple(_RECENT) if text else ():
        if len(seen) == len(usages) and seen.equals(usages):
            return sums.alias(usages.name)
    rows = [_sum(usage) for usage in usages.to_list()]
    sums = pl.DataFrame(rows, schema=TOKENS.to_schema(), orient="row").to_struct()
    if text:
        _RECENT.append((usages, sums))
    return sums.alias(usages.name)


def _sum(usage: Any) -> tuple[float | None, float | None, float | None]:
    """Of `{"input": 200, "input_cached_tokens": 272, "output": 58, "total": 530}`: 472, 58, 272.

    As Langfuse counts, all that begins with `input` or `output`. What providers report beside the input
    (`cache_read_input_tokens`) is of the prompt, too, unless the total says that the input holds it already.
    """
    counts = _counts(usage)
    given = [n for name, n in counts.items() if name.startswith("input")]
    beside = [n for name, n in counts.items() if "input" in name and not name.startswith("input")]
    made = [n for name, n in counts.items() if name.startswith("output")]
    if counts.get("total") != sum(given) + sum(made):
        given += beside
    cached = next((counts[name] for name in CACHED if name in counts), None)
    return sum(given) if given else None, sum(made) if made else None, cached


def _counts(usage: Any) -> dict[str, float]:
    """The numbers by name, of JSON text, a struct or a map (a list of keys and values)."""
    if isinstance(usage, str):
        usage = jsontext.quickly(usage)
    if isinstance(usage, list):
        usage = {
            pair["key"]: pair["value"] for pair in usage if isinstance(pair, dict) and {"key", "value"} <= set(pair)
        }
    if not isinstance(usage, Mapping):
        return {}
    found = {str(name): _number(value) for name, value in usage.items()}
    return {name: number for name, number in found.items() if number is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None

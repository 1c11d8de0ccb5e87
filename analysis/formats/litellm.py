"""LiteLLM's spend logs, as dumps of its table or as StandardLoggingPayload (BerriAI/litellm)."""

import polars as pl

from .base import Reading, TimeUnit
from .cells import first, inside, read_only, unless_zero
from .durations import between
from .prompts import grams
from .source import Source

# call types that generate no text; `batch` and `file` are the management of batches, not their requests
OTHER_CALLS = "(?i)embedding|image|transcription|speech|moderation|rerank|mcp|ocr|video|vector_store|search|batch|file"
CACHED = (
    "$.usage_object.prompt_tokens_details.cached_tokens",
    "$.additional_usage_values.prompt_tokens_details.cached_tokens",
    "$.additional_usage_values.cache_read_input_tokens",
)


class LiteLlm:
    """`request_id,call_type,spend,…,startTime,endTime,completionStartTime,model,…,status` of `LiteLLM_SpendLogs`.

    The payload that LiteLLM hands to loggers has `id` in place of `request_id`, and its times are seconds since 1970.
    """

    name = "litellm"
    kinds = ("csv", "jsonl")
    required = ("call_type", "startTime", "endTime", "model", "prompt_tokens", "completion_tokens")
    optional = (
        *("status", "completionStartTime", "cache_hit", "metadata", "model_group", "session_id", "trace_id"),
        *("team_id", "organization_id", "user", "end_user", "messages"),
    )

    def recognises(self, source: Source) -> bool:
        """By its six columns."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """A failure has zeros for what it does not know: tokens, and a length where both times are the same."""
        payload = "request_id" not in source.columns and "id" in source.columns
        unit: TimeUnit = "epoch-s" if payload else "datetime"
        said = first(source, "status")
        failed = said == "failure"
        length = between(source, "startTime", "endTime", unit)
        columns = {
            **grams(source, "messages"),
            "request_id": first(source, "request_id", "id"),
            "service": first(source, "model_group", "model"),
            "tenant": pl.coalesce(
                first(source, "team_id", "organization_id"),
                inside(source, "metadata", "$.user_api_key_team_id", "$.user_api_key_org_id"),
                first(source, "user", "end_user"),
            ),
            "session_id": first(source, "session_id", "trace_id"),
            "input_tokens": unless_zero(first(source, "prompt_tokens"), failed),
            "output_tokens": unless_zero(first(source, "completion_tokens"), failed),
            "cached_tokens": inside(source, "metadata", *CACHED),
            "ttft_s": _streamed(source, unit),
            "e2e_s": unless_zero(length, failed),
            "status": pl.when(failed).then(pl.lit("failed")).when(said == "success").then(pl.lit("ok")).otherwise(said),
        }
        asides = {
            "call that generates no text": first(source, "call_type").str.contains(OTHER_CALLS),
            "answered from LiteLLM's own cache": first(source, "cache_hit").str.to_lowercase() == "true",
        }
        return Reading("startTime", unit, read_only(columns), asides=asides)


def _streamed(source: Source, unit: TimeUnit) -> pl.Expr:
    """The time to the first token; of an answer that was not streamed, LiteLLM gives its end, which says nothing."""
    if "completionStartTime" not in source.columns:
        return pl.lit(None, pl.String)
    begun = between(source, "startTime", "completionStartTime", unit)
    return pl.when(first(source, "completionStartTime") != pl.col("endTime")).then(begun)

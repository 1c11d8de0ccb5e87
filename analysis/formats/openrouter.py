"""OpenRouter's records of generations: as its API answers, and as its activity page exports them (openrouter.ai)."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .base import Reading
from .cells import first, milliseconds, read_only, unless_zero
from .source import Source
from .unfold import Record, carefully, thousandth

REQUIRED = ("id", "created_at", "native_tokens_prompt", "native_tokens_completion")
SPOKEN = {None, "completions", "chat", "responses", "messages"}  # api_type of calls that generate text
OTHER = "call that generates no text"


class OpenRouter:
    """`{"data": {"id", "created_at", "model", "native_tokens_prompt", "latency" (ms), …}}`, or without the wrapper.

    Tokens are counted twice, by a common tokenizer and by the model's own (`native_…`): the model's are read. The
    SDK's camelCase is the same.
    """

    name = "openrouter"
    kinds = ("jsonl",)
    required: tuple[str, ...] = ()  # its keys may lie one level deeper
    fields = (
        "request_id",
        "created_at",
        "service",
        "tenant",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "e2e_s",
        "status",
    )

    def recognises(self, source: Source) -> bool:
        """By the model's own token counts beside the id and the time."""
        return any(set(REQUIRED) <= set(record) for sample in source.samples for record in _records(sample))

    def read(self, source: Source) -> Reading:
        """Times are dates."""
        own = {name: name for name in self.fields if name != "created_at"}
        return Reading("created_at", "datetime", own)

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """A record is a request."""
        for raw in _parts(value):
            yield carefully(_request, raw)


class OpenRouterActivity:
    """`generation_id,created_at,…,tokens_prompt,tokens_completion,…,model_permaslug,…,time_to_first_token_ms`."""

    name = "openrouter-activity"
    kinds = ("csv",)
    required = ("generation_id", "created_at", "model_permaslug", "tokens_prompt", "tokens_completion")

    def recognises(self, source: Source) -> bool:
        """By its five columns."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """Of an answer that was not streamed there is no first token, and zero tokens of a failure are unknown."""
        cancelled = (first(source, "cancelled").str.to_lowercase() == "true").fill_null(False)
        failed = (first(source, "finish_reason_normalized") == "error").fill_null(False)
        streamed = (first(source, "streamed").str.to_lowercase() != "false").fill_null(True)
        columns = {
            "request_id": first(source, "generation_id"),
            "service": first(source, "model_permaslug"),
            "tenant": first(source, "user", "api_key_name"),
            "input_tokens": unless_zero(first(source, "tokens_prompt"), cancelled | failed),
            "output_tokens": unless_zero(first(source, "tokens_completion"), cancelled | failed),
            "cached_tokens": first(source, "tokens_cached"),
            "ttft_s": pl.when(streamed).then(milliseconds(first(source, "time_to_first_token_ms"))),
            "status": pl.when(cancelled)
            .then(pl.lit("cancelled"))
            .when(failed)
            .then(pl.lit("failed"))
            .otherwise(pl.lit("ok")),
        }
        return Reading("created_at", "datetime", read_only(columns))


def _parts(value: Mapping[str, Any]) -> list[Any]:
    """The records of an answer: its `data`, one or several, else itself."""
    inner = value.get("data", value)
    return inner if isinstance(inner, list) else [inner]


def _records(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (_snake(part) for part in _parts(value) if isinstance(part, dict))


def _snake(record: Mapping[str, Any]) -> dict[str, Any]:
    """`nativeTokensPrompt` as `native_tokens_prompt`."""
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in record.items()}


def _request(raw: Any) -> Record:
    said = _snake(raw)
    if said.get("api_type") not in SPOKEN:
        return Record(raw, aside=OTHER)
    status = "cancelled" if said.get("cancelled") else "failed" if said.get("finish_reason") == "error" else "ok"
    total, generation = said.get("latency"), said.get("generation_time")
    # documented as the whole; where it is less than its part it is something else, most likely the first token
    whole = total if generation is None or total is None or total >= generation else None
    return Record(
        raw,
        {
            "request_id": said["id"],
            "created_at": said["created_at"],
            "service": said.get("model"),
            "tenant": said.get("external_user"),
            "input_tokens": _known(said.get("native_tokens_prompt"), status),
            "output_tokens": _known(said.get("native_tokens_completion"), status),
            "cached_tokens": said.get("native_tokens_cached"),
            "e2e_s": thousandth(whole),
            "status": status,
        },
    )


def _known(tokens: Any, status: str) -> Any:
    """A zero of what did not succeed is unknown."""
    return None if tokens == 0 and status != "ok" else tokens

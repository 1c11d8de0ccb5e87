"""Envoy AI Gateway's access log (JSONL, envoyproxy/ai-gateway), with the names of its documented configuration."""

import polars as pl

from .base import Reading
from .cells import first, milliseconds, read_only, unless_zero
from .http import http_status
from .source import Source

TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
MODELS = ("gen_ai.request.model", "gen_ai.response.model", "response.model")
CACHED = ("gen_ai.usage.cached_input_tokens", "gen_ai.usage.cache_read.input_tokens")
PATHS = ("x-envoy-origin-path", "request.path", "path")
OTHER_PATHS = "/(?:embeddings|rerank|images|audio|moderations|models|files|batches|mcp|tokenize)"
NO_TTFT = "no ttft_s: x-envoy-upstream-service-time is when the response began, which for a stream is before any token"


class Envoy:
    """`{"start_time", "duration" (ms), "response_code", "gen_ai.request.model", "gen_ai.usage.input_tokens", …}`.

    The operator chooses the names; these are those of the gateway's own example. Numbers from dynamic metadata may be
    text, and what is missing is null or `-`.
    """

    name = "envoy"
    kinds = ("jsonl",)
    required = ("start_time", *TOKENS)
    optional = ("response_code", "duration", "x-request-id", "session.id", *MODELS, *CACHED, *PATHS)

    def recognises(self, source: Source) -> bool:
        """By its start, its tokens and Envoy's own duration or response code."""
        keys = set(source.columns)
        return set(self.required) <= keys and bool(keys & {"duration", "response_code"})

    def read(self, source: Source) -> Reading:
        """The response code says how it ended; a failure that has zero tokens has none that are known."""
        code = first(source, "response_code").cast(pl.Int64, strict=False)
        status = http_status(code)
        failed = status != "ok"
        model = first(source, *MODELS)
        given, made = (first(source, column) for column in TOKENS)
        columns = {
            "request_id": first(source, "x-request-id"),
            "service": model,
            "session_id": first(source, "session.id"),
            "input_tokens": unless_zero(given, failed),
            "output_tokens": unless_zero(made, failed),
            "cached_tokens": first(source, *CACHED),
            "e2e_s": milliseconds(first(source, "duration")),
            "status": status,
        }
        asides = {
            "call that generates no text": first(source, *PATHS).str.contains(OTHER_PATHS),
            "no model and no tokens: no LLM call": model.is_null() & given.is_null() & made.is_null(),
        }
        notes = (NO_TTFT,) if "x-envoy-upstream-service-time" in source.columns else ()
        return Reading("start_time", "datetime", read_only(columns), asides=asides, notes=notes)

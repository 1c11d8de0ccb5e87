"""vLLM's statistics of each request, as measured runs are published with (JSONL, casys-kaist/LLMServingSim)."""

import polars as pl

from .base import Reading
from .durations import between
from .source import Source

LATENCIES = {"queue_s": "scheduled_ts", "ttft_s": "first_token_ts", "e2e_s": "last_token_ts"}  # each since `queued_ts`


class VllmRequests:
    """`{"request_id", "input_toks", "output_toks", "arrival_time", "queued_ts", "scheduled_ts", ...}`, one a line.

    `arrival_time` is of the wall clock, seconds since 1970; all others are seconds of a monotonic clock, so latencies
    are differences among these and never from the arrival.
    """

    name = "vllm-requests"
    kinds = ("jsonl",)
    required = ("arrival_time", "input_toks", "output_toks", "queued_ts", *LATENCIES.values())

    def recognises(self, source: Source) -> bool:
        """By its seven columns."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """A time of 0 is one that never came: vLLM's default."""
        columns: dict[str, str | pl.Expr] = {"input_tokens": "input_toks", "output_tokens": "output_toks"}
        if "request_id" in source.columns:
            columns["request_id"] = "request_id"
        for name, end in LATENCIES.items():
            never = pl.col("queued_ts", end).cast(pl.Float64, strict=False).fill_null(1) == 0
            columns[name] = pl.when(~pl.any_horizontal(never)).then(between(source, "queued_ts", end, "epoch-s"))
        return Reading("arrival_time", "epoch-s", columns)

"""NVIDIA Dynamo's request trace `dynamo.request.trace.v1` (JSONL, ai-dynamo/dynamo)."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .base import Reading
from .source import Source
from .unfold import Record, thousandth

SCHEMA = "dynamo.request.trace.v1"
ENDS = {"cancelled": "cancelled", "error": "failed"}  # finish reasons that are no success


class Dynamo:
    """`{"schema", "event_type", "agent_context", "request": {...}}`, often inside `{"timestamp", "event"}`.

    The wrapper's `timestamp` is when the request ended, since the capture began; the arrival is the request's own
    `request_received_ms` since 1970.
    """

    name = "dynamo"
    kinds = ("jsonl",)
    required: tuple[str, ...] = ()  # its objects have keys of two kinds
    fields = (
        "request_id",
        "request_received_ms",
        "service",
        "session_id",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "queue_s",
        "ttft_s",
        "e2e_s",
        "status",
        "block_hashes",
    )

    def recognises(self, source: Source) -> bool:
        """By the schema that every event names."""
        return any(_event(sample).get("schema") == SCHEMA for sample in source.samples)

    def read(self, source: Source) -> Reading:
        """The size of a hash block is that of the first events: every prompt has ceil(input / size) hashes."""
        block = next((size for size in map(_block, source.samples) if size), None)
        own = {name: name for name in self.fields if name != "request_received_ms"}
        checks: dict[str, pl.Expr] = {}
        if block:
            blocks = (pl.col("input_tokens").cast(pl.Int64) + (block - 1)) // block
            checks[f"block_hashes not one per {block} input tokens"] = pl.col("block_hashes").list.len() != blocks
        return Reading("request_received_ms", "epoch-ms", own, block_size=block, checks=checks)

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """An event is one row; those of tools, and whatever else is no `request_end`, are no requests."""
        event = _event(value)
        kind = event.get("event_type")
        if kind != "request_end":
            tool = isinstance(kind, str) and kind.startswith("tool_")
            yield Record(value, aside="event of a tool, no request" if tool else "event that ends no request")
            return
        request, context = event["request"], event.get("agent_context") or {}
        replay, finish = request.get("replay") or {}, request.get("finish_reason_metadata") or {}
        given = request.get("input_tokens")
        yield Record(
            value,
            {
                "request_id": request.get("request_id"),
                "request_received_ms": request.get("request_received_ms"),
                "service": request.get("model"),
                # a trajectory is one conversation; earlier releases called the whole run the session
                "session_id": context.get("trajectory_id") or context.get("session_id"),
                "input_tokens": replay.get("input_length") if given is None else given,
                "output_tokens": request.get("output_tokens"),
                "cached_tokens": request.get("cached_tokens"),
                "queue_s": thousandth(request.get("prefill_wait_time_ms")),
                "ttft_s": thousandth(request.get("ttft_ms")),
                "e2e_s": thousandth(request.get("total_time_ms")),
                "status": ENDS.get(str(finish.get("finish_reason")), "ok"),
                "block_hashes": replay.get("input_sequence_hashes"),
            },
        )


def _event(value: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = value.get("event")
    return inner if isinstance(inner, dict) else value


def _block(value: Mapping[str, Any]) -> int | None:
    """The size of a hash block that an event states."""
    at: Any = _event(value)
    for key in ("request", "replay", "trace_block_size"):
        at = at.get(key) if isinstance(at, dict) else None
    return at if type(at) is int and at > 0 else None

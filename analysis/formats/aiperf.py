"""AIPerf's records of requests, `profile_export.jsonl` (JSONL, ai-dynamo/aiperf)."""

from collections.abc import Iterator, Mapping
from typing import Any

from .base import Reading
from .source import Source
from .unfold import Record

PER_SECOND = {"ns": 10**9, "us": 10**6, "ms": 10**3, "s": 1, "sec": 1}  # what a metric's `unit` may say of a time
TIMES = {"ttft_s": "time_to_first_token", "e2e_s": "request_latency"}
WARM_UP = "warm-up request, not measured"


class AiPerf:
    """`{"metadata": {..., "request_start_ns"}, "metrics": {name: {"value", "unit"}}, "error"}`, a request a line.

    Times are wall-clock nanoseconds since 1970; a metric's unit is the one that stands beside its value.
    """

    name = "aiperf"
    kinds = ("jsonl",)
    required = ("metadata", "metrics")
    fields = (
        "request_id",
        "request_start_ns",
        "session_id",
        "turn",
        "input_tokens",
        "output_tokens",
        "ttft_s",
        "e2e_s",
        "status",
    )

    def recognises(self, source: Source) -> bool:
        """By the start that every record's metadata hold."""
        return any(
            isinstance(sample.get("metadata"), dict)
            and "request_start_ns" in sample["metadata"]
            and "metrics" in sample
            for sample in source.samples
        )

    def read(self, source: Source) -> Reading:
        """The fields are named as in the trace table."""
        own = {name: name for name in self.fields if name != "request_start_ns"}
        return Reading("request_start_ns", "epoch-ns", own)

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """A record is a request; those of the warm-up are none of the workload."""
        told, metrics = value["metadata"], value.get("metrics") or {}
        if told.get("benchmark_phase") == "warmup":
            yield Record(value, aside=WARM_UP)
            return
        for name in TIMES.values():
            if name in metrics and metrics[name].get("unit") not in PER_SECOND:
                yield Record(value, aside=f"{name} in an unknown unit")
                return
        yield Record(
            value,
            {
                "request_id": told.get("x_request_id"),
                "request_start_ns": told["request_start_ns"],
                "session_id": told.get("x_correlation_id"),
                "turn": told.get("turn_index"),
                # a request that failed has its input under another name, and no other metric
                "input_tokens": _first(metrics, "input_sequence_length", "error_isl"),
                "output_tokens": _first(metrics, "output_sequence_length", "output_token_count"),
                "status": _status(told, value.get("error")),
                **{name: _seconds(metrics.get(metric)) for name, metric in TIMES.items()},
            },
        )


def _status(told: Mapping[str, Any], error: Any) -> str:
    if told.get("was_cancelled"):
        return "cancelled"
    return "failed" if error is not None else "ok"


def _first(metrics: Mapping[str, Any], *names: str) -> Any:
    """The value of the first metric that there is."""
    return next((metrics[name]["value"] for name in names if name in metrics), None)


def _seconds(metric: Mapping[str, Any] | None) -> Any:
    """A time in seconds; what is no number stays as it is, for the checks to refuse."""
    if metric is None:
        return None
    value: Any = metric.get("value")
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value / PER_SECOND[metric["unit"]] if known else value

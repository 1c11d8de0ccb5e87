"""inference-perf's `per_request_lifecycle_metrics.json` (an array, kubernetes-sigs/inference-perf)."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from . import jsontext
from .base import Reading
from .durations import between
from .source import Source
from .unfold import ODD, Record

OWN = ("service", "max_tokens", "input_tokens", "output_tokens", "cached_tokens", "status")


class InferencePerf:
    """`{"start_time", "end_time", "request", "response", "info": {...}, "error"}`, a request each.

    Times are seconds of the client's own clock (perf_counter). Older releases keep the counts in `info` itself,
    newer ones in its `request_metrics` and `response_metrics`.
    """

    name = "inference-perf"
    kinds = ("jsonl",)
    required = ("start_time", "end_time", "request", "response", "info", "error")
    fields = ("start_time", "first", "last", *OWN)

    def recognises(self, source: Source) -> bool:
        """By its six keys and the counts in `info`."""
        infos = [sample["info"] for sample in source.samples if isinstance(sample.get("info"), dict)]
        counts = {"input_tokens", "request_metrics"}
        return set(self.required) <= set(source.columns) and any(counts & info.keys() for info in infos)

    def read(self, source: Source) -> Reading:
        """Latencies are what lies between two times of a row."""
        columns: dict[str, str | pl.Expr] = {name: name for name in OWN}
        for name, end in {"ttft_s": "first", "e2e_s": "last"}.items():
            columns[name] = between(source, "start_time", end, "epoch-s")  # a difference: where they count from is one
        return Reading("start_time", "s", columns)

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """An element is a request."""
        info, failed = value.get("info") or {}, value.get("error") is not None
        asked, answered = _body(value["request"]), info.get("response_metrics") or {}
        served = answered.get("server_usage") or {}  # what the server counted, before what a tokenizer makes of a text
        times = answered.get("output_token_times", info.get("output_token_times")) or []
        made = _first(served.get("completion_tokens"), answered.get("output_tokens"), info.get("output_tokens"))
        yield Record(
            value,
            {
                "start_time": value["start_time"],
                "first": times[0] if times else None,
                "last": None if failed else times[-1] if times else value["end_time"],
                "service": _first(asked.get("model"), info.get("lora_adapter")),
                "max_tokens": _first(asked.get("max_tokens"), asked.get("max_completion_tokens")),
                "input_tokens": _first(served.get("prompt_tokens"), info.get("input_tokens"), _given(info)),
                "output_tokens": (made or None) if failed else made,
                "cached_tokens": (served.get("prompt_tokens_details") or {}).get("cached_tokens"),
                "status": "failed" if failed else "ok",
            },
        )


def _first(*values: Any) -> Any:
    """The first that is known."""
    return next((value for value in values if value is not None), None)


def _given(info: Mapping[str, Any]) -> Any:
    return ((info.get("request_metrics") or {}).get("text") or {}).get("input_tokens")


def _body(request: Any) -> Mapping[str, Any]:
    """The request's body, which the report keeps as text."""
    try:
        body = jsontext.loads(request)
    except ODD:
        return {}
    return body if isinstance(body, dict) else {}

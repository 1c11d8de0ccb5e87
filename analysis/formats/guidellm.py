"""GuideLLM's `benchmarks.json` (vllm-project/guidellm), of its first and of its present layout."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from lmaas.analysis.errors import UserError

from . import jsontext
from .base import Reading
from .durations import between
from .source import Source
from .unfold import ODD, Record, carefully, values

STATUSES = {"successful": "ok", "errored": "failed", "incomplete": "incomplete"}  # by the list a request stands in
TIMES = ("start", "first", "last")
OWN = ("request_id", "service", "session_id", "turn", "input_tokens", "output_tokens", "cached_tokens", "status")


class GuideLlm:
    """`{"benchmarks": [{"requests": {"successful": [...], "errored": [...], "incomplete": [...]}}]}`.

    Times are seconds since 1970, of the client's clock, in `info.timings`; in the first layout beside the tokens.
    """

    name = "guidellm"
    kinds = ("jsonl",)
    required = ("benchmarks",)
    fields = (*TIMES, *OWN)

    def recognises(self, source: Source) -> bool:
        """By benchmarks whose requests are sorted by how they ended."""
        return any(requests.keys() & STATUSES for sample in source.samples for _, requests in _benchmarks(sample))

    def read(self, source: Source) -> Reading:
        """UserError where no benchmark kept its requests."""
        sizes = [
            sum(len(_list(requests, ended)) for ended in STATUSES)
            for value in values(source)
            for _, requests in _benchmarks(value)
        ]
        if not any(sizes):
            raise UserError(
                f"{source.name}: GuideLLM's summary: rates and latency distributions of {len(sizes)} benchmarks, none "
                "of their requests: nothing to replay or to characterise. Save it as JSON, with its requests"
            )
        columns: dict[str, str | pl.Expr] = {
            **{name: name for name in OWN},
            "ttft_s": between(source, "start", "first", "epoch-s"),
            "e2e_s": between(source, "start", "last", "epoch-s"),
        }
        run = sum(size > 0 for size in sizes)
        notes = (f"{run} benchmarks one after another, each at a rate of its own",) if run > 1 else ()
        return Reading("start", "epoch-s", columns, notes=notes)

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """The requests of each benchmark, by how they ended."""
        for benchmark in _list(value, "benchmarks"):
            if not isinstance(benchmark, dict) or not isinstance(benchmark.get("requests"), dict):
                yield Record(benchmark, aside="benchmark without requests")
        for benchmark, requests in _benchmarks(value):
            model = _model(benchmark)
            for ended in [key for key in requests if key not in (*STATUSES, "total")]:  # total: all once more
                yield from (
                    Record(request, aside="request of an unknown outcome") for request in _list(requests, ended)
                )
            for ended, status in STATUSES.items():
                for request in _list(requests, ended):
                    yield carefully(_record, request, status, model)


def _benchmarks(value: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each benchmark of a report with its requests."""
    for benchmark in _list(value, "benchmarks"):
        requests = benchmark.get("requests") if isinstance(benchmark, dict) else None
        if isinstance(requests, dict):
            yield benchmark, requests


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _record(request: Mapping[str, Any], status: str, model: Any) -> Record:
    info = request.get("info") or {}
    timings = info.get("timings") or {}
    given, made = request.get("prompt_tokens"), request.get("output_tokens")
    if status != "ok":  # a request that did not succeed may have counted nothing: its zeros are unknown
        given, made = given or None, made or None
    own = {
        "request_id": request.get("request_id"),
        "service": _asked_for(request.get("request_args")) or model,
        "session_id": info.get("conversation_id"),
        "turn": info.get("turn_index") if info.get("conversation_id") is not None else None,
        "input_tokens": given,
        "output_tokens": made,
        "cached_tokens": (request.get("input_metrics") or {}).get("cached_tokens"),
        "status": status,
    }
    return Record(request, {**_times(request, timings), **own})


def _times(request: Mapping[str, Any], timings: Mapping[str, Any]) -> dict[str, Any]:
    """When it was sent, and when its first and its last token came; a time of 0 is one that never was."""
    return {
        "start": timings.get("request_start") or timings.get("resolve_start") or request.get("start_time") or None,
        "first": timings.get("first_token_iteration") or request.get("first_token_time") or None,
        "last": timings.get("last_token_iteration") or request.get("last_token_time") or None,
    }


def _asked_for(arguments: Any) -> Any:
    """The model in the body of a request, which the report keeps as text."""
    try:
        return jsontext.loads(arguments)["body"]["model"]
    except ODD:
        return None


def _model(benchmark: Mapping[str, Any]) -> Any:
    """The model of a benchmark in the first layout."""
    worker = benchmark.get("worker")
    return worker.get("backend_model") if isinstance(worker, dict) else None

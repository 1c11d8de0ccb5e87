"""GenAI-Perf's and perf_analyzer's `profile_export.json` (triton-inference-server/perf_analyzer)."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from . import jsontext
from .base import Reading
from .durations import between
from .source import Source
from .unfold import ODD, Record, carefully

OWN = ("service", "session_id", "max_tokens", "input_tokens", "output_tokens", "cached_tokens", "status")
UNCOUNTED = "answer without token counts (usage)"


class GenAiPerf:
    """`{"experiments": [{"requests": [{"timestamp", "request_inputs", "response_timestamps", "response_outputs"}]}]}`.

    Times are nanoseconds since 1970. Tokens are counted only where a server said `usage`, in the text of an answer.
    """

    name = "genai-perf"
    kinds = ("jsonl",)
    required = ("experiments",)
    fields = ("timestamp", "first", "last", *OWN)

    def recognises(self, source: Source) -> bool:
        """By experiments whose requests have the times of their responses."""
        found = (request for sample in source.samples for request in _requests(sample))
        return any(isinstance(request, dict) and "response_timestamps" in request for request in found)

    def read(self, source: Source) -> Reading:
        """Latencies are what lies between two times of a request."""
        columns: dict[str, str | pl.Expr] = {name: name for name in OWN}
        for name, end in {"ttft_s": "first", "e2e_s": "last"}.items():
            columns[name] = between(source, "timestamp", end, "epoch-ns")
        return Reading("timestamp", "epoch-ns", columns)

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """The requests of each experiment."""
        for request in _requests(value):
            yield carefully(_record, request)


def _requests(value: Mapping[str, Any]) -> Iterator[Any]:
    for experiment in value["experiments"] if isinstance(value.get("experiments"), list) else []:
        requests = experiment.get("requests") if isinstance(experiment, dict) else None
        yield from requests if isinstance(requests, list) else []


def _record(request: Mapping[str, Any]) -> Record:
    inputs = request.get("request_inputs") or {}
    asked = _parsed(inputs.get("payload")) or {}
    usage: Mapping[str, Any] = {}
    came, failed = [], False
    for time, output in zip(request["response_timestamps"], request.get("response_outputs") or [], strict=False):
        for chunk in _chunks(output.get("response")):
            usage, failed = chunk.get("usage") or usage, failed or bool(chunk.get("error"))
            came += [time] if any(map(_says, chunk.get("choices") or [])) else []
    status = "failed" if failed else "ok" if request["response_timestamps"] else "incomplete"
    if status == "ok" and not usage:
        return Record(request, aside=UNCOUNTED)
    return Record(
        request,
        {
            "timestamp": request["timestamp"],
            "first": came[0] if came and asked.get("stream") else None,
            "last": came[-1] if came and status == "ok" else None,
            "service": asked.get("model"),
            "session_id": inputs.get("session_id"),
            "max_tokens": asked.get("max_tokens") or asked.get("max_completion_tokens"),
            "input_tokens": usage.get("prompt_tokens"),
            "output_tokens": usage.get("completion_tokens"),
            "cached_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            "status": status,
        },
    )


def _chunks(response: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of an answer: itself, or the events of a stream, of which one response may hold several."""
    whole = _parsed(response)
    lines = [] if whole is not None or not isinstance(response, str) else response.splitlines()
    found = [whole, *(_parsed(line.removeprefix("data:")) for line in lines if line.startswith("data:"))]
    return (chunk for chunk in found if chunk is not None)


def _parsed(text: Any) -> dict[str, Any] | None:
    try:
        value = jsontext.loads(text)
    except ODD:
        return None
    return value if isinstance(value, dict) else None


def _says(choice: Mapping[str, Any]) -> bool:
    """Whether a choice holds any text: the first of a stream only says whose turn it is, the last why it ended."""
    part = choice.get("delta") or choice.get("message") or choice
    return any(part.get(key) for key in ("content", "reasoning_content", "reasoning", "tool_calls", "text"))

"""AIBrix's workloads (JSONL, Apache-2.0, vllm-project/aibrix): the requests of one instant on a line."""

from collections.abc import Iterator, Mapping
from typing import Any

from .base import Reading
from .source import Source
from .unfold import Record

# of today and of earlier releases
INPUT, OUTPUT = ("prompt_length", "Prompt Length"), ("output_length", "Output Length")


class AiBrix:
    """`{"timestamp": ms, "requests": [{"prompt", "prompt_length", "output_length", "session_id"}]}`."""

    name = "aibrix"
    kinds = ("jsonl",)
    required = ("timestamp", "requests")
    fields = ("timestamp", "input_tokens", "output_tokens", "session_id", "service")

    def recognises(self, source: Source) -> bool:
        """By the lengths that the first requests have."""
        return any(_lengths(request) for sample in source.samples for request in _requests(sample))

    def read(self, source: Source) -> Reading:
        """Milliseconds from the start; the prompts are not read."""
        return Reading("timestamp", "ms", {name: name for name in self.fields if name != "timestamp"})

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """Each of the requests; an instant without any is told."""
        if not value["requests"]:
            yield Record(value, aside="instant without requests")
        for request in value["requests"]:
            if isinstance(request, dict):
                yield Record(
                    request,
                    {
                        "timestamp": value.get("timestamp"),
                        "input_tokens": _first(request, INPUT),
                        "output_tokens": _first(request, OUTPUT),
                        "session_id": request.get("session_id"),
                        "service": request.get("model"),
                    },
                )
            else:
                yield Record(request, aside="malformed record")


def _requests(sample: Mapping[str, Any]) -> list[Any]:
    requests = sample.get("requests")
    return requests if "timestamp" in sample and isinstance(requests, list) else []


def _lengths(request: Any) -> bool:
    return isinstance(request, dict) and any(key in request for key in INPUT) and any(key in request for key in OUTPUT)


def _first(request: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((request[name] for name in names if request.get(name) is not None), None)

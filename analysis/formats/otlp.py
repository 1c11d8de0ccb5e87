"""OpenTelemetry spans of LLM calls, as OTLP/JSON and as flattened dumps, by the GenAI semantic conventions."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import polars as pl

from .base import Reading, TimeUnit
from .durations import between
from .prompts import plain_grams, question
from .source import Source
from .unfold import ODD, Record, carefully

# trace column -> attributes that say it, the newest name first; latencies are seconds
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "request_id": ("gen_ai.request.id", "gen_ai.response.id"),
    "service": ("gen_ai.request.model", "gen_ai.response.model", "service.name"),
    "session_id": ("gen_ai.conversation.id", "session.id"),
    "max_tokens": ("gen_ai.request.max_tokens",),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    "queue_s": ("gen_ai.latency.time_in_queue",),
    "ttft_s": ("gen_ai.latency.time_to_first_token", "gen_ai.response.time_to_first_chunk"),
    "e2e_s": ("gen_ai.latency.e2e",),
}
# a span that names no operation is a call if it carries one of these
SIGNS = frozenset(name for key in ("input_tokens", "output_tokens", "ttft_s", "e2e_s") for name in ATTRIBUTES[key])
PROMPTS = ("gen_ai.input.messages", "gen_ai.prompt")
WANTED = frozenset(
    {"gen_ai.operation.name", "error.type", *PROMPTS, *(name for names in ATTRIBUTES.values() for name in names)}
)
OLD_SCOPES = "instrumentationLibrarySpans"  # what `scopeSpans` was called until 2022
RESOURCE = ("service.name",)  # what is read of a span's resource
CALLS = frozenset({"chat", "text_completion", "generate_content", "completion"})
SCALARS = ("stringValue", "intValue", "doubleValue", "boolValue")  # OTLP's AnyValue; lists are not needed
UNSET = (0, "0", "")  # how a time that was never set is written
FAILED = frozenset({2, "2", "STATUS_CODE_ERROR", "ERROR", "error"})
SERVER = frozenset({2, "2", "SPAN_KIND_SERVER", "SERVER"})
TWICE = "spans of both clients and servers: a request that both have traced is there twice"


@dataclass(frozen=True)
class Span:
    """What both layouts say of a span."""

    attributes: Mapping[str, Any]
    span_id: Any
    start: Any
    end: Any
    status: Any
    kind: Any

    @property
    def is_call(self) -> bool:
        """Whether it is a call of a language model; an agent's span repeats the tokens of the calls below it."""
        operation = self.attributes.get("gen_ai.operation.name")
        return operation in CALLS if operation is not None else not SIGNS.isdisjoint(self.attributes)

    def record(self, raw: Any) -> Record:
        """Its row; its times as they stand."""
        if not self.is_call:
            return Record(raw, aside="span of no LLM call")
        found = self.attributes
        fields: dict[str, Any] = {}
        for column, names in ATTRIBUTES.items():  # plain loops: this is most of the time that a span takes
            for name in names:
                if (value := found.get(name)) is not None:
                    break
            fields[column] = value
        if fields["request_id"] is None:
            fields["request_id"] = self.span_id
        code = self.status.get("code") if isinstance(self.status, dict) else self.status
        status = "failed" if "error.type" in self.attributes or code in FAILED else "ok"
        start, end = (None if time in UNSET else time for time in (self.start, self.end))
        prompt = next((question(found[name]) for name in PROMPTS if found.get(name) is not None), None)
        return Record(raw, {**fields, "prompt": prompt, "start": start, "end": end, "status": status})


class Otlp:
    """`{"resourceSpans": [{"scopeSpans": [{"spans": [...]}]}]}`: an export a line, or one document.

    Times are nanoseconds since 1970. vLLM's spans carry its own latencies (`gen_ai.latency.*`).
    """

    name = "otlp"
    kinds = ("jsonl",)
    required = ("resourceSpans",)
    fields = (*ATTRIBUTES, "prompt", "start", "end", "status")

    def recognises(self, source: Source) -> bool:
        """By `resourceSpans`."""
        return "resourceSpans" in source.columns

    def read(self, source: Source) -> Reading:
        """A whole latency that the attributes do not say is the span's own length."""
        return _reading(source, "epoch-ns", _of_wire, (raw for value in source.samples for _, raw in _wire(value)))

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """A span is a row."""
        if "resourceSpans" not in value:
            yield Record(value, aside="no spans")
            return
        for about, raw in _wire(value):
            yield carefully(_wire_record, raw, about)


class OtelFlat:
    """`{"trace_id", "spans": [{"span_id", "start_time", "attributes": {...}}]}`: a trace a line, as tools dump them."""

    name = "otel-flat"
    kinds = ("jsonl",)
    required = ("spans",)
    fields = Otlp.fields

    def recognises(self, source: Source) -> bool:
        """By `spans` with `span_id` and `start_time`."""
        spans = (raw for sample in source.samples for raw in _below(sample, "spans"))
        return any(isinstance(raw, dict) and {"span_id", "start_time"} <= set(raw) for raw in spans)

    def read(self, source: Source) -> Reading:
        """Times are dates; a whole latency that the attributes do not say is the span's own length."""
        return _reading(
            source, "datetime", _of_flat, (raw for value in source.samples for raw in _below(value, "spans"))
        )

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """A span is a row."""
        if "spans" not in value:
            yield Record(value, aside="no spans")
            return
        for raw in _below(value, "spans"):
            yield carefully(_flat_record, raw)


def _reading(source: Source, unit: TimeUnit, make: Callable[[Any], Span], samples: Iterable[Any]) -> Reading:
    columns: dict[str, str | pl.Expr] = {name: name for name in (*ATTRIBUTES, "status")}
    columns["e2e_s"] = pl.coalesce("e2e_s", between(source, "start", "end", unit))
    sides = set()
    for raw in samples:
        with contextlib.suppress(*ODD):  # it will be set aside when it is read
            span = make(raw)
            if not span.attributes.keys().isdisjoint(PROMPTS):  # texts are recorded for all spans, or for none
                columns |= plain_grams("prompt")
            sides |= {span.kind in SERVER} if span.is_call else set()
    return Reading("start", unit, columns, notes=(TWICE,) if len(sides) > 1 else ())


def _wire(value: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """The spans of an export, each after what its resource says."""
    for group in _below(value, "resourceSpans"):
        about: dict[str, Any] = {}
        with contextlib.suppress(*ODD):  # the spans are good without it
            about = _attributes(group["resource"]["attributes"])
        about = {name: about[name] for name in RESOURCE if name in about}
        scopes = OLD_SCOPES if isinstance(group, dict) and OLD_SCOPES in group else "scopeSpans"
        yield from ((about, raw) for raw in _below(group, scopes, "spans"))


def _below(value: Any, *names: str) -> Iterator[Any]:
    """What stands in the lists under `names`, each in the one before; what is no list is handed on as it stands."""
    if not names:
        yield value
        return
    items = value.get(names[0], []) if isinstance(value, dict) else None  # JSON leaves empty lists out
    if not isinstance(items, list):
        yield value
        return
    for item in items:
        yield from _below(item, *names[1:])


def _wire_record(raw: Any, about: Mapping[str, Any]) -> Record:
    return _of_wire(raw, about).record(raw)


def _flat_record(raw: Any) -> Record:
    return _of_flat(raw).record(raw)


def _of_wire(raw: Any, about: Mapping[str, Any] = MappingProxyType({})) -> Span:
    return Span(
        attributes={**about, **_attributes(raw.get("attributes"))},
        span_id=raw.get("spanId"),
        start=raw["startTimeUnixNano"],
        end=raw.get("endTimeUnixNano"),
        status=raw.get("status"),
        kind=raw.get("kind"),
    )


def _of_flat(raw: Any) -> Span:
    return Span(
        attributes=dict(raw.get("attributes") or {}),
        span_id=raw["span_id"],
        start=raw["start_time"],
        end=raw.get("end_time"),
        status=raw.get("status"),
        kind=raw.get("kind"),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    """Those that are wanted; a span may have a hundred others."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        if (name := pair["key"]) in WANTED:
            value = pair["value"]
            found[name] = None
            for kind in SCALARS:
                if kind in value:
                    found[name] = value[kind]
                    break
    return found

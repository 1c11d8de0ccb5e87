"""OpenTelemetry spans: which are requests, what their attributes become under both generations of names."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from lmaas.analysis.formats.otlp import TWICE

FIXTURES = Path(__file__).parent / "fixtures"
WIRE, FLAT = FIXTURES / "otlp.jsonl", FIXTURES / "otel-flat.jsonl"


def spans(*found):
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(found)}]}]}


def test_calls_become_requests(read):
    trace = read(WIRE)
    assert trace.meta.epoch == datetime(2027, 1, 15, 8, 0, tzinfo=UTC) and trace.meta.epoch_kind == "known"
    assert trace.table("request_id", "arrival_s", "service", "session_id", "status").rows() == [
        ("chatcmpl-1", 0.250000001, "llama-3-8b", "c-9", "ok"),
        ("eee19b7ec3c1b174", 0.5, "gpt-4o", None, "failed"),
        ("eee19b7ec3c1b175", 0.7, "llama-3-8b", None, "ok"),
        ("cmpl-7", 1.0, "vllm-a", None, "ok"),
    ]
    assert trace.table("input_tokens", "output_tokens", "cached_tokens", "max_tokens").rows() == [
        (120, 18, 96, 64),
        (None, None, None, None),
        (7, 3, None, None),
        (4096, 32, None, 32),
    ]


def test_latencies_are_the_attributes_else_the_spans_length(read):
    rows = read(WIRE).table("queue_s", "ttft_s", "e2e_s").rows()
    assert rows == [(None, 0.125, 1.25), (None, None, 0.1), (None, None, 0.2), (0.5, 0.75, 2.0)]


def test_every_span_is_accounted_for(read):
    trace = read(WIRE)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (8, 4)
    assert trace.meta.rows_set_aside == {"span of no LLM call": 4}
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet")).sort("source_row")
    assert rejects["source_row"].to_list() == [0, 2, 5, 7]
    assert json.loads(rejects["text"][1])["name"] == "execute_tool bash"
    assert TWICE in trace.meta.notes


def test_one_document_packed_or_over_lines_is_the_same(read):
    lines = [json.loads(line) for line in WIRE.read_text().splitlines()]
    whole = {"resourceSpans": [group for line in lines for group in line["resourceSpans"]]}
    expected = read(WIRE).table()
    assert read(json.dumps(whole), "a.json").table().equals(expected)
    assert read(json.dumps(whole, indent=2).encode(), "b.json").table().equals(expected)
    assert read(gzip.compress(WIRE.read_bytes()), "c.json").table().equals(expected)


def test_flattened_dumps(read):
    trace = read(FLAT)
    assert trace.meta.epoch == datetime(2026, 2, 25, 10, tzinfo=UTC) and trace.meta.epoch_kind == "assumed"
    assert trace.table(
        "request_id", "arrival_s", "service", "input_tokens", "output_tokens", "e2e_s", "status"
    ).rows() == [
        ("b", 0.25, "m", 10, 20, 1.25, "ok"),
        ("c", 2.0, "m", 11, 0, None, "failed"),
    ]
    assert trace.meta.rows_set_aside == {"span of no LLM call": 1}
    assert TWICE not in trace.meta.notes


def test_damage_is_set_aside_span_by_span(read):
    inputs = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 5}}
    outputs = {"key": "gen_ai.usage.output_tokens", "value": {"intValue": 5}}
    good = {"startTimeUnixNano": "1", "endTimeUnixNano": "3", "attributes": [inputs, outputs]}
    text = json.dumps(spans(good, {**good, "startTimeUnixNano": "0"}, {**good, "startTimeUnixNano": 0}))
    trace = read(text)
    assert trace.meta.rows_set_aside == {"arrival_s missing": 2} and trace.meta.rows_kept == 1

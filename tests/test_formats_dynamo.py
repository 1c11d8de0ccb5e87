"""Dynamo's request trace: what is a request, what it becomes, and what is set aside."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

FIXTURE = Path(__file__).parent / "fixtures" / "dynamo.jsonl"


def test_what_a_request_becomes(read):
    trace = read(FIXTURE)
    assert trace.meta.epoch == datetime(2027, 1, 15, 8, 0, tzinfo=UTC) and trace.meta.epoch_kind == "known"
    assert (trace.meta.time_unit, trace.meta.block_size) == ("epoch-ms", 16)
    assert trace.table("request_id", "arrival_s", "service", "session_id", "status").rows() == [
        ("r-1", 0.25, "llama-3-8b", "run-1", "ok"),
        ("r-2", 2.0, "llama-3-8b", "run-1:scout", "ok"),
        ("r-3", 2.2, "default", None, "cancelled"),
    ]
    assert trace.table("input_tokens", "output_tokens", "cached_tokens").rows() == [
        (33, 7, 16),
        (5, 1, None),
        (9, 0, None),
    ]
    assert trace.table("queue_s", "ttft_s", "e2e_s").rows() == [(0.0125, 0.1, 1.25), (None, 0.1, 0.1), (None,) * 3]
    assert trace.table("block_hashes")["block_hashes"].to_list() == [[2**64 - 1, 2**63, 7], [7], None]


def test_every_event_is_accounted_for(read):
    trace = read(FIXTURE)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (6, 3)
    assert trace.meta.rows_set_aside == {"event of a tool, no request": 2, "event that ends no request": 1}
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet")).sort("source_row")
    lines = FIXTURE.read_text().splitlines()
    assert [json.loads(text) for text in rejects["text"]] == [json.loads(lines[row]) for row in (1, 2, 5)]


def test_events_that_do_not_hold_what_they_should_are_set_aside(read, tmp_path):
    event = json.loads(FIXTURE.read_text().splitlines()[3])
    request = event["request"]
    bad = [
        {**event, "request": None},
        {**event, "request": {**request, "request_received_ms": None}},
        {**event, "request": {**request, "ttft_ms": "soon"}},
        {**event, "request": {**request, "total_time_ms": -1}},
        {**event, "request": {**request, "replay": {"input_length": 17, "input_sequence_hashes": [7]}}},
        {**event, "request": {**request, "replay": {"input_length": 5, "input_sequence_hashes": [-7]}}},
        {**event, "request": {**request, "replay": [1]}},
    ]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [event, *bad]))
    trace = read(path)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (8, 1)
    assert trace.meta.rows_set_aside == {
        "malformed record": 2,
        "arrival_s missing": 1,
        "ttft_s not a number": 1,
        "e2e_s negative": 1,
        "block_hashes not one per 16 input tokens": 1,
        "block_hashes not unsigned 64-bit integers": 1,
    }


def test_packed_it_is_the_same(read, tmp_path):
    path = tmp_path / "dynamo.jsonl.gz"
    path.write_bytes(gzip.compress(FIXTURE.read_bytes()))
    assert read(path).table().equals(read(FIXTURE).table())


def test_a_real_capture(read, shared):
    trace = read(shared / "traces/dynamo/pi_request_trace.jsonl.gz")
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (61, 17)
    assert trace.meta.rows_set_aside == {"event of a tool, no request": 44}
    first = trace.table("input_tokens", "output_tokens", "queue_s", "ttft_s", "e2e_s", "block_hashes").row(0)
    assert first == (15, 3, 0.002045934, 1.328418365, 1.381891193, [1549729496416048079])
    table = trace.table()
    assert (table["block_hashes"].list.len() == (table["input_tokens"] + 15) // 16).all()
    assert table["block_hashes"].explode().max() > 2**63
    assert table["session_id"].n_unique() == 5

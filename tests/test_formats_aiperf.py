"""AIPerf's records: units that stand in the row, warm-up, cancelled and failed requests."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

FIXTURE = Path(__file__).parent / "fixtures" / "aiperf.jsonl"
LINES = FIXTURE.read_text().splitlines()


def test_what_a_record_becomes(read):
    trace = read(FIXTURE)
    assert trace.meta.epoch == datetime(2027, 1, 15, 8, 0, 1, tzinfo=UTC)
    assert (trace.meta.epoch_kind, trace.meta.time_unit) == ("known", "epoch-ns")
    assert trace.table("request_id", "arrival_s", "session_id", "turn", "status").rows() == [
        ("r-1", 7e-9, "c-1", 0, "ok"),
        ("r-3", 1.25, "c-2", 0, "cancelled"),
        ("r-2", 2.5, "c-1", 1, "ok"),
        ("r-4", 4.0, "c-3", 0, "failed"),
    ]
    assert trace.table("input_tokens", "output_tokens").rows() == [(550, 9), (70, None), (600, 1), (None, None)]


def test_times_are_in_the_unit_that_stands_beside_them(read):
    assert read(FIXTURE).table("ttft_s", "e2e_s").rows() == [(0.3, 1.0), (None, None), (0.5, 0.5), (None, None)]


def test_the_warm_up_is_set_aside_and_accounted_for(read):
    trace = read(FIXTURE)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (5, 4)
    assert trace.meta.rows_set_aside == {"warm-up request, not measured": 1}
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet"))
    assert [json.loads(text) for text in rejects["text"]] == [json.loads(LINES[0])]


def changed(**metrics):
    record = json.loads(LINES[1])
    return {**record, "metrics": {**record["metrics"], **metrics}}


def test_what_a_record_should_not_hold_sets_it_aside(read, tmp_path):
    bad = [
        changed(request_latency={"value": 1, "unit": "ticks"}),
        changed(time_to_first_token={"value": "soon", "unit": "ms"}),
        changed(time_to_first_token={"value": -1, "unit": "ms"}),
        changed(output_sequence_length={"value": 1.5, "unit": "tokens"}),
        {**json.loads(LINES[1]), "metrics": {}},
        {**json.loads(LINES[1]), "metadata": {"benchmark_phase": "profiling"}},
        {**json.loads(LINES[1]), "metadata": "none"},
    ]
    path = tmp_path / "profile_export.jsonl"
    path.write_text("\n".join([LINES[1], *map(json.dumps, bad), "{cut"]))
    trace = read(path)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (9, 1)
    assert trace.meta.rows_set_aside == {
        "malformed record": 2,
        "input_tokens missing": 1,
        "malformed line": 1,
        "output_tokens not whole": 1,
        "request_latency in an unknown unit": 1,
        "ttft_s negative": 1,
        "ttft_s not a number": 1,
    }


def test_packed_records_are_the_same_trace(read, tmp_path):
    packed = tmp_path / "profile_export.jsonl.gz"
    packed.write_bytes(gzip.compress(FIXTURE.read_bytes()))
    assert read(packed).table().equals(read(FIXTURE).table())

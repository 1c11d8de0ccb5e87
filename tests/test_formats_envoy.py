"""Envoy AI Gateway's access log: lenient cells, response codes, what is no LLM call."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lmaas.analysis.formats.envoy import NO_TTFT

FIXTURE = Path(__file__).parent / "fixtures" / "envoy.jsonl"


def test_what_a_request_becomes(read):
    trace = read(FIXTURE)
    assert trace.meta.epoch == datetime(2026, 11, 1, 10, tzinfo=UTC) and trace.meta.epoch_kind == "known"
    assert trace.table("request_id", "arrival_s", "service", "session_id", "status").rows() == [
        ("id-1", 0.123, "llama-3-8b", "s-1", "ok"),
        ("id-2", 1.0, "meta-llama/Llama-3-8B", None, "ok"),
        ("id-3", 1.5, "llama-3-8b", "s-1", "rejected"),
        ("id-4", 2.0, "llama-3-8b", "s-1", "failed"),
        ("id-5", 2.5, "llama-3-8b", "s-1", "cancelled"),
    ]
    assert trace.table("input_tokens", "output_tokens", "e2e_s").rows() == [
        (472, 18, 1.834),
        (10, 5, 0.3),
        (None, None, 0.002),
        (None, None, 15.0),
        (None, None, 4.0),
    ]
    assert trace.table("ttft_s")["ttft_s"].null_count() == 5 and NO_TTFT in trace.meta.notes


def test_every_line_is_accounted_for(read):
    trace = read(FIXTURE)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (7, 5)
    assert trace.meta.rows_set_aside == {"call that generates no text": 1, "no model and no tokens: no LLM call": 1}


def test_packed_it_is_the_same(read):
    assert read(gzip.compress(FIXTURE.read_bytes())).table().equals(read(FIXTURE).table())


def test_several_logs_set_aside_what_each_would(read, tmp_path):
    lines = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
    (tmp_path / "logs").mkdir()
    shorter = [{key: value for key, value in line.items() if "path" not in key} for line in lines]
    for name, rows in {"a": lines, "b": shorter}.items():
        (tmp_path / "logs" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trace = read(tmp_path / "logs")
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (14, 11)
    assert trace.meta.rows_set_aside == {"no model and no tokens: no LLM call": 2, "call that generates no text": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"duration": "long"}, "e2e_s not a number"),
        ({"duration": -1}, "e2e_s negative"),
        ({"start_time": "-"}, "arrival_s not a date"),
        ({"gen_ai.usage.input_tokens": "many"}, "input_tokens not a number"),
        ({"gen_ai.usage.output_tokens": "-"}, "output_tokens missing"),
    ],
)
def test_what_does_not_fit_is_set_aside(read, change, reason):
    row = json.loads(FIXTURE.read_text().splitlines()[0])
    trace = read((json.dumps(row) + "\n" + json.dumps(row | change)).encode())
    assert trace.meta.rows_set_aside == {reason: 1}

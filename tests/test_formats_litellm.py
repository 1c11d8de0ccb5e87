"""LiteLLM's spend logs: the table as CSV and JSONL, and the payload for loggers."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

FIXTURES = Path(__file__).parent / "fixtures"
TABLE = ("litellm.csv", "litellm_table.jsonl")
CACHE, OTHER = "answered from LiteLLM's own cache", "call that generates no text"


@pytest.mark.parametrize("name", TABLE)
def test_the_table(read, name):
    trace = read(FIXTURES / name)
    assert (trace.meta.format, trace.meta.epoch) == ("litellm", datetime(2026, 11, 1, 9, 59, 59, tzinfo=UTC))
    assert trace.meta.epoch_kind == ("assumed" if name.endswith("csv") else "known")
    assert trace.table("request_id", "arrival_s", "service", "tenant", "session_id", "status").rows() == [
        ("chatcmpl-6", 0.0, "llama-3-8b", "u-2", None, "ok"),
        ("chatcmpl-1", 1.123, "gpt-4o-mini", "team-a", "s-1", "ok"),
        ("chatcmpl-2", 2.0, "llama-3-8b", "cust-2", None, "ok"),
        ("f-3", 3.0, "llama-3-8b", "team-a", "s-1", "failed"),
    ]
    assert trace.table("input_tokens", "output_tokens", "cached_tokens").rows() == [
        (1, 2, None),
        (472, 58, 256),
        (10, 5, None),
        (None, None, None),
    ]
    assert trace.table("ttft_s", "e2e_s").rows() == [(None, 1.0), (0.489, 3.333), (None, 1.5), (None, None)]


@pytest.mark.parametrize("name", TABLE)
def test_every_row_is_accounted_for(read, name):
    trace = read(FIXTURES / name)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (6, 4)
    assert trace.meta.rows_set_aside == {CACHE: 1, OTHER: 1}


def test_the_payload_for_loggers(read):
    trace = read(FIXTURES / "litellm_payload.json")
    assert (trace.meta.time_unit, trace.meta.epoch_kind) == ("epoch-s", "known")
    assert trace.meta.epoch == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert trace.table("request_id", "service", "tenant", "session_id", "status").rows() == [
        ("chatcmpl-1", "gpt-4o-mini", "team-a", "s-1", "ok"),
        ("f-2", "llama-3-8b", "cust-2", "s-2", "failed"),
    ]
    assert trace.table("arrival_s")["arrival_s"].to_list() == pytest.approx([0.123, 1.0], abs=1e-6)
    assert trace.table("input_tokens", "output_tokens", "cached_tokens").rows() == [(472, 58, 256), (None,) * 3]
    assert trace.table("ttft_s", "e2e_s").rows() == [(0.489, 3.333), (None, 30.5)]
    assert (trace.meta.rows_read, trace.meta.rows_set_aside) == (3, {CACHE: 1})


def test_packed_it_is_the_same(read):
    packed = pa.compress((FIXTURES / TABLE[0]).read_bytes(), codec="zstd", asbytes=True)
    assert read(packed).table().equals(read(FIXTURES / TABLE[0]).table())


def test_what_does_not_fit_is_set_aside(read):
    row = json.loads((FIXTURES / TABLE[1]).read_text().splitlines()[0])
    bad = [
        {"status": "queued"},
        {"endTime": "2026-11-01T09:00:00Z"},
        {"endTime": "later"},
        {"completionStartTime": "soon"},
        {"startTime": None},
        {"prompt_tokens": -1},
        {"completion_tokens": None},
        {"metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": "many"}}}},
    ]
    trace = read("\n".join(json.dumps(row | change) for change in [{}, *bad]).encode())
    assert trace.meta.rows_kept == 1
    assert trace.meta.rows_set_aside == {
        "status unknown": 1,
        "e2e_s negative": 1,
        "e2e_s not a number": 1,
        "ttft_s not a number": 1,
        "arrival_s missing": 1,
        "input_tokens negative": 1,
        "output_tokens missing": 1,
        "cached_tokens not a number": 1,
    }

"""Langfuse's exports: both spellings, every kind of file, tokens as sums, retries told and kept."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lmaas.analysis.errors import UserError
from lmaas.analysis.formats.langfuse import _sum

FIXTURES = Path(__file__).parent / "fixtures"
CSV, JSON = FIXTURES / "langfuse.csv", FIXTURES / "langfuse_camel.json"
OTHER = "observation that is no generation"


def rows():
    with CSV.open(newline="") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def dates(*names):
    return [pl.col(name).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_zone="UTC") for name in names]


@pytest.fixture
def export(tmp_path):
    """The same eight observations, as a file of every kind."""

    def _export(kind):
        path = tmp_path / kind
        if kind == "jsonl":
            path.write_text("\n".join(json.dumps(row) for row in json.loads(JSON.read_text())))
        elif kind == "zstd":
            path.write_bytes(pa.compress(CSV.read_bytes(), codec="zstd", asbytes=True))
        elif kind in ("text", "struct", "map"):
            frame = pl.DataFrame(rows()).with_columns(dates("start_time", "end_time", "completion_start_time"))
            usage = [json.loads(text) for text in frame["usage_details"]]
            if kind == "struct":
                keys = dict.fromkeys(key for counts in usage for key in counts)
                series = pl.Series(usage, dtype=pl.Struct(dict.fromkeys(keys, pl.Int64)))
                frame = frame.with_columns(usage_details=series)
            if kind == "map":
                pairs = [[{"key": key, "value": n} for key, n in counts.items()] for counts in usage]
                frame = frame.with_columns(usage_details=pl.Series(pairs))
            frame.write_parquet(path)
        return {"csv": CSV, "json": JSON}.get(kind, path)

    return _export


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "zstd", "text", "struct", "map"])
def test_generations_are_requests_in_every_kind_of_file(read, export, kind):
    trace = read(export(kind))
    assert (trace.meta.format, trace.meta.epoch) == ("langfuse", datetime(2026, 11, 1, 10, tzinfo=UTC))
    assert trace.meta.epoch_kind == ("assumed" if kind in ("csv", "zstd") else "known")
    assert trace.table("request_id", "arrival_s", "service", "tenant", "session_id", "status").rows() == [
        ("o-2", 0.25, "gpt-4o", "u-1", "s-1", "ok"),
        ("o-3", 4.0, "claude", None, None, "ok"),
        ("o-4", 5.0, "claude", None, None, "ok"),
        ("o-4", 5.0, "claude", None, None, "ok"),
        ("o-5", 6.0, "gpt-4o", None, None, "failed"),
        ("o-6", 7.0, "gpt-4o", None, None, "incomplete"),
    ]
    assert trace.table("input_tokens", "output_tokens", "cached_tokens", "max_tokens").rows() == [
        (472, 58, 272, 256),
        (105, 7, 90, None),
        (100, 7, 90, None),
        (100, 9, 90, None),
        (None, None, None, None),
        (None, None, None, None),
    ]
    assert trace.table("ttft_s", "e2e_s").rows() == [
        (0.489, 3.333),
        (None, 1.0),
        (None, 1.0),
        (None, 1.5),
        (None, 30.0),
        (None, None),
    ]
    assert (trace.meta.rows_read, trace.meta.rows_kept, trace.meta.rows_set_aside) == (8, 6, {OTHER: 2})
    assert "1 row has the id of another, as an export writes a request again: kept" in trace.meta.notes


def test_older_exports_state_tokens_in_columns(read, tmp_path):
    head = "id,type,traceId,startTime,endTime,completionStartTime,model,level,promptTokens,completionTokens\n"
    path = tmp_path / "old.csv"
    path.write_text(head + "a,GENERATION,t,2024-05-01T10:00:00Z,2024-05-01T10:00:02Z,,gpt-4,DEFAULT,12,34\n")
    table = read(path).table("input_tokens", "output_tokens", "e2e_s", "ttft_s")
    assert table.rows() == [(12, 34, 2.0, None)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usageDetails": {"input": -5, "output": 1}}, "input_tokens negative"),
        ({"usageDetails": {"input": 1, "output": 1.5}}, "output_tokens not whole"),
        ({"usageDetails": {"input": True, "output": 1}}, "input_tokens missing"),
        ({"usageDetails": {"input": "9" * 400, "output": 1}}, "input_tokens not finite"),
        ({"usageDetails": [1]}, "input_tokens missing"),
        ({"startTime": None}, "arrival_s missing"),
        ({"endTime": "2026-11-01T09:00:00Z"}, "e2e_s negative"),
        ({"completionStartTime": "soon"}, "ttft_s not a number"),
        ({"type": None}, OTHER),
    ],
)
def test_what_does_not_fit_is_set_aside(read, tmp_path, change, reason):
    good = json.loads(JSON.read_text())[2]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([good, good | change]))
    assert read(path).meta.rows_set_aside == {reason: 1}


def test_a_file_of_something_else_is_refused_by_what_it_lacks(read, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("id,type,value\n1,GENERATION,2\n")
    with pytest.raises(UserError, match="missing columns traceId, startTime, completionStartTime"):
        read(path, format="langfuse")


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ('{"input": 7, "output": 2}', (7, 2)),
        ('{"input": 7, "output": 18446744073709551617}', (7, 2.0**64)),
        ('{"input": 7, "output": 2' + "0" * 50 + "}", (7, 2e50)),
        ('{"input": 7, "output": true}', (7, None)),
        ('{"input": 7, ', (None, None)),
        ("[" * 100_000, (None, None)),
        ("3", (None, None)),
    ],
)
def test_usage_of_any_text(usage, tokens):
    assert _sum(usage)[:2] == tokens

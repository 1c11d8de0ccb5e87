"""Nested formats are read by a fast parser: what it would round, drop or refuse comes out as it was written."""

import json

import numpy as np
import polars as pl
import pytest

from lmaas.analysis.formats import unfold
from lmaas.analysis.formats.source import Source
from lmaas.analysis.formats.weka import Weka
from lmaas.analysis.ingest import ingest
from lmaas.analysis.ingest_texts import put_texts
from lmaas.analysis.recognition import recognise
from lmaas.analysis.workspace import Workspace

REQUEST = {
    "request_id": "r-0", "model": "m", "input_tokens": 20, "output_tokens": 5, "request_received_ms": 1_800_000_000_000,
    "replay": {"trace_block_size": 16, "input_length": 20, "input_sequence_hashes": [2**64 - 1, 7]},
}  # fmt: skip


def line(**changed) -> str:
    request = REQUEST | changed
    return json.dumps({"schema": "dynamo.request.trace.v1", "event_type": "request_end", "request": request})


def hashes(*values) -> str:
    return line(replay={**REQUEST["replay"], "input_sequence_hashes": list(values)})


def read(lines, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(lines))
    return ingest(path, Workspace.open(tmp_path / "home"), say=lambda _: None)


def rejects(trace) -> list[tuple]:
    return pl.read_parquet(trace.path.with_name("rejects.parquet")).select("source_row", "reason", "text").rows()


@pytest.mark.parametrize("number", [2**64 - 1, 2**64, 2**64 + 2**11 + 1, 10**38 + 1, -(2**63) - 1])
def test_whole_numbers_of_any_size_are_read_exactly(tmp_path, number):
    trace = read([line(request_id=number), line()], tmp_path)
    assert trace.table("request_id")["request_id"].to_list() == [str(number), "r-0"]
    assert trace.table("block_hashes")["block_hashes"].to_list() == [[2**64 - 1, 7]] * 2


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("1e999", "output_tokens not finite"),
        ("-Infinity", "output_tokens not finite"),
        ("NaN", "output_tokens missing"),
        ("18446744073709551616", "output_tokens above 4294967295"),
        ("[3]", "output_tokens not a number"),
        ("9" * 5000, "output_tokens"),
    ],
)
def test_numbers_that_are_none_keep_their_reason_and_text(tmp_path, written, reason):
    bad = line(output_tokens=0).replace('"output_tokens": 0', f'"output_tokens": {written}')
    ((row, told, text),) = rejects(read([line(), bad, line()], tmp_path))
    assert (row, told.startswith(reason)) == (1, True)
    assert f'"output_tokens": {written[:20]}' in text or written in ("1e999", "9" * 5000)


@pytest.mark.parametrize("bad", [2**64, -1, 1.5, True, None, [1]])
def test_hashes_that_are_none_cost_their_row_alone(tmp_path, bad):
    trace = read([line(request_id="a"), hashes(bad, 7), hashes(1, 2), line(replay=None)], tmp_path)
    assert [row for row, _, _ in rejects(trace)] == [1]
    found = trace.table("request_id", "block_hashes")["block_hashes"].to_list()
    assert found == [[2**64 - 1, 7], [1, 2], None]


def test_what_is_no_utf_8_or_no_json_is_set_aside_by_itself(tmp_path):
    lines = [line(), '{"request": ', line(model="\ud800"), "[1]", "9" * 30]
    trace = read(lines, tmp_path)
    assert trace.meta.rows_kept == 2
    assert [(row, reason) for row, reason, _ in rejects(trace)] == [(k, "malformed line") for k in (1, 3, 4)]
    assert [text for *_, text in rejects(trace)] == ["{… (12 characters)", lines[3], lines[4]]  # of prose, the length


def test_rows_are_handed_on_by_their_number_not_by_that_of_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(unfold, "ROWS", 10)
    requests = [{"t": k, "type": "s", "model": "m", "in": 128, "out": 5, "hash_ids": [k + 1, k + 2]} for k in range(25)]
    session = {"block_size": 64, "requests": requests}
    path = tmp_path / "w.jsonl"
    path.write_text("\n".join(json.dumps({"id": f"s{k}", **session}) for k in range(3)))
    _, source, reading = recognise(Source.open(path), None, {}, None)
    frames = list(source.frames(reading.source_columns(), "block_hashes"))
    assert [frame.height for frame in frames] == [25, 25, 25, 0]
    assert pl.concat(frames)["block_hashes"].n_unique() == 75
    assert sum(map(len, source.lines())) == 75


def test_a_long_line_of_requests_is_hashed_without_lists():
    (record,) = Weka().unfold({"id": "s", "requests": [{"t": 0, "in": 64, "out": 1, "hash_ids": [1, 2**64 - 1]}]})
    assert isinstance(record.fields["block_hashes"], np.ndarray)
    assert json.loads(unfold._line(record))["block_hashes"] == record.fields["block_hashes"].tolist()


def test_lines_of_rejects_are_put_in_many_parts(tmp_path, monkeypatch):
    from lmaas.analysis.formats import careful

    monkeypatch.setattr(careful, "BATCH_LINES", 3)
    monkeypatch.setattr("lmaas.analysis.formats.source.BLOCK_BYTES", 64)
    rows = [f"{k},{-1 if k % 4 else 9},{k}" for k in range(50)]
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows))
    trace = ingest(path, Workspace.open(tmp_path / "home"), say=lambda _: None)
    found = rejects(trace)
    assert [(row, text) for row, _, text in found] == [(k, rows[k]) for k in range(50) if k % 4]
    assert {reason for _, reason, _ in found} == {"input_tokens negative"}
    again = trace.path.with_name("rejects.parquet")
    put_texts(Source.open(path), 49, again, whole=True)  # rows that are not lines: what was read stays
    assert rejects(trace) == found

"""GuideLLM's report: requests by how they ended, both layouts, several benchmarks, and reports without requests."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.prose import without_prose

FIXTURE = Path(__file__).parent / "fixtures" / "guidellm.json"
REPORT = json.loads(FIXTURE.read_text())


def with_requests(**lists):
    return json.dumps({"benchmarks": [{"requests": lists}]})


def test_what_requests_become_in_both_layouts(read):
    trace = read(FIXTURE)
    assert trace.meta.epoch == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert (trace.meta.epoch_kind, trace.meta.time_unit) == ("known", "epoch-s")
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (5, 5)
    assert trace.table("request_id", "arrival_s", "service", "session_id", "turn").rows() == [
        ("g-1", 0.25, "llama-3-8b", "talk-1", 0),
        ("g-2", 1.25, "llama-3-8b", "talk-1", 1),
        ("g-3", 2.5, "llama-3-8b", None, None),
        ("g-4", 3.5, "llama-3-8b", None, None),
        ("g-5", 100.5, "mistral-7b", None, None),
    ]
    assert "2 benchmarks one after another, each at a rate of its own" in trace.meta.notes


def test_how_requests_ended_and_what_was_seen_of_them(read):
    assert read(FIXTURE).table("input_tokens", "output_tokens", "ttft_s", "e2e_s", "status").rows() == [
        (128, 9, 0.25, 1.0, "ok"),
        (64, 8, 0.125, 1.0, "ok"),
        (32, None, None, None, "failed"),
        (96, 3, 0.25, 0.5, "incomplete"),
        (10, 2, 0.25, 0.75, "ok"),
    ]


def test_a_report_on_one_line_and_packed_is_the_same(read, tmp_path):
    packed = tmp_path / "benchmarks.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(REPORT).encode()))
    assert read(packed).table().equals(read(FIXTURE).table())


@pytest.mark.parametrize("lists", [{"successful": [], "errored": [], "incomplete": []}, {"successful": None}])
def test_a_report_without_its_requests_is_refused(read, lists):
    with pytest.raises(UserError, match="distributions of 1 benchmarks, none of their requests") as caught:
        read(with_requests(**lists))
    assert caught.value.code == Exit.INPUT


def test_requests_that_are_not_what_they_should_be_are_set_aside_alone(read):
    good = REPORT["benchmarks"][0]["requests"]["successful"][0]
    timings = {**good["info"]["timings"], "first_token_iteration": "soon"}
    bad = [
        7,
        {**good, "info": []},
        {**good, "info": 5},
        {**good, "info": {"timings": timings}},
        {**good, "prompt_tokens": None},
        {**good, "info": {"timings": {**good["info"]["timings"], "last_token_iteration": 1800000000.0}}},
    ]
    trace = read(with_requests(successful=[good, *bad], errored=[{**good, "request_args": "{cut", "output_tokens": 0}]))
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (8, 2)
    assert trace.meta.rows_set_aside == {
        "malformed record": 2,
        "arrival_s missing": 1,
        "e2e_s negative": 1,
        "input_tokens missing": 1,
        "ttft_s not a number": 1,
    }
    assert trace.table("service", "output_tokens", "status").rows() == [
        ("llama-3-8b", 9, "ok"),
        ("default", None, "failed"),
    ]
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet")).sort("source_row")
    assert [json.loads(text) for text in rejects["text"]] == [
        json.loads(without_prose(json.dumps(part))) for part in bad
    ]


def test_what_is_not_read_of_a_report_is_set_aside(read):
    report = {"benchmarks": [*REPORT["benchmarks"], {"requests": None}, "none"]}
    report["benchmarks"][0] = {**report["benchmarks"][0]}
    report["benchmarks"][0]["requests"] = {**report["benchmarks"][0]["requests"], "timed_out": [{"request_id": "x"}]}
    trace = read(json.dumps(report))
    assert trace.meta.rows_set_aside == {"benchmark without requests": 2, "request of an unknown outcome": 1}
    assert trace.meta.rows_kept == 5

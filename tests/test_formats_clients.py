"""What other benchmark clients write: GenAI-Perf's profile, and the multi-round QA benchmark's CSV."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trace_data import rejected

from lmaas.analysis.formats.prose import without_prose

FIXTURES = Path(__file__).parent / "fixtures"
PROFILE = FIXTURES / "genai-perf.json"
ROUNDS = FIXTURES / "multi-round-qa.csv"
EPOCH = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)


def test_genai_perf_requests_by_how_they_ended(read):
    trace = read(PROFILE)
    assert (trace.meta.format, trace.meta.epoch, trace.meta.time_unit) == ("genai-perf", EPOCH, "epoch-ns")
    assert trace.table("arrival_s", "service", "session_id", "max_tokens", "status").rows() == [
        (0.250000001, "llama-3-8b", "s-1", 32, "ok"),
        (1.0, "llama-3-8b", None, 32, "ok"),
        (2.0, "llama-3-8b", None, 32, "failed"),
        (3.0, "llama-3-8b", None, 32, "incomplete"),
    ]
    assert trace.table("input_tokens", "output_tokens", "cached_tokens").rows() == [
        (120, 3, 64),
        (9, 2, None),
        (None, None, None),
        (None, None, None),
    ]


def test_genai_perf_times_are_of_text_that_came(read):
    """Not of the event that only names the role, nor of the one that only counts; the first only of a stream."""
    assert read(PROFILE).table("ttft_s", "e2e_s").rows() == [(0.5, 1.0), (None, 0.5), (None, None), (None, None)]


def test_genai_perf_answers_without_counts_are_set_aside(read):
    trace = read(PROFILE)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (5, 4)
    assert trace.meta.rows_set_aside == {"answer without token counts (usage)": 1}
    assert [json.loads(text)["timestamp"] for text in rejected(trace)] == [1800000004000000000]


def test_genai_perf_requests_that_do_not_fit_are_set_aside_alone(read):
    profile = json.loads(PROFILE.read_text())
    good = profile["experiments"][0]["requests"][0]
    bad = [
        5,
        {**good, "response_timestamps": 7},
        {**good, "response_outputs": ["text"]},
        {**good, "timestamp": "soon"},
        {**good, "timestamp": 1900000000000000000},
    ]
    odd = {**good, "request_inputs": {"payload": "{cut"}}
    trace = read(json.dumps({"experiments": [5, {"requests": None}, {"requests": [good, *bad, odd]}]}))
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (7, 2)
    assert trace.meta.rows_set_aside == {
        "malformed record": 3,
        "arrival_s not a number since 1970": 1,
        "ttft_s negative": 1,
    }
    assert trace.table("service")["service"].to_list() == ["llama-3-8b", "default"]
    assert rejected(trace) == [without_prose(json.dumps(value)) for value in bad]


def test_multi_round_qa(read):
    trace = read(ROUNDS)
    assert (trace.meta.format, trace.meta.epoch, trace.meta.rows_kept) == ("multi-round-qa", EPOCH, 3)
    assert trace.table("arrival_s", "session_id", "turn", "input_tokens", "output_tokens").rows() == [
        (0.25, "3", 1, 1021, 100),
        (1.5, "4", 1, 40, 7),
        (4.0, "3", 2, 1140, 100),
    ]
    assert trace.table("ttft_s", "e2e_s").rows() == [(0.5, 1.75), (0.25, 0.5), (0.125, 1.0)]


def test_multi_round_qa_rows_that_do_not_fit_are_set_aside(read):
    head, good = ROUNDS.read_text().splitlines()[:2]
    bad = ["1.5,1.0,0.1,0.1,1,1,1800000001,1800000002", "1,1,-1,0.1,1,1,1800000001,1800000002", "1,1,0.1,1,1,1,,5"]
    trace = read("\n".join([head, good, *bad]))
    assert trace.meta.rows_set_aside == {"arrival_s missing": 1, "input_tokens not whole": 1, "ttft_s negative": 1}
    assert rejected(trace) == bad


@pytest.mark.parametrize("path", [PROFILE, ROUNDS], ids=lambda path: path.name)
def test_packed_files_are_the_same_trace(read, path):
    assert read(gzip.compress(path.read_bytes())).table().equals(read(path).table())

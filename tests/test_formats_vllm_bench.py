"""Results of `vllm bench serve`: parallel arrays as requests, several runs, and runs that hold no request."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from lmaas.analysis.errors import Exit, UserError

FIXTURE = Path(__file__).parent / "fixtures" / "vllm-bench.json"
RUN, AGAIN = map(json.loads, FIXTURE.read_text().splitlines())
ARRAYS = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "generated_texts", "errors")
SUMMARY = {key: value for key, value in RUN.items() if key not in ARRAYS}


def test_what_the_arrays_become(read):
    trace = read(FIXTURE)
    assert (trace.meta.epoch_kind, trace.meta.time_unit) == ("relative", "s")
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (5, 5)
    assert trace.table("arrival_s", "service", "input_tokens", "output_tokens", "status").rows() == [
        (4100.5, "llama-3-8b", 500, 3, "ok"),
        (4100.75, "llama-3-8b", 200, 1, "ok"),
        (4101.0, "llama-3-8b", 300, None, "failed"),
        (4101.25, "llama-3-8b", 40, None, "failed"),  # no text of an error, and never a token
        (4400.0, "llama-3-8b", 64, 2, "ok"),
    ]


def test_latencies_are_those_of_the_last_token_and_zeros_of_failures_unknown(read):
    trace = read(FIXTURE)
    assert trace.table("ttft_s", "e2e_s").rows() == [
        (0.25, 0.5),
        (0.5, 0.5),
        (None, None),
        (None, None),
        (0.125, 0.25),
    ]
    assert trace.table("queue_s")["queue_s"].to_list() == [None] * 5  # queue_times are the client's


@pytest.mark.parametrize("layout", [{"indent": 2}, {}])
def test_one_run_in_any_layout_and_packed(read, tmp_path, layout):
    packed = tmp_path / "result.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(RUN, **layout).encode()))
    trace = read(packed)
    assert trace.table("arrival_s")["arrival_s"].to_list() == RUN["start_times"]
    assert not [note for note in trace.meta.notes if "runs" in note]


def test_several_runs_are_one_after_another_or_refused(read):
    assert "2 runs one after another, by the clock of the machine that sent them" in read(FIXTURE).meta.notes
    with pytest.raises(UserError, match="runs that overlap in time"):
        read("\n".join(map(json.dumps, [AGAIN, RUN])))


def test_a_run_without_arrays_beside_others_is_set_aside(read):
    trace = read("\n".join(map(json.dumps, [SUMMARY, RUN])))
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (5, 4)
    assert trace.meta.rows_set_aside == {"summary of a run, no request": 1}
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet"))
    assert [json.loads(text) for text in rejects["text"]] == [SUMMARY]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (SUMMARY, "no request of its own.*--save-detailed"),
        ({key: value for key, value in RUN.items() if key != "start_times"}, "not when each was sent"),
        ({**RUN, "start_times": None}, "not when each was sent"),
    ],
)
def test_what_cannot_be_a_trace_says_what_it_gives(read, run, words):
    with pytest.raises(UserError, match=words) as caught:
        read(json.dumps(run))
    assert caught.value.code == Exit.INPUT


def test_arrays_that_do_not_fit_are_set_aside_row_by_row(read):
    odd = {
        **RUN,
        "start_times": [4100.5, None, 4101.0],
        "input_lens": [500, 200, "many", 40],
        "output_lens": [3, 1, -1],
        "itls": None,
        "errors": ["", "", ""],
    }
    trace = read(json.dumps(odd))
    assert trace.meta.rows_read == 4
    assert trace.meta.rows_set_aside == {"arrival_s missing": 2, "input_tokens not a number": 1}
    assert trace.table("e2e_s")["e2e_s"].to_list() == [None]
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet"))
    assert not [text for text in rejects["text"] if "generated" in text]


@pytest.mark.parametrize("gaps", [["soon"], [None], [1e308, 1e308], ["1"]])
def test_gaps_that_are_no_numbers_spoil_one_row_only(read, gaps):
    trace = read(json.dumps({**RUN, "itls": [[0.125, 0.125], gaps, [], []]}))
    assert trace.meta.rows_set_aside == {"e2e_s not a number": 1}
    assert trace.meta.rows_kept == 3

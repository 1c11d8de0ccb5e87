"""What measures single requests: inference-perf's report, and vLLM's own statistics with two clocks in a row."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from trace_data import rejected

from lmaas.analysis.formats.prose import without_prose

FIXTURES = Path(__file__).parent / "fixtures"
REPORT = FIXTURES / "inference-perf.json"
MEASURED = FIXTURES / "vllm-requests.jsonl"


def test_inference_perf_old_and_new_and_failed(read):
    trace = read(REPORT)
    assert (trace.meta.format, trace.meta.epoch_kind, trace.meta.time_unit) == ("inference-perf", "relative", "s")
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (3, 3)
    assert trace.table("arrival_s", "service", "max_tokens", "status").rows() == [
        (9000.5, "llama-3-8b", 32, "ok"),
        (9000.75, "tuned", 32, "ok"),
        (9002.0, "sql", None, "failed"),
    ]
    # the server's own counts where it gave them
    assert trace.table("input_tokens", "output_tokens", "cached_tokens").rows() == [
        (104, 4, 64),
        (50, 2, None),
        (70, None, None),
    ]
    assert trace.table("ttft_s", "e2e_s").rows() == [(0.25, 1.0), (None, 0.5), (None, None)]


def test_inference_perf_on_one_line_and_packed(read, tmp_path):
    packed = tmp_path / "per_request_lifecycle_metrics.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(json.loads(REPORT.read_text())).encode()))
    assert read(packed).table().equals(read(REPORT).table())


def test_inference_perf_elements_that_do_not_fit_are_set_aside(read):
    good = json.loads(REPORT.read_text())[0]
    bad = [
        {**good, "info": 5},
        {**good, "start_time": None},
        {**good, "info": {**good["info"], "response_metrics": {"output_token_times": ["soon"], "output_tokens": 1}}},
        {**good, "info": None},
        {key: value for key, value in good.items() if key != "request"},
    ]
    trace = read(json.dumps([good, *bad]))
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (6, 1)
    assert trace.meta.rows_set_aside == {
        "malformed record": 2,
        "arrival_s missing": 1,
        "input_tokens missing": 1,
        "ttft_s not a number": 1,
    }
    assert rejected(trace) == [without_prose(json.dumps(part)) for part in bad]


def test_vllm_statistics_never_mix_their_two_clocks(read):
    trace = read(MEASURED)
    assert trace.meta.format == "vllm-requests"
    assert trace.meta.epoch == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (3, 3)
    assert trace.table("request_id", "arrival_s", "input_tokens", "output_tokens").rows() == [
        ("m-0", 0.25, 300, 5),
        ("m-1", 1.5, 40, 1),
        ("m-2", 2.0, 7, 0),
    ]
    assert trace.table("queue_s", "ttft_s", "e2e_s").rows() == [
        (0.0, 0.25, 1.0),
        (0.25, 0.5, 0.5),
        (None, None, None),  # times of 0 never came
    ]


def test_vllm_statistics_that_cannot_be_are_set_aside_with_their_line(read):
    good = json.loads(MEASURED.read_text().splitlines()[0])
    bad = [{**good, "first_token_ts": "soon"}, {**good, "last_token_ts": 4000.0}, {**good, "arrival_time": None}]
    trace = read("\n".join(map(json.dumps, [good, *bad])))
    assert trace.meta.rows_set_aside == {"arrival_s missing": 1, "e2e_s negative": 1, "ttft_s not a number": 1}
    assert [json.loads(text) for text in rejected(trace)] == bad


@pytest.mark.parametrize(
    ("run", "tokens", "mean_ttft_s"),
    [("RTXPRO6000_Llama-3.1-8B", (257_239, 195_753), 7.10), ("RTXPRO6000_Qwen3-32B", (258_691, 199_486), 36.9)],
)
def test_vllm_measured_runs(shared, read, run, tokens, mean_ttft_s):
    path = shared / "traces" / "vllm-measured" / run / "requests.jsonl"
    if not path.is_file():
        pytest.skip("no measured runs beside the checkout (../shared/traces/vllm-measured)")
    trace = read(path)
    assert (trace.meta.rows_read, trace.meta.rows_kept, trace.meta.epoch_kind) == (300, 300, "known")
    rows = trace.table("input_tokens", "output_tokens", "queue_s", "ttft_s", "e2e_s")
    assert (rows["input_tokens"].sum(), rows["output_tokens"].sum()) == tokens
    assert rows["ttft_s"].mean() == pytest.approx(mean_ttft_s, rel=5e-3)
    assert rows.filter((pl.col("queue_s") > pl.col("ttft_s")) | (pl.col("ttft_s") > pl.col("e2e_s"))).is_empty()

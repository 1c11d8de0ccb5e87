"""Sources that count requests without telling any: recognised by their shape and refused; formats never are."""

import gzip
import json
from pathlib import Path

import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats import aggregates
from lmaas.analysis.formats.source import Source
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main

FIXTURES = Path(__file__).parent / "fixtures"
SCRAPE = """# HELP vllm:num_requests_running Number of requests in model execution batches, "all" of them.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 3.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="a{b}, c"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="a{b}, c"} 1.2e+04 1800000000000
process_start_time_seconds 1.8e+09
"""
SERIES = {
    "metric": {"__name__": "vllm:prompt_tokens_total"},
    "values": [[1800000000.123, "12"], [1800000015.123, "40"]],
}
QUERY = {"status": "success", "data": {"resultType": "matrix", "result": [SERIES]}}
COUNTS = {"object": "organization.usage.completions.result", "input_tokens": 5000, "output_tokens": 1000}
BUCKET = {"object": "bucket", "start_time": 1800000000, "end_time": 1800086400, "results": [COUNTS]}
USAGE = {"object": "page", "data": [BUCKET], "has_more": False, "next_page": None}
DAY = {"date": "2027-01-15", "model": "m", "requests": 5, "prompt_tokens": 50, "completion_tokens": 125, "usage": 0.015}
SDK_DAY = {"date": "2027-01-15", "model": "m", "requests": 5, "promptTokens": 50, "completionTokens": 125}
LENGTHS = {"0": {"input_tokens": "{}", "output_tokens": "{}"}, "21600": {"input_tokens": "{39: 0.5, 40: 0.5}"}}
SUMMARY = {"load_summary": {"count": 5}, "successes": {"count": 5, "latency": {}}, "failures": {"count": 0}}
CASES = {
    "scrape": (SCRAPE, "a Prometheus scrape"),
    "scrape without types": (SCRAPE.split("\n")[2] + "\n", "a Prometheus scrape"),
    "range": (json.dumps(QUERY), "the answer to a Prometheus query"),
    "range over lines": (json.dumps(QUERY, indent=2), "the answer to a Prometheus query"),
    "its series alone": (json.dumps([SERIES, SERIES]), "the answer to a Prometheus query"),
    "usage": (json.dumps(USAGE), "OpenAI's usage API"),
    "its buckets alone": (json.dumps(BUCKET) + "\n" + json.dumps(BUCKET), "OpenAI's usage API"),
    "activity": (",".join(DAY) + "\n" + ",".join(map(str, DAY.values())) + "\n", "OpenRouter's activity"),
    "activity, by key": (
        "date,model,model_permaslug,endpoint_id,provider_name,usage,byok_usage_inference,requests,prompt_tokens,"
        "completion_tokens,reasoning_tokens\n2027-01-15,m,m,e,p,0.1,0,5,50,125,25\n",
        "Its generations, one a request, can be read",
    ),
    "activity of the SDK": (json.dumps({"data": [SDK_DAY]}), "OpenRouter's activity"),
    "activity of the API": (json.dumps({"data": [DAY]}), "OpenRouter's activity"),
    "engine": (
        "t,prompt_throughput,gen_throughput,running,waiting,kv_cache_pct\n1,9,1,9,0,0\n",
        "an engine's throughput",
    ),
    "stage": (json.dumps(SUMMARY, indent=1), "inference-perf's summary"),
    "statistics": (json.dumps({"request_throughput": {"unit": "requests/sec", "avg": 4.5}}), "AIPerf's summary"),
    "clients": ("0,0.105,0.925,Gamma,1.168,8.056\n600,0,0,,0,0\n", "'lmaas synth --servegen'"),
    "an idle client": ("0,0,0,,0,0\n", "'lmaas synth --servegen'"),
    "lengths of clients": (json.dumps(LENGTHS), "'lmaas synth --servegen'"),
}


@pytest.mark.parametrize(("text", "words"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_holds_no_request_is_refused_with_what_it_gives(tmp_path, text, words, pack):
    path = tmp_path / "source"
    path.write_bytes(pack(text.encode()))
    with pytest.raises(UserError, match=r"It gives .* but no request's arrival and lengths") as caught:
        ingest(path, Workspace.open(tmp_path / "home"), say=lambda _: None)
    assert caught.value.code == Exit.INPUT
    assert words in str(caught.value)


def test_the_command_ends_in_4_and_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    path = tmp_path / "metrics.txt"
    path.write_text(SCRAPE)
    assert main(["ingest", str(path)]) == 4
    error = capsys.readouterr().err
    assert "metrics.txt: a Prometheus scrape." in error and "Traceback" not in error


@pytest.mark.parametrize(
    "path", sorted(FIXTURES.glob("*.json*")) + sorted(FIXTURES.glob("*.csv")), ids=lambda p: p.name
)
def test_no_trace_is_taken_for_an_aggregate(path):
    source = Source.open(path)  # opened, so not refused as text
    aggregates.refuse(source.name, source.columns, source.samples)
    assert source.columns


@pytest.mark.parametrize(
    "text",
    [
        "a 1\n",  # a header of one column
        "# a comment\n",
        "arrival_s input_tokens\n1 2\n",
        "0,1,2,3,4,5\n",
        "t,rate,cv,kind,a,b\n0,1,2,Gamma,3,4\n",
        "x{y} z\n",
    ],
)
def test_other_text_is_not_refused_as_an_aggregate(text):
    aggregates.refuse_text("x", text)
    aggregates.refuse("x", text.split("\n")[0].split(","), [])
    assert not aggregates.SAMPLE.fullmatch("x{y} z")


@pytest.mark.parametrize("value", [{}, {"data": None}, {"data": [3]}, {"0": 1}, {"object": "page"}, {"metric": {}}])
def test_odd_objects_are_not_refused_as_aggregates(value):
    aggregates.refuse("x", list(value), [value])
    assert not any(fits(value) for fits, _ in aggregates.SHAPES)


def test_columns_that_the_user_maps_are_read(tmp_path):
    path = tmp_path / "activity.csv"
    path.write_text("date,model,requests,prompt_tokens,completion_tokens\n2027-01-15,m,1,50,125\n")
    mapping = {"arrival_s": "date", "input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
    home = Workspace.open(tmp_path / "home")
    assert ingest(path, home, mapping=mapping, time_unit="datetime", say=lambda _: None).meta.rows_kept == 1

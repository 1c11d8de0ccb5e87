"""`validate`: each mistake in how a trace was written is found, with what to do; nothing is stored."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.asides import NO_REQUESTS
from lmaas.analysis.ingest import ingest
from lmaas.analysis.validate import validate
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = Path(__file__).parents[1] / "analysis" / "formats"
HEAD = "arrival_s,input_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def judge(tmp_path):
    """Validate text as a file; the finding that holds `words`, or None."""

    def _judge(text: str, words: str, **options):
        (tmp_path / "t.csv").write_text(text)
        found = validate(tmp_path / "t.csv", Workspace.open(tmp_path / "home"), say=lambda _: None, **options)
        assert not (tmp_path / "home").exists()
        assert not found.stored
        assert found.quality.findings == tuple(finding.text for finding in found.quality.details)
        return next((finding for finding in found.quality.details if words in finding.text), None)

    return _judge


def rows(times, more: str = "") -> str:
    return "".join(f"{at},{100 + k},{10 + k % 7}{more}\n" for k, at in enumerate(times))


def local(start: datetime, minutes) -> str:
    stamps = ((start + timedelta(minutes=m)).isoformat(" ") for m in minutes)
    return AZURE + rows(stamps)


GOOD = HEAD + rows(range(300))


@pytest.mark.parametrize("words", ["negative", "since 1970", "clock", "earlier", "repeat", "an hour"])
def test_a_plain_trace_has_none_of_it(judge, words):
    assert judge(GOOD, words) is None


def test_sentinels_are_told_with_what_to_write_instead(judge):
    found = judge(GOOD + "300,5,-1\n301,-1,-1\n", "negative values")
    assert found.text == "negative values: 1 input_tokens negative, 1 output_tokens negative"
    assert (found.verdict, "status" in found.hint) == ("FAIR", True)


def test_zero_tokens_may_be_failures(judge):
    found = judge(GOOD + "300,0,0\n" * 9, "0 output tokens")
    assert "say so in a column status" in found.hint


def test_seconds_since_1970_read_as_relative_are_told_and_their_unit_named(judge):
    found = judge(HEAD + rows(range(1_700_000_000, 1_700_000_300)), "since 1970")
    assert found.text == "times begin at 1,700,000,000 s: seconds since 1970, read as relative"
    assert "--time-unit epoch-s" in found.hint
    mapped = {"mapping": {"arrival_s": "arrival_s"}, "time_unit": "ms"}
    assert "epoch-ms" in judge(HEAD + rows(range(1_700_000_000_000, 1_700_000_300_000, 1000)), "since", **mapped).hint
    right = {"mapping": {"arrival_s": "arrival_s"}, "time_unit": "epoch-s"}
    assert judge(HEAD + rows(range(1_700_000_000, 1_700_000_300)), "since 1970", **right) is None


def test_milliseconds_since_1970_read_as_seconds_are_refused_with_the_unit(judge):
    with pytest.raises(UserError, match=r"arrival_s too large \(since 1970\? .*epoch-ms"):
        judge(HEAD + rows(range(1_700_000_000_000, 1_700_000_000_300)), "")


def test_two_clocks_in_one_column_or_in_one_difference(judge):
    assert judge(HEAD + rows([5, 6, 1_700_000_000]), "two clocks in one column").verdict == "POOR"
    latency = "arrival_s,input_tokens,output_tokens,e2e_s,ttft_s\n"
    assert judge(latency + rows(range(9), ",1699999000.5,1"), "a wall and a monotonic clock").verdict == "POOR"
    assert judge(latency + rows(range(9), ",1,2"), "9 requests have ttft_s above e2e_s").verdict == "FAIR"
    assert judge(latency + rows(range(9), ",2,1"), "clock") is None


def test_rows_out_of_order_are_counted_and_completion_order_suspected(judge):
    few = [*range(100), 95.5, *range(101, 300)]
    found = judge(HEAD + rows(few), "earlier")
    assert (found.verdict, found.text) == ("GOOD", "1 row is earlier than the one before, by up to 3.5 s: sorted")
    many = [at + 5 * (at % 2) for at in range(300)]
    assert "order of completion" in judge(HEAD + rows(many), "earlier").hint


def test_clocks_put_back_double_an_hour_of_local_time(judge):
    start = datetime(2026, 10, 25, 0, 0)
    minutes = [*range(180), *range(120, 300)]
    found = judge(local(start, minutes), "go back by an hour on 2026-10-25")
    assert (found.verdict, "UTC" in found.hint) == ("FAIR", True)
    zoned = local(start, minutes).replace(":00,", ":00+00:00,")
    assert judge(zoned, "hour on") is None


def test_clocks_put_forward_leave_an_hour_out_on_a_sunday(judge):
    minutes = [*range(120), *range(180, 400)]
    assert judge(local(datetime(2026, 3, 29), minutes), "an hour is missing on 2026-03-29").verdict == "FAIR"
    assert judge(local(datetime(2026, 3, 28), minutes), "an hour is missing") is None
    assert judge(local(datetime(2026, 6, 28), minutes), "an hour is missing") is None


def test_repeated_rows_are_told(judge):
    assert judge(GOOD + "299,399,15\n", "repeat").text.startswith("1 row repeats another")
    ids = "request_id,arrival_s,input_tokens,output_tokens\n" + "".join(f"r{k},{k // 2},5,5\n" for k in range(60))
    assert "different ids" in judge(ids, "30 rows repeat").hint


def test_rows_of_one_request_id_are_told(judge):
    head = "request_id,arrival_s,input_tokens,output_tokens\n"
    once = judge(head + "".join(f"r{k},{k},5,{k}\n" for k in range(60)), "request id")
    assert once is None
    again = judge(head + "".join(f"r{k // 2},{k},5,{k}\n" for k in range(60)), "request id")
    assert (again.verdict, again.text.split(":")[0]) == ("FAIR", "30 rows have the request id of another")


def test_a_status_that_is_no_word_of_ours_is_told_with_those_that_are(judge):
    rows = "".join(f"{k},5,5,{'done' if k % 2 else 'ok'}\n" for k in range(60))
    assert (
        "failed, cancelled, rejected" in judge("arrival_s,input_tokens,output_tokens,status\n" + rows, "set aside").hint
    )


def test_cap_pile_ups_and_coarse_times_say_what_to_do(judge):
    capped = HEAD + "".join(f"{k},{min(100 + k, 250)},5{k % 9}\n" for k in range(300))
    assert "limit cut them" in judge(capped, "input_tokens at 250").hint
    assert "millisecond" in judge(capped, "steps of 1 s").hint


def test_where_a_file_begins_no_row_is_early(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(GOOD)
    found = validate(tmp_path / "?.csv", Workspace.open(tmp_path / "home"), say=lambda _: None)
    assert not any("earlier" in text for text in found.quality.findings)


def test_a_stored_trace_is_judged_as_it_is_stored(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    workspace = Workspace.open(tmp_path / "home")
    fresh = validate(tmp_path / "t.csv", workspace, say=lambda _: None)
    ingest(tmp_path / "t.csv", workspace, say=lambda _: None)
    for argument in (tmp_path / "t.csv", "t"):
        found = validate(argument, workspace, say=lambda _: None)
        assert (found.stored, found.quality, found.trace) == (True, fresh.quality, fresh.trace)


def test_the_command_ends_in_4_where_the_verdict_is_poor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / "poor.csv").write_text(HEAD + rows([5, 6, 1_700_000_000]))
    (tmp_path / "none.csv").write_text("hello\n1\n")
    assert main(["validate", "good.csv"]) == Exit.OK
    assert "FAIR: all 300 rows read are in the table." in capsys.readouterr().out
    assert main(["validate", "poor.csv", "--json"]) == Exit.INPUT
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["exit_code"], answer["verdict"]) == (False, 4, "POOR")
    assert {"verdict", "text", "hint"} == set(answer["findings"][0])
    assert answer["trace"]["rows_read"] == 3
    assert main(["validate", "none.csv", "--json"]) == Exit.INPUT
    assert "missing columns" in json.loads(capsys.readouterr().out)["error"]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "name", ["otlp.jsonl", "langfuse.csv", "dynamo.jsonl", "envoy.jsonl", "litellm.csv", "aiperf.jsonl"]
)
def test_what_a_log_holds_beside_requests_is_no_fault_of_it(tmp_path, name):
    home = Workspace.open(tmp_path / "home")
    details = validate(FIXTURES / name, home, say=lambda _: None).quality.details
    beside = next(finding for finding in details if "are no requests of this trace" in finding.text)
    assert beside.verdict == "GOOD"
    assert not any(reason in finding.text for finding in details if finding is not beside for reason in NO_REQUESTS)


def test_every_reason_of_that_kind_is_given_by_a_format():
    code = "".join(path.read_text() for path in FORMATS.glob("*.py") if path.name != "asides.py")
    assert [reason for reason in NO_REQUESTS if f'"{reason}"' not in code] == []


def test_the_share_set_aside_is_of_requests(judge):
    head = "id,type,trace_id,start_time,completion_start_time,usage_details\n"
    spans = "s,SPAN,t,2026-01-01 10:00:00,,\n" * 900
    calls = 'g,GENERATION,t,2026-01-01 10:00:00,,"{""input"": 1, ""output"": %d}"\n'
    found = judge(head + spans + calls % 1 * 96 + calls % -1 * 4, "set aside")
    assert (found.verdict, found.text[:38]) == ("FAIR", "4 of 100 rows (4.00%) set aside: 4 out")


def test_a_short_trace_is_told_in_seconds_and_zeros_only_where_there_are_any(judge):
    assert judge(HEAD + "0,1,2\n3,0,2\n", "spans").text.startswith("spans 3 s: ")
    assert judge(HEAD + "0,1,2\n3,0,2\n", "tokens").text == "1 request with 0 input tokens: kept, not replayed"

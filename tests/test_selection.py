"""A part of a trace: what --since, --until and --where keep, count and say."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.instants import Period, at_s, moment, parse_instant
from lmaas.analysis.selection import selected
from lmaas.cli.main import main

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
HOUR_S = 3600.0


@pytest.fixture
def store(tmp_path):
    return storer(tmp_path)


@pytest.fixture
def hours(store):
    """One request a minute for ten hours, from half past midnight; the first half has no region."""
    at = 1800.0 + 60.0 * np.arange(600)
    region = pl.Series([None] * 300 + ["eu"] * 300, dtype=pl.String)
    return store(table(arrival_s=at, input_tokens=np.arange(600) + 1, region=region), epoch=MONDAY)


# --- instants


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-05-10", datetime(2024, 5, 10, tzinfo=UTC)),
        (" 2024-05-10 ", datetime(2024, 5, 10, tzinfo=UTC)),
        ("2024-05-10T12:00Z", datetime(2024, 5, 10, 12, tzinfo=UTC)),
        ("2024-05-10 12:00:00.5+02:00", datetime(2024, 5, 10, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2h", 7200.0),
        ("-1d", -86_400.0),
        ("90 min", 5400.0),
        ("0s", 0.0),
    ],
)
def test_instants(text, instant):
    assert parse_instant(text, "--since") == instant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2024-05-10T12:00", "has no zone; write 2024-05-10T12:00Z"),
        ("2024-13-01", "is no instant"),
        ("yesterday", "is no instant"),
        ("", "is no instant"),
        ("nan s", "is no instant"),
        ("3600", "has no unit"),
        ("3 parsecs", "not a duration"),
        ("1e999h", "out of range"),
        ("0001-01-01T00:00+23:00", "out of range"),
        ("\x1b[31m", "is no instant"),
    ],
)
def test_what_is_no_instant_is_refused(text, said):
    with pytest.raises(UserError, match="--since") as caught:
        parse_instant(text, "--since")
    assert caught.value.code == Exit.USAGE
    assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2024-05-10..2024-05-12", datetime(2024, 5, 10, tzinfo=UTC), datetime(2024, 5, 12, tzinfo=UTC)),
        ("2h..", 7200.0, None),
        ("..-1d", None, -86_400.0),
        ("0h..1.5h", 0.0, 5400.0),
    ],
)
def test_periods(text, since, until):
    assert Period.between(text) == Period(since, until)


@pytest.mark.parametrize("text", ["../other.parquet", "..", "a..b", "trace", "2024-05-10", "1h..2h..3h", ""])
def test_a_path_is_no_period(text):
    assert Period.between(text) is None


def test_lengths_of_time_count_from_the_first_arrival_or_from_the_last(hours):
    ends = (1800.0, 37_740.0)
    assert at_s(7200.0, hours.meta, ends, "--since") == 9000.0
    assert at_s(-3600.0, hours.meta, ends, "--since") == 34_140.0
    assert at_s(-0.0, hours.meta, ends, "--until") == 37_740.0
    assert at_s(MONDAY + timedelta(hours=1), hours.meta, ends, "--since") == HOUR_S


def test_moments_are_dates_where_there_are_any(hours, store):
    assert moment(0.0, hours.meta, 0.0) == "2026-11-02"
    assert moment(3723.25, hours.meta, 0.0) == "2026-11-02 01:02:03"
    assert moment(1e18, hours.meta, 0.0).endswith("s after 2026-11-02")
    relative = store(table(arrival_s=[5.0, 6.0]))
    assert moment(6.0, relative.meta, 5.0) == "1 s after its start"


# --- the part


def test_a_period_is_half_open(hours):
    with selected(hours, Period.parse("2026-11-02T01:00Z", "2026-11-02T02:00Z")) as part:
        at = part.table("arrival_s")["arrival_s"]
        assert (at.min(), at.max(), len(at)) == (3600.0, 7140.0, 60)
        assert (part.meta.rows_kept, part.meta.span_s) == (60, 3540.0)
        assert part.meta.selection.outside == 540
        assert part.meta.selection.unmet == 0
        assert part.meta.selection.said == "from 2026-11-02 01:00:00 to 2026-11-02 02:00:00"
        assert part.scan().collect_schema() == hours.scan().collect_schema()


def test_neighbouring_periods_share_no_request(hours):
    rows = []
    for since, until in ((None, "3h"), ("3h", "7h"), ("7h", None)):
        with selected(hours, Period.parse(since, until)) as part:
            rows += part.table("source_row", "arrival_s", "input_tokens").rows()
    assert rows == hours.table("source_row", "arrival_s", "input_tokens").rows()


def test_the_part_knows_which_columns_have_values(hours):
    assert "region" in hours.meta.columns
    with selected(hours, Period.parse(None, "5h")) as part:
        assert "region" not in part.meta.columns
        assert "input_tokens" in part.meta.columns


def test_nothing_asked_is_the_trace_itself(hours):
    with selected(hours) as part:
        assert part is hours


def test_the_file_is_gone_afterwards(hours):
    with selected(hours, where="input_tokens < 10") as part:
        path = part.path
        assert path.is_file()
    assert not path.exists()
    assert [p.name for p in hours.path.parent.iterdir()] == ["trace.parquet"]


KILLED = """
import os, signal, sys
from pathlib import Path
from lmaas.analysis.instants import Period
from lmaas.analysis.selection import selected
from lmaas.analysis.trace import Trace, TraceMeta
folder = Path(sys.argv[1])
meta = TraceMeta.model_validate_json(sys.stdin.read())
with selected(Trace(meta, folder / "trace.parquet"), Period(since=9.0)):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_parts_of_the_dead_go_with_the_next_and_those_of_the_living_stay(hours):
    folder = hours.path.parent
    command = [sys.executable, "-c", KILLED, str(folder)]
    dead = subprocess.run(command, input=hours.meta.model_dump_json(), text=True, check=False)
    assert dead.returncode == -signal.SIGKILL
    (left,) = folder.glob(".part-*")
    assert (left / "trace.parquet").is_file()
    with selected(hours, Period(since=9.0)) as first:
        assert not left.exists()
        with selected(hours, Period(until=9000.0)):
            assert first.path.is_file()


def test_parts_of_other_machines_go_after_a_day(hours):
    folder = hours.path.parent
    names = (".part-00000000-1-aaaaaaaa", ".part-0000abcd", ".part-00000000-²-x", f".part-0-{10**30}-y")
    elsewhere = [folder / name for name in names]
    for path in elsewhere:
        path.mkdir()
    with selected(hours, Period(since=9.0)):
        assert all(path.exists() for path in elsewhere)
    for path in elsewhere:
        os.utime(path, (0, 0))
    with selected(hours, Period(since=9.0)):
        assert not any(path.exists() for path in elsewhere)


def test_rows_are_counted_wherever_they_went(hours):
    with selected(hours, Period.parse("1h", "9h"), "input_tokens % 3 = 0") as part:
        s, kept = part.meta.selection, part.table("input_tokens", "arrival_s")
    assert s.rows == 600 == part.meta.rows_kept + s.outside + s.unmet
    expected = hours.table("input_tokens", "arrival_s").filter(
        (pl.col("input_tokens") % 3 == 0) & pl.col("arrival_s").is_between(5400, 34_200, closed="left")
    )
    assert kept.equals(expected)


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("2027-01-01", None, "no request from 2027-01-01"),
        (None, "2026-11-01", "no request before 2026-11-01"),
        ("20h", None, "no request from"),
        ("5h", "5h", "ends before it begins"),
        ("5h", "1h", "ends before it begins"),
    ],
)
def test_an_empty_period_says_what_there_is(hours, since, until, said):
    with pytest.raises(UserError) as caught, selected(hours, Period.parse(since, until)):
        pass
    assert caught.value.code == Exit.USAGE
    assert said in str(caught.value)
    assert "it covers 2026-11-02 00:30:00 to 2026-11-02 10:29:00 UTC" in str(caught.value)


def test_a_date_needs_a_trace_with_dates(store):
    trace = store(table(arrival_s=[5.0, 6.0]))
    with pytest.raises(UserError, match="no dates, its times are relative") as caught:
        analyze(trace, since="2024-05-10")
    assert caught.value.code == Exit.USAGE


def test_odd_traces_have_parts_too(store):
    one = store(table(arrival_s=[5.0]))
    assert analyze(one, since="0s").tables["overview"]["rows"].item() == 1
    instant = store(table(arrival_s=[5.0] * 4, service=["a", "b", "a", "b"]))
    assert analyze(instant, where="service = 'a'").trace.span_s == 0.0
    negative = store(table(arrival_s=[-500.0, -1.0, 3.0]))
    assert analyze(negative, since="1s").tables["overview"]["rows"].item() == 2


def test_a_part_is_analysed_like_a_trace_of_its_own(hours, store, tmp_path):
    part = analyze(hours, since="2h", until="6h", where="input_tokens % 2 = 0")
    rows = hours.table().filter(
        pl.col("arrival_s").is_between(9000, 23_400, closed="left"), pl.col("input_tokens") % 2 == 0
    )
    (tmp_path / "other").mkdir()
    alone = analyze(storer(tmp_path / "other")(rows, epoch=MONDAY))
    assert part.metrics()["tables"] == alone.metrics()["tables"]
    assert part.findings == alone.findings


# --- the command


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    lines = [f"2026-11-02T{k // 60:02}:{k % 60:02}:00Z,{100 + k},10,{'ab'[k % 2]}" for k in range(600)]
    (tmp_path / "log.csv").write_text("\n".join(["ts,in,out,service", *lines]) + "\n")
    fields = {"arrival_s": "ts", "input_tokens": "in", "output_tokens": "out", "service": "service"}
    mapping = [part for field, column in fields.items() for part in ("--map", f"{field}={column}")]
    assert main(["ingest", "log.csv", *mapping, "--time-unit", "datetime", "-q"]) == 0
    return "log"


def test_the_terminal_the_metrics_and_the_report_say_what_was_analysed(log, tmp_path, capsys):
    line = ["analyze", log, "--since", "2026-11-02T01:00Z", "--until", "3h", "--where", "service = 'a'", "--out", "run"]
    assert main(line) == 0
    said = "60 of 600 requests, where service = 'a' from 2026-11-02 01:00:00 to 2026-11-02 03:00:00"
    assert said in " ".join(capsys.readouterr().out.split())
    selection = json.loads((tmp_path / "run" / "metrics.json").read_bytes())["trace"]["selection"]
    assert (selection["rows"], selection["outside"], selection["unmet"]) == (600, 480, 60)
    assert (selection["since_s"], selection["until_s"], selection["where"]) == (3600.0, 10_800.0, "service = 'a'")
    report = json.loads((tmp_path / "run" / "report.json").read_bytes())
    assert report["facts"]["Analysed"] == said
    counted = next(s for s in report["sections"] if s["anchor"] == "quality")["tables"][0]["rows"]
    assert dict(counted)["of these analysed"] == 60
    config = json.loads((tmp_path / "run" / "manifest.json").read_bytes())["config"]
    assert (config["since"], config["until"], config["where"]) == ("2026-11-02T01:00Z", "3h", "service = 'a'")


def test_without_filters_nothing_is_said_of_them(log, capsys):
    assert main(["analyze", log, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"]["selection"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "2026-12-01"], "it covers 2026-11-02 to 2026-11-02 09:59:00 UTC"),
        (["--until", "soon"], "--until: 'soon' is no instant"),
        (["--where", "tokens > 5"], '"tokens" not found'),
        (["--where", "input_tokens > 9999"], "none is left where input_tokens > 9999"),
    ],
)
def test_what_leaves_nothing_ends_with_2_and_no_run(log, options, said, tmp_path, capsys):
    assert main(["analyze", log, *options]) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert list((tmp_path / "home" / "runs").iterdir()) == []

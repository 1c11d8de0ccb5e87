"""How much of long work is done is told truly, and shown on a terminal alone, and only once it takes long."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from lmaas.analysis import analyze
from lmaas.analysis.comparison.against import compare
from lmaas.analysis.formats.expected import expected_rows
from lmaas.analysis.formats.source import Source
from lmaas.analysis.ingest import ingest, open_trace
from lmaas.analysis.lengths.predicting import predict
from lmaas.analysis.lengths.training import train
from lmaas.analysis.prepared import prepare as prepared
from lmaas.analysis.progress import Share, each, part, rising, steps
from lmaas.analysis.validate import validate
from lmaas.analysis.workspace import Workspace
from lmaas.cli import bars
from lmaas.cli.main import main
from lmaas.cli.screen import Screen
from lmaas.reports import api

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def rows(n: int, first: int = 0) -> str:
    return "".join(f"2024-05-10 {k // 3600:02}:{k // 60 % 60:02}:{k % 60:02}.5,{100 + k % 7},{5 + k % 11}\n"
                   for k in range(first, first + n))  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    return Workspace.open()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + rows(4000))
    return path


def check(told: list[float], unit: str, of: float) -> None:
    """Shares that rise to 1, all of the same whole."""
    assert told == sorted(told)
    assert told[0] >= 0 and told[-1] == 1.0
    assert len(set(told)) > 2, "nothing between the beginning and the end"
    assert {(share.unit, share.of) for share in told if isinstance(share, Share)} == {(unit, of)}


def test_every_step_has_its_weight_and_none_runs_backwards():
    told: list[float] = []
    tell = rising(told.append, 50, "requests")
    assert len(list(steps(tell, [1, 3]))) == 2
    assert told == [0.25, 1.0]
    told.clear()
    tell = rising(told.append, 50, "requests")
    for step in steps(tell, [1, 3]):
        for done in (0.5, 0.2, 1.0, 7.0):  # a second attempt begins anew, and more came than was expected
            step(done)
    assert told == [0.125, 0.125, 0.25, 0.25, 0.25, 0.625, 0.625, 1.0, 1.0, 1.0]
    assert list(each(tell, [(1, lambda: "a"), (2, lambda: "b")])) == ["a", "b"]
    part(told.append, 0.5, 1.0)(Share(0.5, 8, "MB"))
    assert (told[-1], told[-1].of, told[-1].unit) == (0.75, 8, "MB")


def test_ingest_validate_analyze_train_and_predict_tell_shares_that_rise_to_one(home, log):
    size, n = log.stat().st_size / 1e6, 4000
    read: list[float] = []
    trace = ingest(log, home, say=lambda line: None, progress=read.append)
    check(read, "MB", size)
    for source in (log, trace.meta.name):
        judged: list[float] = []
        validate(source, home, say=lambda line: None, progress=judged.append)
        assert judged == sorted(judged) and judged[-1] == 1.0
    for options in ({}, {"since": "10min"}):
        found: list[float] = []
        said = analyze(trace, **options, progress=found.append).trace.rows_kept
        check(found, "requests", said)
    beside: list[float] = []
    compare(trace, trace, beside.append)
    check(beside, "requests", 2 * n)
    learned, predicted = [], []
    model = train(trace, progress=learned.append)
    check(learned, "requests", n)
    predict(trace, model.predictor, model.facts, progress=predicted.append)
    check(predicted, "requests", n)


def test_a_file_read_twice_or_sorted_tells_shares_that_rise_to_one(home, tmp_path):
    """A damaged line makes the fast reader give up; rows out of order are sorted; several files are one."""
    damaged, later, mixed = (tmp_path / name for name in ("damaged.csv", "later.csv", "mixed.csv"))
    damaged.write_text(HEADER + rows(3000) + 'a,"b,c\n' + rows(500, 3000))
    later.write_text(HEADER + rows(1000, 5000))
    mixed.write_text(HEADER + rows(2000, 3000) + rows(2000))
    for paths in ([damaged], [mixed], [later, mixed]):
        told: list[float] = []
        ingest(paths, home, say=lambda line: None, progress=told.append)
        check(told, "MB", sum(path.stat().st_size for path in paths) / 1e6)


def test_rows_are_expected_as_many_as_there_are(tmp_path, home, log):
    assert expected_rows(Source.open(log)) == pytest.approx(4000, rel=0.01)
    packed, table, lines = tmp_path / "log.csv.gz", tmp_path / "t.parquet", tmp_path / "lines.jsonl"
    pl.read_csv(log).write_csv(packed, compression="gzip")
    pl.DataFrame({"arrival_s": range(70), "input_tokens": 1, "output_tokens": 1}).write_parquet(table)
    lines.write_text("".join('{"a": 1, "b": "x"}\n' for _ in range(300)))
    assert expected_rows(Source.open(packed)) == pytest.approx(4000, rel=0.01)
    assert expected_rows(Source.open(table)) == 70
    assert expected_rows(Source.open(lines)) == pytest.approx(300)
    assert expected_rows(prepared([log, packed], say=lambda line: None).source) == pytest.approx(8000, rel=0.01)


def test_the_pace_is_what_was_done_by_the_time_that_it_took():
    assert bars.pace(0.0, 3.0, 10, "MB") == bars.pace(0.5, 0.0, 10, "MB") == ""
    assert bars.pace(0.25, 10.0, 1_000_000, "requests") == "25,000 requests/s, 0:00:30 left"
    assert bars.pace(0.5, 3700.0, 100, "%") == "0.014 %/s, 1:01:40 left"
    assert bars.pace(1.0, 4.0, 10, "MB") == "2.5 MB/s, 0:00:00 left"


def shown(capsys, work) -> str:
    with Screen().progress("read") as step:
        work(step)
    return capsys.readouterr().err


def test_bars_are_for_terminals_and_for_what_takes_long(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    def work(step):
        for done in (0.0, 0.25, 0.5):
            step("\x1b]0;log", Share(done, 8e9, "MB"))
        time.sleep(3 * bars.AFTER_S)

    monkeypatch.setattr(bars, "AFTER_S", 0.05)
    assert shown(capsys, work) == ""  # no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    told = shown(capsys, work)
    assert "read" in told and "50 %" in told and "MB/s" in told and "left" in told
    assert "\x1b]0;" not in told
    with Screen(quiet=True).progress("read") as step:
        work(step)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(bars, "AFTER_S", 60.0)
    assert shown(capsys, lambda step: step("log", 0.5)) == ""  # done before


SLOW = "from lmaas.cli import bars; bars.AFTER_S = 0.0; from lmaas.cli.main import main; raise SystemExit(main())"


@pytest.mark.parametrize("verb", ["ingest", "validate", "analyze"])
def test_a_command_on_a_terminal_shows_a_bar_and_leaves_none(verb, home, log, tmp_path):
    answer = tmp_path / "answer.json"
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-c", SLOW, verb, str(log), "--json"]
    with answer.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=theirs, env=environment) as run:
        os.close(theirs)
        told = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # the other side is closed
                break
            told += piece
            if not piece:
                break
    os.close(ours)
    assert run.returncode in (0, 4)
    assert answer.read_bytes().startswith(b"{")
    text = told.decode()
    assert f"{verb} log" in text and "/s, 0:0" in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in text  # the bar's line is cleared


def test_no_bar_where_stderr_is_no_terminal_or_quiet(home, log, capsys, monkeypatch):
    monkeypatch.setattr(bars, "AFTER_S", 0.0)
    assert main(["ingest", str(log)]) == 0
    assert "%" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["-q", "validate", str(log)]) in (0, 4)
    assert capsys.readouterr().err == ""


def test_who_watches_does_not_stand_in_the_report(home, log):
    told: list[float] = []
    found = api.analyze(str(log), window_s=60.0, progress=told.append)
    assert told[-1] == 1.0
    assert found.to_json() == api.analyze(str(log), window_s=60.0).to_json()


def test_a_stored_trace_is_found_without_a_bar(home, log):
    ingest(log, home, say=lambda line: None)
    told: list[float] = []
    open_trace("log", home, say=lambda line: None, progress=told.append)
    assert told == []

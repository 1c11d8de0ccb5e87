"""The command line: its help, and what may be typed."""

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.main import get_command

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli import options
from lmaas.cli.help import OVERVIEW
from lmaas.cli.main import app, hoisted, main
from lmaas.reports import terminal
from lmaas.reports.section import Column, table
from lmaas.reports.write import write_rows

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "polars",
    "numpy",
    "duckdb",
    "plotly",
    "numba",
    "pydantic_settings",
    "scipy",
    "xgboost",
    "statsforecast",
    "rich",
)


@pytest.fixture(autouse=True)
def elsewhere(home: Path) -> None:
    """In an empty folder, with an empty workspace."""


# ---- help


def test_the_first_screen_fits_and_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    explained = re.findall(r"^(?:[A-Z]\w+)?\s+([a-z]+)  +\w.* ", OVERVIEW.partition("Lists")[0], re.MULTILINE)
    (named,) = re.findall(r"^Lists +(.*)$", OVERVIEW.replace("Set-up", ""), re.MULTILINE)
    assert sorted(explained + named.split()) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_no_arguments_show_the_first_screen(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    assert capsys.readouterr().out.rstrip() == OVERVIEW.rstrip()


@pytest.mark.parametrize(
    "command",
    [
        "ingest",
        "validate",
        "analyze",
        "evaluate",
        "train",
        "predict",
        "synth",
        "policies",
        "profile",
        "traces",
        "traces list",
        "compare",
        "report",
        "runs",
        "runs show",
        "runs rm",
        "runs prune",
        "policies show",
        "doctor",
        "init",
        "config show",
    ],
)
def test_every_command_explains_itself_in_80_columns(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: lmaas {command}")
    assert max(map(len, lines)) <= 80


def test_help_imports_nothing_heavy():
    code = f"""
import sys
from lmaas.cli.main import main
main(["--help"]); main(["evaluate", "--help"]); main(["--version"])
heavy = [name for name in {HEAVY!r} if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"lmaas \d+\.\d+\.\d+\n", capsys.readouterr().out)


# ---- usage


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("evalute", "Did you mean 'evaluate'"),
        ("evaluate --polcy hpa", "did you mean --policy"),
        ("evaluate --window 10", "'10' has no unit; write 10s"),
        ("evaluate --warmup 10minutes", "is not a duration"),
        ("evaluate --load 2", "write it with an x"),
        ("evaluate --load 0x", "above 0x"),
        ("evaluate --attain 99", "a number from 0 to 1"),
        ("evaluate --train-fraction half", "a number from 0 to 1"),
        ("evaluate --gate-mode maybe", "--gate-mode"),
        ("evaluate --jobs 0", "--jobs"),
        ("analyze --map tokens", "maps nothing"),
        ("analyze --map a=b --map a=c", "mapped twice"),
        ("evaluate --requests-out r.xlsx", "cannot write '.xlsx'"),
        ("synth", "Missing option"),
        ("traces", "Missing command"),
        ("traces lst", "Did you mean 'list'"),
    ],
)
def test_usage_errors_say_what_would_work(line: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(line.split()) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("lmaas: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("500ms", 0.5), ("600s", 600), ("10m", 600), ("1.5h", 5400), ("2d", 172_800), ("10 min", 600)],
)
def test_durations(value: str, seconds: float):
    assert options.duration_s(value) == seconds


@pytest.mark.parametrize("value", ["", "10", "-5s", "5 parsecs", "s", "nan s", "10S", "1e999s"])
def test_what_is_no_duration_is_refused(value: str):
    with pytest.raises(typer.BadParameter):
        options.duration_s(value)


def test_a_mapped_column_may_hold_an_equals_sign():
    assert options.mapping(["input_tokens=a=b", " output_tokens = c "]) == {"input_tokens": "a=b", "output_tokens": "c"}
    assert options.mapping([]) is None


@pytest.mark.parametrize(
    ("typed", "run"),
    [
        (["analyze", "-q", "t.csv"], ["-q", "analyze", "t.csv"]),
        (["analyze", "--no-color", "t.csv", "-v"], ["--no-color", "-v", "analyze", "t.csv"]),
        (["analyze", "--", "-q"], ["analyze", "--", "-q"]),
    ],
)
def test_options_that_hold_anywhere_may_stand_anywhere(typed: list[str], run: list[str]):
    assert hoisted(typed) == run


WIDE = pl.DataFrame({"words": ["of many letters " * 3], "more": ["and others " * 5], "n": [1.0], "ok": [True]})


@pytest.mark.parametrize(("columns", "width"), [("", 100), ("60", 60), ("7", 40), ("300", 100), ("x", 100)])
def test_a_pipe_is_as_wide_as_it_is_told_and_no_column_is_cut(capsys, monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    shown = (
        Column("words", "Words"),
        Column("more", "More"),
        Column("n", "N", "number"),
        Column("ok", "Ok", "verdict"),
    )
    terminal.show_table(table("Wide", WIDE, shown), terminal.console())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    cut = next((line for line in lines if "not shown" in line), "")
    assert [
        label for label in ("Words", "More", "N", "Ok") if f" {label}" not in cut and f" {label}" not in lines[1]
    ] == []
    assert "\u2713 pass" in "\n".join(lines) or "Ok" in cut


def test_a_file_that_cannot_be_written_is_named_and_not_the_workspace(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a longer path is shown in part
    with pytest.raises(UserError, match=r"rows\.csv: cannot be written \(.*\); name another place for it") as refused:
        write_rows(WIDE, Path("none/rows.csv"))
    assert refused.value.code == Exit.ENVIRONMENT

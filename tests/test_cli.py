"""The command line: what it prints where, and how it ends."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import typer
from evaluation_data import GATES, evaluation
from typer.main import get_command

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli import options
from lmaas.cli.help import OVERVIEW
from lmaas.cli.main import app, hoisted, main

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
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "workspace"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.parquet"
    rows = {"arrival_s": [float(i) for i in range(60)], "input_tokens": [100] * 60, "output_tokens": [10] * 60}
    pl.DataFrame(rows).write_parquet(path)
    return path


Replay = Callable[..., Any]


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Replay], dict[str, Any]]:
    """Put a function in the place of the evaluator; what it was called with."""

    def put(answer: Replay) -> dict[str, Any]:
        from lmaas.policies import evaluation as real  # the checks before a trace is read stay the real ones

        seen: dict[str, Any] = {}

        def evaluate(trace: Any, policies: Any, **settings: Any) -> Any:
            seen.update(settings, trace=trace, policies=policies)
            return answer()

        monkeypatch.setitem(
            sys.modules, "lmaas.policies.evaluation", SimpleNamespace(evaluate=evaluate, check_asked=real.check_asked)
        )
        return seen

    return put


def raising(error: BaseException) -> Replay:
    def answer() -> Any:
        raise error

    return answer


# ---- help


def test_the_first_screen_fits_and_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    listed = re.findall(r"^(?:[A-Z]\w+)?\s+([a-z]+)  +\w", OVERVIEW, re.MULTILINE)
    assert sorted(listed) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


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


# ---- what is printed where


def test_analyze_prints_data_on_stdout_and_the_way_on_stderr(trace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["analyze", str(trace)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("The workload of trace")
    assert "Data quality" in out
    assert "report.html" in err
    assert "Next:" in err
    assert "\x1b" not in out + err


def test_quiet_leaves_only_data(trace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["analyze", str(trace), "-q"]) == 0
    out, err = capsys.readouterr()
    assert "Overview" in out
    assert err == ""


def test_verbose_shows_all_sections(trace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["analyze", str(trace), "-v"]) == 0
    assert "Method and definitions" in capsys.readouterr().out


def test_analyze_json_is_one_object_with_the_metrics(trace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["analyze", str(trace), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema_version"], answer["ok"], answer["exit_code"]) == ("1.0", True, 0)
    metrics = json.loads((Path(answer["run"]) / "metrics.json").read_bytes())
    assert answer["tables"] == metrics["tables"]
    assert Path(answer["report"]).is_file()


def test_the_run_is_recorded_with_the_line_that_made_it(trace: Path, tmp_path: Path):
    assert main(["analyze", str(trace), "--window", "10s", "--out", str(tmp_path / "run"), "-q"]) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    assert manifest["argv"] == ["analyze", str(trace), "--window", "10s", "--out", str(tmp_path / "run"), "-q"]
    assert manifest["config"]["window_s"] == 10.0
    assert manifest["exit_code"] == 0


def test_ingest_then_analyze_by_name(trace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["ingest", str(trace), "--name", "mine"]) == 0
    assert "60 of 60 rows kept" in capsys.readouterr().out
    assert main(["analyze", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"]["name"] == "mine"
    assert main(["traces", "list", "--json"]) == 0
    assert [t["name"] for t in json.loads(capsys.readouterr().out)["traces"]] == ["mine"]


def test_lists_hold_what_is_registered(capsys: pytest.CaptureFixture[str]):
    from lmaas.policies.registry import POLICIES
    from lmaas.replay.profile import profiles

    assert main(["policies", "list", "--json"]) == 0
    assert [p["name"] for p in json.loads(capsys.readouterr().out)["policies"]] == list(POLICIES)
    assert main(["profile", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in profiles()["name"])


def test_no_traces_is_an_empty_list(capsys: pytest.CaptureFixture[str]):
    assert main(["traces", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["traces"] == []
    assert main(["traces", "list"]) == 0


def test_synth_draws_the_same_bytes_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b"):
        assert main(["synth", "-o", str(tmp_path / f"{name}.parquet"), "--days", "0.02", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / f"{n}.parquet") for n in ("a", "b")]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


# ---- evaluate


def test_evaluate_hands_over_what_was_asked(trace: Path, replayed: Any):
    seen = replayed(evaluation)
    line = [
        "evaluate", str(trace), "--policy", "preserve", "--policy", "hpa(target=8)",
        "--slo", "ttft<500ms", "--attain", "95%", "--baseline", "none", "--train-fraction", "0", "--warmup", "0s",
        "--window", "10m", "--load", "2x", "--seed", "7", "--jobs", "2",
        "--gate", "slo_attainment>=0.9", "--router", "round-robin", "-q",
    ]  # fmt: skip
    assert main(line) == 0
    assert seen["trace"].meta.rows_kept == 60
    expected = {
        "policies": ["preserve", "hpa(target=8)"],
        "slo": ["ttft<500ms"],
        "attain": 0.95,
        "baselines": ["none"],
        "train_fraction": 0.0,
        "warmup_s": 0.0,
        "window_s": 600.0,
        "load": 2.0,
        "seed": 7,
        "jobs": 2,
        "gates": ["slo_attainment>=0.9"],
        "router": "round-robin",
        "scaler": None,
        "profile": None,
        "fleet": None,
    }
    assert {name: seen[name] for name in expected} == expected


def test_evaluate_defaults_are_the_documented_ones(trace: Path, replayed: Any):
    seen = replayed(evaluation)
    assert main(["evaluate", str(trace), "-q"]) == 0
    expected = {
        "attain": 0.99,
        "train_fraction": 0.5,
        "warmup_s": 600.0,
        "window_s": None,
        "load": 1.0,
        "seed": 0,
        "jobs": 1,
    }
    assert {name: seen[name] for name in expected} == expected


def test_evaluate_prints_the_recommendation(trace: Path, replayed: Any, capsys: pytest.CaptureFixture[str]):
    replayed(evaluation)
    assert main(["evaluate", str(trace), "--policy", "preserve"]) == 0
    out, err = capsys.readouterr()
    assert "preserve is the cheapest policy" in out
    assert "Report: " in err


def test_evaluate_writes_request_rows(trace: Path, tmp_path: Path, replayed: Any):
    replayed(lambda: evaluation({"preserve": "policy"}))
    assert main(["evaluate", str(trace), "--requests-out", str(tmp_path / "r.csv"), "-q"]) == 0
    assert pl.read_csv(tmp_path / "r.csv").columns[:2] == ["request_id", "status"]


ENDINGS: dict[int, Replay] = {
    Exit.OK: evaluation,
    Exit.BUG: raising(ZeroDivisionError("division by zero")),
    Exit.USAGE: raising(UserError("no policy named 'x'", Exit.USAGE)),
    Exit.GATE: lambda: evaluation(gates=GATES, exit_code=Exit.GATE),
    Exit.INPUT: raising(UserError("the trace has no rows", Exit.INPUT)),
    Exit.CONFIG: raising(UserError("fleet.yaml: no pool", Exit.CONFIG)),
    Exit.INFEASIBLE: raising(UserError("no headroom attains 99 %", Exit.INFEASIBLE)),
    Exit.PARTIAL: lambda: evaluation(failures={"hpa": "no target"}, exit_code=Exit.PARTIAL),
    Exit.ENVIRONMENT: raising(MemoryError()),
    130: raising(KeyboardInterrupt()),
}


@pytest.mark.parametrize("code", ENDINGS)
def test_json_is_one_object_under_every_exit_code(
    code: int, trace: Path, replayed: Any, capsys: pytest.CaptureFixture[str]
):
    replayed(ENDINGS[code])
    assert main(["evaluate", str(trace), "--json"]) == code
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert out.count("\n") == 1
    assert (answer["schema_version"], answer["ok"], answer["exit_code"]) == ("1.0", code == 0, code)
    assert ("error" in answer) == ("lmaas: " in err)
    assert ("Traceback" in err) == (code == Exit.BUG)


@pytest.mark.parametrize("line", ["evaluate --window 10 --json", "evaluat --json", "analyze nowhere.csv --json"])
def test_json_is_one_object_even_where_the_line_is_wrong(line: str, capsys: pytest.CaptureFixture[str]):
    code = main(line.split())
    answer = json.loads(capsys.readouterr().out)
    assert code == answer["exit_code"] > 0
    assert answer["error"]


def test_full_disks_are_not_bugs(trace: Path, replayed: Any, capsys: pytest.CaptureFixture[str]):
    replayed(raising(OSError(28, "No space left on device", "/tmp/x")))
    assert main(["evaluate", str(trace)]) == Exit.ENVIRONMENT
    assert "lmaas: /tmp/x: No space left on device" in capsys.readouterr().err


def test_gates_can_only_warn(trace: Path, replayed: Any, capsys: pytest.CaptureFixture[str]):
    replayed(lambda: evaluation(gates=GATES, exit_code=Exit.GATE))
    assert main(["evaluate", str(trace), "--gate-mode", "warn"]) == 0
    assert "✗ fail" in capsys.readouterr().out


def test_an_interrupt_keeps_the_run_unfinished(trace: Path, workspace: Path, replayed: Any):
    replayed(raising(KeyboardInterrupt()))
    assert main(["evaluate", str(trace)]) == 130
    (run,) = (workspace / "runs").iterdir()
    assert json.loads((run / "manifest.json").read_bytes())["exit_code"] is None


def test_errors_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    assert main(["analyze", "\x1b]0;owned\x07.csv"]) == Exit.INPUT
    assert "\x1b" not in capsys.readouterr().err


def test_exit_codes_are_documented():
    documented = {
        int(n) for n in re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "exit-codes.md").read_text(), re.MULTILINE)
    }
    assert {int(code) for code in Exit} | {130, 143} == documented


def test_bad_inputs_end_in_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "short.csv").write_text("time,in\n1,2\n")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and then nothing")
    for name in ("empty.csv", "short.csv", "cut.parquet", "."):
        assert main(["analyze", name]) == Exit.INPUT
        err = capsys.readouterr().err
        assert err.startswith("lmaas: ")
        assert "Traceback" not in err

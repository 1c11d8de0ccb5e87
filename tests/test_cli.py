"""The command line: what it prints where, and how it ends."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from evaluation_data import GATES, evaluation

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli.main import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def workspace(home: Path) -> Path:
    return home


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
        "jobs": None,  # one, or at full depth all cores
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

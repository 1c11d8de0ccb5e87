"""`lmaas runs`, `policies show` and `doctor`."""

import json
from pathlib import Path

import pytest
from evaluation_data import evaluation

from lmaas.analysis.errors import Exit
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.policies.registry import POLICIES
from lmaas.replay.routers import ROUTERS
from lmaas.reports import doctor as doctors
from lmaas.reports.policy_shown import policy_facts
from lmaas.reports.write import recording, write_evaluation


def store(home: Path, label: str, out: Path | None = None) -> Path:
    with recording(Workspace(home), "evaluate", label, ["evaluate", "--policy", label], {"attain": 0.9}, out) as run:
        return write_evaluation(evaluation(), run).run


def names(capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert main(["runs", "list", "--json"]) == 0
    return [row["run"] for row in json.loads(capsys.readouterr().out)["runs"]]


def test_runs_are_listed_shown_and_removed(home: Path, capsys):
    kept, gone = store(home, "kept"), store(home, "gone")
    (home / "runs" / "notes").mkdir()  # no run
    assert sorted(names(capsys)) == sorted((kept.name, gone.name))
    assert main(["runs", "show", gone.name]) == 0
    told = capsys.readouterr().out
    assert "exit code 0" in told and "lmaas evaluate --policy gone" in told and "metrics.json" in told
    assert main(["runs", "rm", gone.name]) == Exit.USAGE  # nobody is there to ask
    assert gone.is_dir() and "--yes" in capsys.readouterr().err
    assert main(["runs", "rm", gone.name, "--yes", "--json"]) == 0
    assert not gone.exists() and not any(path.name.startswith(".") for path in (home / "runs").iterdir())
    assert names(capsys) == [kept.name]
    assert [run["run_id"] for run in Workspace(home).runs()] == [kept.name]


def test_an_unfinished_run_shows(home: Path, capsys):
    path = store(home, "killed")
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps(manifest | {"exit_code": None, "ended": None}))
    assert main(["runs", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["exit_code"], row["took_s"], row["ended"]) == (None, None, False)
    assert main(["runs", "list"]) == 0
    assert "not: interrupted, or at work" in " ".join(capsys.readouterr().out.split())
    assert main(["runs", "show", path.name]) == 0
    assert "it did not end" in capsys.readouterr().out
    (path / "manifest.json").write_text("{")
    assert main(["runs", "list"]) == 0


def test_nothing_outside_the_workspace_is_removed(home: Path, tmp_path: Path, capsys):
    elsewhere = store(home, "mine", tmp_path / "elsewhere")
    assert main(["runs", "rm", str(elsewhere), "--yes"]) == Exit.USAGE
    assert "is not in the workspace" in capsys.readouterr().err
    inside = store(home, "inside")
    (home / "runs" / "link").symlink_to(elsewhere)
    assert main(["runs", "rm", inside.name, str(home / "runs" / "link"), "--yes"]) == Exit.USAGE
    assert (elsewhere / "manifest.json").is_file() and inside.is_dir()  # refused before anything went
    (home / "runs").rename(tmp_path / "moved")
    (home / "runs").symlink_to(tmp_path / "moved")
    assert main(["runs", "rm", inside.name, "--yes"]) == Exit.USAGE
    assert (tmp_path / "moved" / inside.name).is_dir()


def test_every_policy_and_router_is_shown(capsys):
    for name in (*POLICIES, *(name for name in ROUTERS if name not in POLICIES)):
        facts = policy_facts(name)
        assert facts["about"] and facts["source"], name
        assert all(row["parameter"] and "default" in row for row in facts["parameters"])
    facts = policy_facts("preserve")
    rows = {row["parameter"]: row for row in facts["parameters"]}
    assert rows["lookahead"] == {"parameter": "lookahead", "default": 100, "unit": None, "about": "iterations"}
    assert rows["control_s"]["unit"] == "s"
    assert "arXiv 2504.03702" in facts["source"]
    assert not facts["foresight"] and policy_facts("oracle")["foresight"]
    assert main(["policies", "show", "presrve"]) == Exit.USAGE
    assert "did you mean 'preserve'" in capsys.readouterr().err
    assert main(["policies", "show", "static"]) == 0
    assert "needed" in capsys.readouterr().out


def test_the_doctor_says_what_is_broken(home: Path, monkeypatch, capsys):
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    looked_at = [check["name"] for check in answer["checks"]]
    wanted = {"python", "lmaas", "packages", "workspace", "disk", "cores", "kernel cache", "kernel", "browser"}
    assert wanted <= set(looked_at)
    monkeypatch.setattr(doctors, "LEAST_DISK", 1e30)
    assert main(["doctor"]) == Exit.ENVIRONMENT
    out, err = capsys.readouterr()
    assert "✗ disk" in out and "LMAAS_HOME" in out and "broken" in err
    monkeypatch.setattr(doctors.sys, "version_info", (3, 9, 1))
    assert next(doctors._python()).state == "bad"

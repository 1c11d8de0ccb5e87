"""Options that need not be typed: which comes first, what is refused, and that a run's command line holds them."""

import json
from pathlib import Path

import pytest
from typer.main import get_command

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli import complete
from lmaas.cli.main import app, main
from lmaas.cli.settings import settings, taken, with_settings
from lmaas.replay.fleetfile import read_fleet

ROOT = get_command(app)


@pytest.fixture(autouse=True)
def files(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file; the project's is lmaas.toml here."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config" / "lmaas" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_typed_comes_before_environment_before_project_before_user(files: Path, monkeypatch):
    files.write_text('[evaluate]\nprofile = "user"\nseed = 1\njobs = 2\nattain = 0.9\n')
    Path("lmaas.toml").write_text('[evaluate]\nprofile = "project"\nseed = 3\njobs = 4\npolicy = ["a", "b"]\n')
    monkeypatch.setenv("LMAAS_EVALUATE_SEED", "5")
    monkeypatch.setenv("LMAAS_EVALUATE_GATE", "attain>=0.9\ncost<4")
    line = with_settings(["-q", "evaluate", "t.csv", "-j4"], ROOT)
    assert line[:2] == ["-q", "evaluate"] and line[-2:] == ["t.csv", "-j4"]
    assert sorted(line[2:-2]) == sorted(
        [
            "--seed=5",
            "--gate=attain>=0.9",
            "--gate=cost<4",
            "--profile=project",
            "--policy=a",
            "--policy=b",
            "--attain=0.9",
        ]
    )
    assert "--policy=a" not in with_settings(["evaluate", "--policy", "c"], ROOT)
    assert with_settings(["analyze"], ROOT) == ["analyze"]
    assert with_settings(["evaluate", "--help"], ROOT) == ["evaluate", "--help"]
    origins = {one.option: one.origin for one in settings(ROOT)}
    assert (origins["seed"], origins["profile"], origins["attain"]) == ("LMAAS_EVALUATE_SEED", "lmaas.toml", str(files))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[evalute]\n", "did you mean 'evaluate'"),
        ("[evaluate]\npolcy = 'x'\n", "did you mean 'policy'"),
        ("[evaluate]\nseed = [1, 2]\n", "one text or number"),
        ("[evaluate]\nprofile = {a = 1}\n", "one text or number"),
        ("[evaluate]\njson = true\n", "is no option of a file"),
        ("evaluate = 1\n", "is no command"),
        ("[evaluate\n", "cannot be read"),
    ],
)
def test_what_a_file_cannot_say_is_refused(content: str, said: str, capsys):
    Path("lmaas.toml").write_text(content)
    with pytest.raises(UserError, match=said) as error:
        settings(ROOT)
    assert error.value.code == Exit.CONFIG
    assert main(["evaluate"]) == Exit.CONFIG
    assert main(["--help"]) == 0


def test_a_number_without_its_unit_is_refused_in_a_file_too(capsys):
    Path("lmaas.toml").write_text("[analyze]\nwindow = 600\n")
    assert main(["analyze"]) == Exit.USAGE
    assert "'600' has no unit" in capsys.readouterr().err


def test_a_run_holds_the_whole_command(tmp_path: Path):
    Path("lmaas.toml").write_text('[analyze]\nwindow = "10s"\n')
    Path("t.csv").write_text("arrival_s,input_tokens,output_tokens\n" + "".join(f"{k},10,5\n" for k in range(60)))
    assert main(["analyze", "t.csv", "-q", "--out", "run"]) == 0
    manifest = json.loads(Path("run/manifest.json").read_bytes())
    assert "--window=10s" in manifest["argv"] and manifest["config"]["window_s"] == 10


def test_init_writes_what_can_be_read_and_overwrites_nothing(capsys):
    assert main(["init", "--fleet"]) == 0
    assert capsys.readouterr().out.split() == ["lmaas.toml", "fleet.yaml"]
    assert settings(ROOT) == []
    read_fleet(Path("fleet.yaml"))
    text = Path("lmaas.toml").read_text()
    Path("lmaas.toml").write_text(
        text.replace("\n# ", "\n").replace("\nTyped", "\n# Typed").replace("\n`lmaas", "\n# `lmaas")
    )
    assert {one.option for one in settings(ROOT)} >= {
        "policy",
        "slo",
        "gate",
        "attain",
        "by",
    }  # its examples are options
    Path("lmaas.toml").write_text("# mine\n")
    assert main(["init"]) == Exit.USAGE
    assert Path("lmaas.toml").read_text() == "# mine\n"


def test_show_says_where_from(files: Path, capsys):
    files.write_text("[evaluate]\nseed = 7\n")
    assert main(["config", "show", "--origin"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"evaluate --seed 7   from {files}"
    assert others and all(line.endswith("   from default") for line in others)
    assert main(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"][0]["values"] == ["7"]


@pytest.mark.parametrize("line", ['router = "mine.py:best"', 'policy = ["hpa", "preserve(router=../x.py:best)"]'])
def test_a_folders_file_names_no_code(files: Path, line):
    """It may come with somebody else's folder; the user's own file may."""
    Path("lmaas.toml").write_text(f"[evaluate]\n{line}\n")
    with pytest.raises(UserError, match="names code, which a folder's file may not have run") as error:
        settings(ROOT)
    assert error.value.code == Exit.CONFIG
    Path("lmaas.toml").unlink()
    files.write_text(f"[evaluate]\n{line}\n")
    assert any(".py:" in value for one in settings(ROOT) for value in one.values)


def test_a_typed_file_comes_after_the_environment_and_before_the_projects(files: Path, monkeypatch, capsys):
    files.write_text("[evaluate]\nseed = 1\n")
    Path("lmaas.toml").write_text('[evaluate]\nseed = 2\nprofile = "project"\n')
    night = Path("night.toml")
    night.write_text('[evaluate]\nseed = 3\nprofile = "night"\nrouter = "mine.py:ROUTER"\n')
    monkeypatch.setenv("LMAAS_EVALUATE_PROFILE", "environment")
    line = with_settings(["evaluate"], ROOT, night)
    assert sorted(line[1:]) == ["--profile=environment", "--router=mine.py:ROUTER", "--seed=3"]
    for typed in (["config", "show", "--config", "night.toml"], ["--config=night.toml", "config", "show"]):
        assert main(typed) == 0
        assert "evaluate --seed 3" in capsys.readouterr().out
    assert main(["config", "show", "--config", "none.toml"]) == Exit.CONFIG
    assert "none.toml: there is no such file" in capsys.readouterr().err
    assert main(["config", "show", "--config"]) == Exit.USAGE
    assert taken(["a", "--", "--config", "b"]) == (["a", "--", "--config", "b"], None)


def test_defaults_are_shown_with_their_origin(files: Path, capsys):
    files.write_text("[evaluate]\nattain = 0.9\n")
    assert main(["config", "show", "--origin"]) == 0
    shown = capsys.readouterr().out
    assert f"evaluate --attain 0.9   from {files}" in shown and "evaluate --attain 0.99" not in shown
    assert "evaluate --depth default   from default" in shown and "calibrate --block 16   from default" in shown
    assert main(["config", "show"]) == 0
    assert capsys.readouterr().out.splitlines() == ["evaluate --attain 0.9"]


def test_the_shell_completes_names(home: Path, capsys):
    assert complete.policies("pres") == ["preserve", "preserve-artifact", "preserve-hybrid"]
    assert "llama-3.1-8b/h100/tp1" in complete.profiles("llama-3.1-8b/h")
    assert complete.traces("") == [] and complete.runs("") == ["last"] and not home.exists()
    Path("day.csv").write_text("arrival_s,input_tokens,output_tokens\n0,1,1\n5,2,2\n")
    assert main(["ingest", "day.csv", "-q"]) == 0
    assert complete.traces("d") == ["day"] and complete.traces("e") == []
    (home / "traces" / "broken").mkdir()
    (home / "traces" / "broken" / "meta.json").write_text("{")
    assert complete.traces("d") == []  # silent


def test_completion_by_the_shell_itself(home: Path, monkeypatch, capsys):
    monkeypatch.setenv("_LMAAS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "lmaas evaluate --policy pres")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        ROOT.main([], prog_name="lmaas")
    assert "preserve" in capsys.readouterr().out.split()

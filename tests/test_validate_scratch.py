"""`validate` keeps nothing: its folder lies in the workspace, and what a killed one left goes with the next command."""

import os
import subprocess
import sys

import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import ingest
from lmaas.analysis.ingest_facts import describe
from lmaas.analysis.validate import SAID, validate
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main

HEAD = "arrival_s,input_tokens,output_tokens\n"
KILLED = """
import os, signal, sys
from lmaas.analysis import prepared, validate
from lmaas.analysis.workspace import Workspace
prepared.describe = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
validate.validate(sys.argv[1], Workspace.open())
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    path = tmp_path / "t.csv"
    path.write_text(HEAD + "".join(f"{k},{100 + k},{10 + k % 7}\n" for k in range(300)))
    return path


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("after", [validate, ingest])
def test_what_a_killed_validate_leaves_is_in_the_workspace_and_goes_with_the_next_command(source, tmp_path, after):
    assert describe.__name__ == "describe"  # what the killed process replaces
    inputs = sorted(p.name for p in tmp_path.iterdir())
    dead = subprocess.run(
        [sys.executable, "-c", KILLED, str(source)],
        capture_output=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert dead.returncode == -9
    traces = tmp_path / "home" / "traces"
    (left,) = traces.iterdir()
    assert left.name.startswith(".tmp-") and (left / "trace.parquet").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*inputs, "home"])
    after(source, Workspace.open(), say=quiet)
    assert not left.exists()


def test_a_workspace_that_is_there_stays_as_it_is(source, tmp_path):
    other = tmp_path / "o.csv"
    other.write_text(HEAD + "1,2,3\n")
    ingest(other, Workspace.open(), say=quiet)
    before = sorted(map(str, (tmp_path / "home").rglob("*")))
    validate(source, Workspace.open(), say=quiet)
    assert sorted(map(str, (tmp_path / "home").rglob("*"))) == before


def test_a_source_that_is_no_trace_leaves_nothing_either(source, tmp_path):
    source.write_text(HEAD + "x,y,z\n")
    with pytest.raises(UserError, match="none of its 1 rows is a request"):
        validate(source, Workspace.open(), say=quiet)
    assert not (tmp_path / "home").exists()


def test_a_workspace_that_cannot_be_written_is_an_environment_error(source, tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(UserError, match="cannot be written") as caught:
        validate(source, Workspace.open(), say=quiet)
    assert caught.value.code == Exit.ENVIRONMENT


def test_what_a_finding_says_is_not_said_again_as_a_note(source, capsys):
    rows = [f"2026-03-01 10:{k // 60 % 60:02}:{k % 60:02},{100 + k},{10 + k % 7}\n" for k in range(300)]
    rows[5], rows[6] = rows[6], rows[5]
    source.write_text("TIMESTAMP,ContextTokens,GeneratedTokens,other\n" + "".join([*rows, rows[-1]]))
    found = validate(source, Workspace.open(), say=quiet)
    for note, finding in SAID.items():
        assert any(note in said for said in found.trace.notes), note
        assert any(finding in said for said in found.quality.findings), finding
    assert found.notes == ("not read: other",)
    assert main(["validate", str(source)]) == Exit.OK
    told = capsys.readouterr().out
    assert "not read: other" in told and told.count("no time zone") + told.count("no zone") == 1

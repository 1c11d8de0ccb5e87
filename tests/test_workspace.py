"""The workspace holds the old state or the new, whatever happens to the process; run folders say how they were made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lmaas.analysis import catalogue
from lmaas.analysis import disk as module
from lmaas.analysis.disk import write_atomically
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import ingest, open_trace
from lmaas.analysis.rundir import RunDir, plain
from lmaas.analysis.workspace import CATALOGUE, Workspace

HEADER = "arrival_s,input_tokens,output_tokens\n"
INGEST = """
import sys
from pathlib import Path
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace
print("ready", flush=True)
print(ingest(Path(sys.argv[1]), Workspace.open(Path(sys.argv[2])), say=lambda _: None).meta.trace_id, flush=True)
"""
HOLD = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.open(tmp_path / "home")


@pytest.fixture
def store(workspace, tmp_path):
    def _store(text: str, name: str = "t.csv", **options):
        path = tmp_path / name
        path.write_text(HEADER + text)
        return ingest(path, workspace, say=lambda _: None, **options)

    return _store


def folders(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.root / "traces").iterdir())


def test_opening_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "there"))
    workspace = Workspace.open()
    assert workspace.root == tmp_path / "there"
    assert workspace.current() is None
    assert not workspace.root.exists()
    monkeypatch.delenv("LMAAS_HOME")
    monkeypatch.chdir(tmp_path)
    assert Workspace.open().root == tmp_path / ".lmaas"


def test_the_id_is_of_content_and_reading_not_of_the_name(store):
    first, same = store("1,2,3\n", "a.csv"), store("1,2,3\n", "b.csv")
    assert first.meta.trace_id == same.meta.trace_id
    assert same.meta.name == "a"
    swapped = {"arrival_s": "arrival_s", "input_tokens": "output_tokens", "output_tokens": "input_tokens"}
    others = [
        store("1,2,4\n"),
        store("1,2,3\n", mapping=swapped, time_unit="s"),
        store("1,2,3\n", mapping=swapped, time_unit="ms"),
    ]
    assert len({first.meta.trace_id, *(other.meta.trace_id for other in others)}) == 4
    assert others[2].table("arrival_s", "input_tokens").rows() == [(0.001, 3)]


def test_the_current_trace_is_the_last_used(store, workspace):
    first, second = store("1,2,3\n", "one.csv"), store("4,5,6\n", "two.csv")
    assert workspace.current() == second
    assert open_trace("one", workspace) == first
    assert open_trace(None, workspace, say=lambda _: None) == first
    assert workspace.trace(second.meta.trace_id) == second
    assert workspace.trace(second.meta.trace_id[:6]) == second
    assert [row["name"] for row in workspace.traces()] == ["one", "two"]


def test_of_two_traces_with_a_name_the_last_used_is_meant(store, workspace):
    store("1,2,3\n", "t.csv")
    second = store("4,5,6\n", "t.csv")
    assert workspace.trace("t") == second


def test_a_trace_can_be_named_even_when_it_is_stored_already(store, workspace):
    store("1,2,3\n")
    assert store("1,2,3\n", name="x.csv").meta.name == "t"
    path = workspace.root.parent / "t.csv"
    assert open_trace(str(path), workspace, name="mine", say=lambda _: None).meta.name == "mine"
    assert workspace.trace("mine").meta.name == "mine"


def test_an_unknown_name_says_what_is_there(store, workspace):
    store("1,2,3\n", "production.csv")
    for argument, words in (("prodution", "did you mean 'production'"), ("zzz", "stored are production")):
        with pytest.raises(UserError, match=words) as caught:
            open_trace(argument, workspace)
        assert caught.value.code == Exit.INPUT


def test_an_empty_workspace_uses_the_bundled_sample_and_says_so(workspace):
    said: list[str] = []
    trace = open_trace(None, workspace, say=said.append)
    assert "bundled sample" in said[0]
    assert (trace.meta.name, trace.meta.format) == ("sample", "canonical")
    assert trace.meta.rows_kept == trace.meta.rows_read > 1000
    assert trace.meta.epoch_kind == "known"
    assert open_trace(None, workspace, say=said.append) == trace


def test_a_lost_catalogue_is_made_again_from_the_folders(store, workspace):
    first, second = store("1,2,3\n", "a.csv"), store("4,5,6\n", "b.csv")
    (workspace.root / CATALOGUE).unlink()
    assert workspace.trace("a") == first
    assert workspace.trace("b") == second


def test_a_damaged_catalogue_says_what_to_do(store, workspace):
    store("1,2,3\n")
    (workspace.root / CATALOGUE).write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match=CATALOGUE) as caught:
        workspace.traces()
    assert caught.value.code == Exit.ENVIRONMENT


def test_a_failed_ingest_leaves_nothing(store, workspace):
    kept = store("1,2,3\n", "good.csv")
    with pytest.raises(UserError):
        store("x,2,3\n", "bad.csv")
    assert folders(workspace) == [kept.meta.trace_id]
    assert [row["name"] for row in workspace.traces()] == ["good"]


def test_a_file_that_grows_while_it_is_read_is_refused(workspace, tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "1,2,3\n")
    from lmaas.analysis import prepared

    write_rows = prepared.write_rows

    def grow(*arguments, **more):
        with path.open("a") as file:
            file.write("2,3,4\n")
        return write_rows(*arguments, **more)

    monkeypatch.setattr(prepared, "write_rows", grow)
    with pytest.raises(UserError, match="changed while it was read"):
        ingest(path, workspace, say=lambda _: None)
    assert workspace.current() is None


def big_csv(path: Path, rows: int = 200_000) -> Path:
    rng = np.random.default_rng(5)
    arrivals = rng.permutation(rows) / 10  # unsorted: the longer way
    columns = {"arrival_s": arrivals, "input_tokens": rng.integers(1, 9999, rows), "output_tokens": [1] * rows}
    pl.DataFrame(columns).write_csv(path)
    return path


def test_two_processes_ingest_at_once(tmp_path, workspace):
    source = big_csv(tmp_path / "big.csv", rows=50_000)
    command = [sys.executable, "-c", INGEST, str(source), str(workspace.root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ids = {process.communicate()[0].split()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert folders(workspace) == list(ids)
    assert len(workspace.traces()) == 1


def test_a_held_catalogue_is_waited_for_and_then_named(store, workspace, monkeypatch):
    store("1,2,3\n")
    path = workspace.root / CATALOGUE
    for hold_s, wait_s in ((0.5, 20.0), (30.0, 0.3)):
        monkeypatch.setattr(catalogue, "LOCK_WAIT_S", wait_s)
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), str(hold_s)], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            if hold_s < wait_s:
                assert len(workspace.traces()) == 1
                continue
            with pytest.raises(UserError, match="another lmaas process") as caught:
                workspace.traces()
            assert caught.value.code == Exit.ENVIRONMENT
        finally:
            holder.kill()
            holder.communicate()


def test_a_workspace_that_cannot_be_written_is_an_environment_error(tmp_path):
    source = tmp_path / "t.csv"
    source.write_text(HEADER + "1,2,3\n")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="LMAAS_HOME") as caught:
        ingest(source, Workspace.open(tmp_path / "file"), say=lambda _: None)
    assert caught.value.code == Exit.ENVIRONMENT


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_workspace_is_an_environment_error(tmp_path):
    (tmp_path / "home").mkdir(mode=0o555)
    with pytest.raises(UserError) as caught:
        RunDir.create(Workspace.open(tmp_path / "home"), "analyze", "x", [], {})
    assert caught.value.code == Exit.ENVIRONMENT


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    write_atomically(path, b"old")

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "sync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]
    assert path.read_bytes() == b"old"


def test_a_run_folder_tells_how_it_was_made(store, workspace):
    trace = store("1,2,3\n")
    run = RunDir.create(workspace, "evaluate", "preserve(lookahead=200)", ["lmaas", "evaluate"], {"window_s": 600.0})
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["exit_code"] is None
    run.write_json("metrics.json", {"b": float("nan"), "a": np.float64(1.5), "c": (1, 2)})
    run.write_table("scores.parquet", pl.DataFrame({"x": [1]}))
    run.write_text("log.txt", "done")
    assert (run.path / "metrics.json").read_text() == '{\n  "a": 1.5,\n  "b": null,\n  "c": [\n    1,\n    2\n  ]\n}\n'
    assert pl.read_parquet(run.path / "scores.parquet")["x"].to_list() == [1]
    run.finish(3, trace=trace.meta, timings={"replay": 0.5})
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["exit_code"] == 3
    assert manifest["input"]["trace_id"] == trace.meta.trace_id
    assert manifest["input"]["rows_read"] == 1
    assert manifest["timings_s"] == {"replay": 0.5}
    assert manifest["config"] == {"window_s": 600.0}
    assert manifest["packages"]["polars"] == pl.__version__
    assert manifest["started"] <= manifest["ended"]
    assert [row["run_id"] for row in workspace.runs()] == [run.path.name]
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_a_run_folder_is_append_only_and_keeps_to_itself(workspace):
    run = RunDir.create(workspace, "analyze", "../../x <b>", [], {})
    assert run.path.parent == workspace.root / "runs"
    run.write_text("a.txt", "1")
    with pytest.raises(FileExistsError):
        run.write_text("a.txt", "2")
    for name in ("../a.txt", "/tmp/a.txt", ".hidden", "x/y"):
        with pytest.raises(ValueError, match="no file name"):
            run.write_text(name, "1")


def test_runs_of_the_same_second_have_folders_of_their_own(workspace):
    runs = [RunDir.create(workspace, "analyze", "same", [], {}) for _ in range(20)]
    assert len({run.path for run in runs}) == 20


def test_plain_values_are_json_and_reproducible():
    value = {
        "path": Path("a"),
        "set": {3, 1, 2},
        "array": np.array([1.0, np.inf]),
        5: np.int64(2),
        "flag": np.bool_(True),
    }
    assert plain(value) == {"path": "a", "set": [1, 2, 3], "array": [1.0, None], "5": 2, "flag": True}
    assert json.dumps(plain(value), allow_nan=False)

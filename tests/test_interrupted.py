"""Ingest against kill -9, a full disk and refused permissions: the workspace opens, and the same command finishes."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lmaas.analysis.errors import Exit
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import CATALOGUE, Workspace

HEADER = "arrival_s,input_tokens,output_tokens\n"
ROWS = 150_000
KILLS = 50  # at as many moments of an ingest, evenly spread
KILLED = """
import os, sys
from pathlib import Path
import duckdb, polars, pyarrow
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace
for _ in sys.stdin:  # an ingest a line, each a process of its own that has its imports already
    if child := os.fork():
        sys.stdin.readline()  # until then its id is no other process's
        os.waitpid(child, 0)
        print("ended", flush=True)
    else:
        print(os.getpid(), flush=True)
        ingest(Path(sys.argv[1]), Workspace.open(Path(sys.argv[2])), say=lambda _: None)
        os._exit(0)
"""
LIMITED = """
import resource, sys
import duckdb, polars, pyarrow
from lmaas.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
sys.exit(main(["ingest", sys.argv[1], "--json"]))
"""


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.open(tmp_path / "home")


@pytest.fixture
def source(tmp_path):
    """Unsorted, with a row to be set aside: the long way."""
    path, rng = tmp_path / "big.csv", np.random.default_rng(5)
    columns = {"arrival_s": rng.permutation(ROWS) / 10, "input_tokens": rng.integers(1, 9999, ROWS)}
    pl.DataFrame(columns | {"output_tokens": [1] * ROWS}).write_csv(path)
    with path.open("a") as file:
        file.write("x,1,1\n")
    return path


def folders(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.root / "traces").iterdir())


@pytest.fixture
def ingests(source, workspace):
    """Starts an ingest of `source` and returns its process id; its second function waits until it is gone."""
    command = [sys.executable, "-c", KILLED, str(source), str(workspace.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as server:
        assert server.stdin is not None and server.stdout is not None

        def start() -> int:
            server.stdin.write("\n")
            return int(server.stdout.readline())

        def wait() -> None:
            server.stdin.write("\n")
            assert server.stdout.readline() == "ended\n"

        yield start, wait
        server.stdin.close()


def test_killed_at_any_point(tmp_path, workspace, ingests):
    old = tmp_path / "old.csv"
    old.write_text(HEADER + "1,2,3\n")
    before = ingest(old, workspace, say=lambda _: None)
    start, wait = ingests
    began = time.monotonic()
    start()
    wait()
    usual_s = time.monotonic() - began
    rng, early = random.Random(4), 0
    for k in rng.sample(range(KILLS), KILLS):
        for folder in (workspace.root / "traces").glob("[!.]*"):  # each time the ingest has all to do
            if folder.name != before.meta.trace_id:
                shutil.rmtree(folder)
        if rng.random() < 0.3:
            (workspace.root / CATALOGUE).unlink(missing_ok=True)  # to be made again
        process = start()
        time.sleep((k + rng.random()) / KILLS * usual_s)
        os.kill(process, signal.SIGKILL)
        wait()
        assert workspace.trace("old") == before
        assert {row["rows"] for row in workspace.traces()} <= {1, ROWS}
        whole = list((workspace.root / "traces").glob("[!.]*"))
        early += len(whole) == 1
        for folder in whole:  # every folder with a final name is whole
            assert pl.read_parquet(folder / "trace.parquet").height in (1, ROWS)
            assert json.loads((folder / "meta.json").read_text())["trace_id"] == folder.name
    assert early > 0, "no kill came before the end: the test tests nothing"
    start()
    wait()
    (new,) = set(folders(workspace)) - {before.meta.trace_id}  # the leavings of the dead are gone
    assert workspace.trace("big").meta.trace_id == new
    assert workspace.trace("big").table("arrival_s")["arrival_s"].is_sorted()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [1_000, 5_000, 100_000, 600_000])
def test_a_full_disk_ends_cleanly_and_the_same_command_finishes_later(workspace, source, limit):
    environment = os.environ | {"LMAAS_HOME": str(workspace.root)}
    limited = [sys.executable, "-c", LIMITED, str(source), str(limit)]
    done = subprocess.run(limited, env=environment, capture_output=True, text=True)
    assert done.returncode == Exit.ENVIRONMENT, done.stderr
    assert "Traceback" not in done.stderr
    assert "LMAAS_HOME" in done.stderr + done.stdout
    assert folders(workspace) == []
    assert ingest(source, workspace, say=lambda _: None).meta.rows_kept == ROWS


def test_a_disk_too_full_for_the_catalogue(tmp_path, workspace):
    source = tmp_path / "small.csv"
    source.write_text(HEADER + "1,2,3\n")
    limited = [sys.executable, "-c", LIMITED, str(source), "5000"]
    done = subprocess.run(limited, env=os.environ | {"LMAAS_HOME": str(workspace.root)}, capture_output=True, text=True)
    assert done.returncode == Exit.ENVIRONMENT
    assert "Traceback" not in done.stderr
    trace = ingest(source, workspace, say=lambda _: None)
    assert [row["trace_id"] for row in workspace.traces()] == [trace.meta.trace_id]


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_a_catalogue_cut_short_is_made_again(tmp_path, workspace, content):
    source = tmp_path / "small.csv"
    source.write_text(HEADER + "1,2,3\n")
    trace = ingest(source, workspace, say=lambda _: None)
    (workspace.root / CATALOGUE).write_bytes(content)
    assert workspace.trace("small") == trace


def test_an_empty_catalogue_is_filled_from_the_folders(tmp_path, workspace):
    import duckdb

    source = tmp_path / "small.csv"
    source.write_text(HEADER + "1,2,3\n")
    trace = ingest(source, workspace, say=lambda _: None)
    (workspace.root / CATALOGUE).unlink()
    duckdb.connect(str(workspace.root / CATALOGUE)).close()
    assert workspace.trace("small") == trace


@pytest.mark.parametrize("what", ["file", "folder"])
def test_refused_permissions(tmp_path, workspace, what):
    if os.geteuid() == 0:
        pytest.skip("root reads and writes everywhere")
    source = tmp_path / "small.csv"
    source.write_text(HEADER + "1,2,3\n")
    Path(source if what == "file" else tmp_path).chmod(0o000 if what == "file" else 0o555)
    done = subprocess.run(
        [sys.executable, "-m", "lmaas.cli.main", "ingest", str(source)],
        env=os.environ | {"LMAAS_HOME": str(workspace.root)},
        capture_output=True,
        text=True,
    )
    tmp_path.chmod(0o755)
    assert done.returncode == (Exit.INPUT if what == "file" else Exit.ENVIRONMENT)
    assert "Traceback" not in done.stderr

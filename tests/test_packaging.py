"""The wheel holds every room, installs alone, and works from there; imports stay as the house wants them."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

ROOMS = ("analysis", "replay", "policies", "reports", "cli", "sample_traces")


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LMAAS_", "PYTHON"))}
    done = subprocess.run(
        [str(x) for x in command], cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    tree = tmp_path_factory.mktemp("tree") / "lmaas"
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout.split()
    for name in listed:  # a clean copy: a build folder in the checkout would leak stale files into the wheel
        source = ROOT / name
        if source.is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(source.read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, tree, cwd=out)
    (built,) = out.glob("lmaas-*.whl")
    return built


def test_wheel_holds_every_file_of_every_room(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            relative = path.relative_to(ROOT)
            if path.is_file() and "__pycache__" not in relative.parts and path.suffix != ".pyc":
                assert f"lmaas/{relative.as_posix()}" in inside, f"{relative} is missing from the wheel"
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in inside)


def test_wheel_installs_alone_and_evaluates(wheel, tmp_path):
    """A fresh environment outside the checkout, with its own dependencies."""
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    done = run(
        scripts / "lmaas", "evaluate", "--policy", "static(replicas=12)", "--baseline", "none", "--train-fraction",
        "0.9", "--json", cwd=tmp_path, LMAAS_HOME=str(tmp_path / "home"),
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["ok"] is True
    assert said["results"][0]["arrived"] > 10_000
    assert "checkout" not in said["run"]


def test_no_module_is_imported_by_its_bare_folder():
    """From the checkout `import replay` works too and would load a module twice."""
    bare = re.compile(rf"^\s*(from|import)\s+({'|'.join(ROOMS)})\b", re.MULTILINE)
    files = [p for room in (*ROOMS, "tests", "benchmarks") for p in (ROOT / room).rglob("*.py")]
    assert len(files) > 50
    for path in files:
        assert not bare.search(path.read_text()), path


def test_a_read_only_install_replays(tmp_path):
    """Where numba may write neither beside the package nor at home, kernel and routers compile for the process."""
    for room in ("analysis", "replay"):
        shutil.copytree(ROOT / room, tmp_path / "lmaas" / room, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [path for path in (tmp_path / "lmaas").rglob("*") if path.is_dir()]:
        (folder / "__pycache__").touch()  # a file where the folder would be: root may write to read-only folders
    program = (
        "import lmaas.replay.kernel.loop as loop, lmaas.replay.routernames as routernames; "
        "print(loop.__file__); print(routernames.ready('round-robin', 0).route.stats.cache_path)"
    )
    nowhere = {"HOME": "/dev/null/x", "XDG_CACHE_HOME": "/dev/null/y", "PYTHONPATH": str(tmp_path)}
    where, cache = run(sys.executable, "-c", program, cwd=tmp_path, **nowhere).stdout.split()
    assert Path(where).is_relative_to(tmp_path) and cache == "None"

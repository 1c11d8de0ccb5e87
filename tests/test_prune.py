"""`lmaas runs prune`: what goes by age and by size, what stays, and what is said of it."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from evaluation_data import HOSTILE, evaluation

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.reports.marks import NO_MARKS, Marks
from lmaas.reports.pruning import UNENDED_S, parse_size, plan
from lmaas.reports.write import recording, write_evaluation

DAY_S = 86_400.0


def store(home: Path, label: str, days: float, size: int, marks: Marks = NO_MARKS, out: Path | None = None) -> Path:
    """A run that began so long ago, with so many bytes in one file beside its small ones."""
    with recording(Workspace(home), "evaluate", label, ["evaluate"], {}, out, marks) as run:
        path = write_evaluation(evaluation(), run).run
    began = datetime.fromtimestamp(time.time() - days * DAY_S, UTC)
    change(path, started=began.isoformat())
    for file in path.iterdir():
        if file.name not in ("manifest.json", "report.json"):
            file.unlink()
    (path / "large.bin").write_bytes(bytes(size))
    return path


def change(path: Path, **fields: object) -> None:
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps(manifest | fields))


def replay(home: Path, name: str, days: float, size: int = 1000) -> Path:
    path = home / "replays" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - days * DAY_S,) * 2)
    return path


def prune(capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    capsys.readouterr()
    assert main(["runs", "prune", *options, "--json"]) == Exit.OK
    return json.loads(capsys.readouterr().out)


def bytes_of(home: Path) -> int:
    return sum(
        path.stat().st_size for room in ("runs", "replays") for path in (home / room).rglob("*.*") if path.is_file()
    )


def test_what_is_old_goes_and_nothing_else(home: Path, capsys):
    old, new = store(home, "old", 40, 5000), store(home, "new", 20, 5000)
    gone, kept = replay(home, "a", 31), replay(home, "b", 29)
    before = bytes_of(home)
    dry = prune(capsys, "--older-than", "30d", "--dry-run")
    assert old.is_dir() and gone.is_file() and bytes_of(home) == before
    found = prune(capsys, "--older-than", "30d", "--yes")
    assert found == dry | {"dry_run": False}
    assert not old.exists() and not gone.exists() and new.is_dir() and kept.is_file()
    assert [one["run"] for one in found["removed"]] == [old.name] and found["replays_removed"] == 1
    assert found["bytes_left"] == bytes_of(home) == before - found["bytes_removed"]
    assert [run["run_id"] for run in Workspace(home).runs()] == [new.name]
    assert prune(capsys, "--older-than", "30d", "--yes")["bytes_removed"] == 0


def test_the_oldest_go_until_the_rest_is_small_enough(home: Path, capsys):
    """Runs and replays in one order of time; no more than has to."""
    runs = [store(home, f"r{days}", days, 3_000_000) for days in (9, 5, 1)]
    replays = [replay(home, "a", 7, 2_000_000), replay(home, "b", 3, 2_000_000)]
    found = prune(capsys, "--to-size", "9MB", "--yes")
    assert [path.exists() for path in (runs[0], replays[0], *runs[1:], replays[1])] == [False, False, True, True, True]
    assert 8e6 < found["bytes_left"] == bytes_of(home) <= 9e6
    assert prune(capsys, "--to-size", "9MB", "--yes")["bytes_removed"] == 0
    both = prune(capsys, "--to-size", "9MB", "--older-than", "4d", "--yes")
    assert [one["run"] for one in both["removed"]] == [runs[1].name]


def test_what_a_user_put_a_name_to_stays_unless_told(home: Path, tmp_path: Path, capsys):
    mine = store(home, "mine", 90, 10, out=tmp_path / "mine")
    own = store(home, "own", 90, 10, out=home / "runs" / "review")
    labelled = store(home, "labelled", 90, 10, Marks(label=HOSTILE))
    dated = store(home, "dated", 90, 10, Marks(decide_by="2026-12-18"))
    plain = store(home, "plain", 90, 10)
    (home / "runs" / "link").symlink_to(mine)
    found = prune(capsys, "--older-than", "1d", "--to-size", "1kB", "--yes")
    assert [one["run"] for one in found["removed"]] == [plain.name]
    assert {one["run"] for one in found["stays"]} == {"review", labelled.name, dated.name}
    assert main(["runs", "prune", "--to-size", "1kB", "--yes"]) == Exit.OK
    said = capsys.readouterr().out
    assert "over --to-size" in said and "its name was chosen" in said and "2026-12-18" in said
    prune(capsys, "--older-than", "1d", "--named", "--yes")
    assert not any(path.exists() for path in (own, labelled, dated)) and (mine / "manifest.json").is_file()


def test_a_run_that_may_still_be_at_it_stays(home: Path, capsys):
    at_it, crashed = store(home, "at-it", 0.5, 10), store(home, "crashed", UNENDED_S / DAY_S + 1, 10)
    damaged = store(home, "damaged", 0, 10)
    for path in (at_it, crashed):
        change(path, exit_code=None, ended=None)
    (damaged / "manifest.json").write_text("{")
    prune(capsys, "--to-size", "1kB", "--named", "--yes")
    assert at_it.is_dir() and damaged.is_dir() and not crashed.exists()


def test_it_asks_first(home: Path, capsys):
    path = store(home, "old", 40, 10)
    assert main(["runs", "prune", "--older-than", "30d"]) == Exit.USAGE  # nobody is there to ask
    assert path.is_dir() and "--yes" in capsys.readouterr().err
    assert main(["runs", "prune", "--older-than", "50d"]) == Exit.OK  # nothing to ask


@pytest.mark.parametrize(
    "older, size, said",
    [
        (None, None, "--older-than 30d"),
        ("30", None, "--older-than"),
        (None, "2", "500MB or 2GB"),
        (None, "-1MB", "size"),
    ],
)
def test_what_is_no_age_and_no_size_is_said(older, size, said, home):
    with pytest.raises(UserError, match=said) as error:
        plan(Workspace(home), older, size, named=False)
    assert error.value.code == Exit.USAGE


def test_sizes():
    assert [parse_size(size) for size in ("500MB", "2 GB", "1.5kb", "1TB")] == [5e8, 2e9, 1500.0, 1e12]

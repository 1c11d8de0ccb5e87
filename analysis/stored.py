"""Runs that were written before: found by what a user calls them, and read as they were left."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .disk import environment_errors
from .errors import Exit, UserError
from .formats.source import shown
from .workspace import SHORT_ID, Workspace

if TYPE_CHECKING:
    import polars as pl

LAST = "last"
MARK = 4  # signs at the end of a run's name


@dataclass(frozen=True)
class StoredRun:
    """A run's folder and its manifest (docs/structure.md); the rest is read when asked for."""

    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.name

    @property
    def verb(self) -> str:
        """What made it, such as evaluate."""
        return str(self.manifest.get("verb"))

    def read(self, name: str) -> dict[str, Any]:
        """The JSON file `name` of the run; UserError (exit 4) where it is missing, damaged or of a later version."""
        found = _object(self.path / name)
        version = str(found.get("schema_version", "1"))
        if version.partition(".")[0] != "1":
            raise UserError(f"run {shown(self.name)}: {name} is of version {shown(version, 20)}; this lmaas reads 1.x")
        return found

    def table(self, name: str) -> "pl.DataFrame | None":
        """The Parquet table `name` of the run, None where it has none; UserError (exit 4) where it is damaged."""
        import polars as pl  # deferred: `runs list` goes without

        path = self.path / f"{name}.parquet"
        if not path.is_file():
            return None
        try:
            return pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({shown(str(error), 120)})") from None


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"run {shown(path.parent.name)} has no {path.name}: it did not end, or is none") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({shown(str(error), 120)})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no JSON object")
    return found


def stored_runs(workspace: Workspace) -> Iterator[StoredRun]:
    """The runs in the workspace's folder, the latest first, also those that did not end; what is no run is skipped."""
    runs = workspace.root / "runs"
    for folder in sorted(runs.iterdir() if runs.is_dir() else (), key=lambda path: path.name, reverse=True):
        if (folder / "manifest.json").is_file() and not folder.is_symlink() and not folder.name.startswith("."):
            try:
                yield StoredRun(folder, _object(folder / "manifest.json"))
            except UserError:
                yield StoredRun(folder, {})


def find_run(called: str, workspace: Workspace) -> StoredRun:
    """The run that `called` means: `last`, a folder or a file in one, or a name of the workspace.

    The beginning of a name does (six signs), or its last four, where only one run has it. UserError (exit 4).
    """
    runs = list(stored_runs(workspace))
    if called == LAST and runs:
        return next((run for run in runs if run.manifest.get("exit_code") is not None), runs[0])
    by_name = {run.name: run for run in runs}
    if called in by_name:
        return by_name[called]
    path = Path(called).expanduser()
    folder = path.parent if path.is_file() else path
    if (folder / "manifest.json").is_file():
        return StoredRun(folder.absolute(), _object(folder / "manifest.json"))
    short = [name for name in by_name if _means(called, name)]
    if len(short) == 1:
        return by_name[short[0]]
    if short:
        many = f"{len(short)} runs, such as {short[0]} and {short[1]}"
        raise UserError(f"'{shown(called)}' means {many}; write more of the name", Exit.USAGE)
    near = get_close_matches(called, by_name, n=1)
    hint = f"did you mean {near[0]}?" if near else "see `lmaas runs list`" if runs else "there is none yet"
    raise UserError(f"no run and no run's folder named '{shown(called)}'; {hint}")


def _means(called: str, name: str) -> bool:
    return (len(called) >= SHORT_ID and name.startswith(called)) or (
        len(called) == MARK and name.endswith(f"-{called}")
    )


def removable(run: StoredRun, workspace: Workspace) -> None:
    """UserError (exit 2) for a run that is not a folder of its own in the workspace: those are never removed."""
    runs = workspace.root / "runs"
    inside = runs.resolve().parent == workspace.root.resolve() and run.path.resolve().parent == runs.resolve()
    if not inside or run.path.is_symlink():
        raise UserError(f"{run.path} is not in the workspace {workspace.root}; remove it yourself", Exit.USAGE)


def remove_run(run: StoredRun, workspace: Workspace) -> None:
    """Remove a run of the workspace, its folder by one rename first; UserError (exit 2, 8) where that cannot be."""
    removable(run, workspace)
    with environment_errors(workspace.root):
        going = run.path.with_name(f".{run.name}-removed")
        run.path.rename(going)
        shutil.rmtree(going)
    workspace.forget_run(run.name)

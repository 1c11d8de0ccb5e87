"""What `lmaas runs prune` removes: runs and kept replays that are old, or the oldest until the rest is small enough."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lmaas.analysis.disk import environment_errors
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.stored import StoredRun, remove_run, stored_runs
from lmaas.analysis.units import parse_duration
from lmaas.analysis.workspace import Workspace

from .format import many, text
from .marks import DECIDE_BY
from .section import Column, Section, table

UNENDED_S = 86_400.0  # a run that did not end and began since may still be at it
_OWN = re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z-.*")  # names that the tool gives
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kMGT])B", re.IGNORECASE)
_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
COLUMNS = (Column("run", "Run"), Column("began", "Began"), Column("size", "Size"))
STAYS = (Column("run", "Run"), Column("why", "Why it stays"))


@dataclass(frozen=True)
class Item:
    """A run, or a kept replay (run None); at_s: when it began, or was last asked for; stays: why it is not removed."""

    path: Path
    run: StoredRun | None
    at_s: float
    size: int
    stays: str = ""


@dataclass(frozen=True)
class Pruned:
    """gone: the oldest first; left: all others; limit: bytes that should be left at most, None: not asked."""

    gone: tuple[Item, ...]
    left: tuple[Item, ...]
    limit: float | None


def plan(workspace: Workspace, older_than: str | None, to_size: str | None, named: bool) -> Pruned:
    """What is to go; older_than such as 30d, to_size such as 2GB, of runs and kept replays together.

    named: also runs that carry a label or a date to decide by, or a name that a user chose. UserError (exit 2) for what
    is no duration or size, and where neither is given.
    """
    if older_than is None and to_size is None:
        raise UserError("say which: --older-than 30d, --to-size 2GB, or both", Exit.USAGE)
    age_s = None if older_than is None else parse_duration(older_than, "--older-than")
    limit = None if to_size is None else parse_size(to_size)
    items = sorted(_items(workspace, named), key=lambda item: (item.at_s, item.path.name))
    left = sum(item.size for item in items)
    gone = []
    for item in items:
        old = age_s is not None and time.time() - item.at_s >= age_s
        if not item.stays and (old or (limit is not None and left > limit)):
            gone.append(item)
            left -= item.size
    paths = {item.path for item in gone}
    return Pruned(tuple(gone), tuple(item for item in items if item.path not in paths), limit)


def parse_size(size: str) -> float:
    """Bytes of 500MB or 2GB (powers of 1,000); UserError (exit 2)."""
    found = _SIZE.fullmatch(size.strip())
    if found is None:
        raise UserError(f"--to-size '{text(size)}' is not a size such as 500MB or 2GB", Exit.USAGE)
    return float(found["number"]) * _UNITS[found["unit"].lower()]


def remove(pruned: Pruned, workspace: Workspace) -> None:
    """Remove what is to go; UserError (exit 2, 8) where that cannot be."""
    for item in pruned.gone:
        if item.run is not None:
            remove_run(item.run, workspace)
        else:
            with environment_errors(workspace.root):
                item.path.unlink(missing_ok=True)  # another process may have been faster


def _items(workspace: Workspace, named: bool) -> Iterator[Item]:
    for run in stored_runs(workspace):
        began_s = _began_s(run)
        yield Item(run.path, run, began_s, _size(run.path), _stays(run, began_s, named))
    for path in (workspace.root / "replays").glob("*.json"):
        try:
            found = path.stat()
        except OSError:
            continue
        yield Item(path, None, found.st_mtime, found.st_size)


def _began_s(run: StoredRun) -> float:
    try:
        return datetime.fromisoformat(str(run.manifest.get("started"))).timestamp()
    except ValueError:
        return run.path.stat().st_mtime


def _stays(run: StoredRun, began_s: float, named: bool) -> str:
    if run.manifest.get("exit_code") is None and time.time() - began_s < UNENDED_S:
        return "it did not end, and may still run"
    if named:
        return ""
    if not _OWN.fullmatch(run.name):
        return "its name was chosen"
    return _marked(run.path / "report.json")


def _marked(path: Path) -> str:
    """Whether somebody put a label or a date on its report; one that cannot be read has none."""
    try:
        found: Any = json.loads(path.read_bytes())
        label, decide_by = found.get("label"), found.get("facts", {}).get(DECIDE_BY)
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return f"labelled {label}" if label else f"to be decided by {decide_by}" if decide_by else ""


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def size_said(size: float) -> str:
    """'12.3 MB'."""
    power = next((p for p in (4, 3, 2) if size >= 1000**p), 1)
    return f"{size / 1000**power:,.1f}\N{NO-BREAK SPACE}{'?kMGT'[power]}B"


def named(pruned: Pruned) -> str:
    """'2 runs and 12 kept replays, 3.4 MB'."""
    runs = sum(item.run is not None for item in pruned.gone)
    replays = len(pruned.gone) - runs
    return f"{many(runs, 'run')} and {many(replays, 'kept replay')}, {size_said(_sum(pruned.gone))}"


def told(pruned: Pruned, dry_run: bool) -> tuple[Section, ...]:
    """What went, or would, and what is left."""
    runs = [item for item in pruned.gone if item.run]
    stays = [item for item in pruned.left if item.stays]
    gone = pl.DataFrame(
        [{"run": item.path.name, "began": _day(item), "size": size_said(item.size)} for item in runs],
        schema={"run": pl.String, "began": pl.String, "size": pl.String},
    )
    kept = pl.DataFrame([{"run": item.path.name, "why": item.stays} for item in stays])
    over = pruned.limit is not None and _sum(pruned.left) > pruned.limit
    notes = ("What is left is over --to-size: the runs below stay.",) if over and stays else ()
    tables = (
        *((table("Would be removed" if dry_run else "Removed", gone, COLUMNS),) if runs else ()),
        *((table("Not removed", kept, STAYS),) if stays else ()),
    )
    verb, are = ("Would remove", "would be") if dry_run else ("Removed", "are")
    finding = f"{verb} {named(pruned)}; {size_said(_sum(pruned.left))} {are} left."
    return (Section("prune", "Prune", finding, tables=tables, notes=notes),)


def facts(pruned: Pruned, dry_run: bool) -> dict[str, Any]:
    """What `--json` prints; sizes in bytes."""
    runs = [item for item in pruned.gone if item.run]
    return {
        "dry_run": dry_run,
        "removed": [{"run": item.path.name, "bytes": item.size} for item in runs],
        "replays_removed": len(pruned.gone) - len(runs),
        "bytes_removed": _sum(pruned.gone),
        "bytes_left": _sum(pruned.left),
        "stays": [{"run": item.path.name, "why": item.stays} for item in pruned.left if item.stays],
    }


def _sum(items: Sequence[Item]) -> int:
    return sum(item.size for item in items)


def _day(item: Item) -> str:
    return datetime.fromtimestamp(item.at_s).astimezone().date().isoformat()

"""Finished replays, kept in the workspace: a command that was stopped goes on from where it was."""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from lmaas.analysis.disk import environment_errors, write_atomically
from lmaas.analysis.forecasting.forecaster import FORECASTERS
from lmaas.analysis.trace import Trace
from lmaas.replay.routers import ROUTERS

from ..prepare import Prepared
from ..registry import Named
from ..told import TRUTH

Found = dict[str, Any]  # what JSON can hold
UNUSED_S = 30 * 86_400.0  # what nobody asked for in a month is of another version of the tool, or forgotten
PACKAGES = ("numpy", "polars", "numba", "scipy", "statsforecast", "xgboost-cpu", "xgboost")


@dataclass(frozen=True)
class Kept:
    """A folder of replays, a JSON file each, named by a hash of all that determines it; None: nothing is kept.

    question: `question_of` what is replayed. A file that is damaged, or says that it answers something else, counts as
    none. Files are written whole or not at all, so any number of processes may share the folder.
    """

    folder: Path | None
    question: str

    def once(self, asked: Mapping[str, Any] | None, make: Callable[[], Found]) -> Found:
        """What is kept of `asked`, else made and kept; asked None: made every time."""
        found = self.get(asked)
        if found is None:
            found = make()
            self.put(asked, found)
        return found

    def get(self, asked: Mapping[str, Any] | None) -> Found | None:
        """What is kept of `asked`; None: nothing."""
        if self.folder is None or asked is None:
            return None
        said = self._said(asked)
        try:
            held = json.loads(self._path(said).read_bytes())
            os.utime(self._path(said))  # used now: `pruned` goes by it
            whole = held["asked"] == said and held["check"] == _digest(_text(held["found"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return held["found"] if whole and isinstance(held["found"], dict) else None

    def put(self, asked: Mapping[str, Any] | None, found: Found) -> None:
        """Keep it; UserError (exit 8) where the disk does not take it."""
        if self.folder is None or asked is None:
            return
        said, text = self._said(asked), _text(found)
        with environment_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            content = f'{{"asked": {_text(said)}, "check": "{_digest(text)}", "found": {text}}}\n'
            write_atomically(self._path(said), content.encode())

    def _said(self, asked: Mapping[str, Any]) -> str:
        return _text({"question": self.question, **asked})

    def _path(self, said: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{_digest(said)}.json"


def pruned(folder: Path | None, unused_s: float = UNUSED_S) -> tuple[int, int]:
    """(replays removed, their bytes): those that nobody asked for in that long; a file that cannot be is left."""
    removed = freed = 0
    for path in folder.glob("*.json") if folder is not None else ():
        try:
            found = path.stat()
            if time.time() - found.st_mtime >= unused_s:
                path.unlink()
                removed, freed = removed + 1, freed + found.st_size
        except OSError:
            continue
    return removed, freed


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def question_of(trace: Trace, ready: Prepared, train_fraction: float) -> str:
    """A hash of what every replay of an evaluation rests on: requests, fleet, limits, what was learned, the code."""
    flat = ready.requests.select(pl.exclude(pl.List(pl.UInt64), pl.List(pl.UInt32)))  # lists: trace_id stands for them
    parts = [
        trace.meta.trace_id, repr(trace.meta.selection), _digest(flat.hash_rows(seed=0).to_numpy().tobytes().hex()),
        repr(ready.fleet), repr(sorted(ready.given)), repr(ready.limits), repr(ready.slos), repr(ready.rates),
        repr((ready.cut_s, ready.start_s, ready.end_s, ready.window_s, ready.seed, ready.attain, train_fraction)),
        code_version(),
    ]  # fmt: skip
    return _digest(_text(parts))


@cache
def code_version() -> str:
    """A hash of the code that replays are made by, and the versions of what it stands on."""
    found = blake2b(digest_size=16)
    for room in ("analysis", "replay", "policies"):
        folder = Path(str(files(f"lmaas.{room}")))
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("data/*.json")]):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    for name in PACKAGES:
        try:
            found.update(f"{name} {metadata.version(name)}".encode())
        except metadata.PackageNotFoundError:
            continue
    return found.hexdigest()


def known(named: Named) -> dict[str, Any] | None:
    """What determines a policy, for `Kept`; None where some of its code is not the tool's own, and may change."""
    policy = named.policy
    own = type(policy).__module__.startswith("lmaas.") and named.router.partition("(")[0].strip() in ROUTERS.builtin
    forecaster = getattr(policy, "forecaster", None)
    if not own or (forecaster not in (None, TRUTH) and forecaster not in FORECASTERS.builtin):
        return None
    return {"policy": f"{type(policy).__module__}.{policy!r}", "router": named.router}

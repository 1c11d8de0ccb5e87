"""Whether this machine can do the work: what is there, what is missing, and what would help."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from lmaas.analysis.disk import HOME
from lmaas.analysis.errors import Exit
from lmaas.analysis.workspace import Workspace

PYTHON = ((3, 11), (3, 13))  # as pyproject.toml has it
LEAST_DISK, LITTLE_DISK = 0.2e9, 5e9  # bytes
LITTLE_MEMORY = 2e9  # bytes
State = Literal["good", "note", "bad"]
MARKS: dict[State, str] = {"good": "✓", "note": "!", "bad": "✗"}


class Check(NamedTuple):
    """What was looked at, how it is, what was found and, where it could be better, what helps."""

    name: str
    state: State
    found: str
    helps: str = ""


def doctor(workspace: Workspace) -> tuple[Check, ...]:
    """Every check, in the order in which they matter."""
    parts: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        lambda: _workspace(workspace),
        _machine,
        _kernel,
        _browser,
    )
    return tuple(check for part in parts for check in part())


def ending(checks: tuple[Check, ...]) -> int:
    """0, or 8 where something is broken."""
    return Exit.ENVIRONMENT if any(check.state == "bad" for check in checks) else Exit.OK


def _python() -> Iterator[Check]:
    low, high = (".".join(map(str, version)) for version in PYTHON)
    fits = PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]
    found = f"{platform.python_version()}, {sys.executable}"
    yield Check("python", "good" if fits else "bad", found, "" if fits else f"install Python {low} to {high}")


def _packages() -> Iterator[Check]:
    """Those that lmaas is declared to need, by the names they are installed under."""
    yield Check("lmaas", "good", metadata.version("lmaas"))
    needed = [text for text in metadata.requires("lmaas") or () if "extra ==" not in text]
    there, gone = [], []
    for text in needed:
        name = re.split(r"[^\w.-]", text)[0]
        try:
            there.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            if "sys_platform" not in text:
                gone.append(name)
    if find_spec("xgboost") is None:
        gone.append("xgboost")
    yield Check("packages", "good", ", ".join(there))
    if gone:
        yield Check("missing", "bad", ", ".join(gone), f"pip install {' '.join(gone)}")


def _workspace(workspace: Workspace) -> Iterator[Check]:
    root = workspace.root
    nearest = next(path for path in (root, *root.parents) if path.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    found = f"{root}{'' if root.exists() else ', to be made'}"
    helps = "" if writable else f"set {HOME} to a folder that can be written"
    yield Check("workspace", "good" if writable else "bad", found if writable else f"{root}: cannot be written", helps)
    free = shutil.disk_usage(nearest).free
    state: State = "bad" if free < LEAST_DISK else "note" if free < LITTLE_DISK else "good"
    helps = "" if state == "good" else f"free some, remove runs (lmaas runs rm), or set {HOME} to another disk"
    yield Check("disk", state, f"{free / 1e9:,.1f} GB free", helps)


def _machine() -> Iterator[Check]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    polars = os.environ.get("POLARS_MAX_THREADS")
    limited = f", Polars limited to {polars} threads" if polars else ""
    yield Check("cores", "good", f"{usable} of {os.cpu_count()}{limited}")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        little = memory < LITTLE_MEMORY
        helps = "evaluate parts of long traces: ingest less, or use --fidelity window" if little else ""
        yield Check("memory", "note" if little else "good", f"{memory / 1e9:,.1f} GB", helps)


def _kernel() -> Iterator[Check]:
    import lmaas.replay.kernel as kernel
    from lmaas.replay.engine import compiled

    beside = Path(kernel.__path__[0]) / "__pycache__"
    folder = Path(os.environ["NUMBA_CACHE_DIR"]) if "NUMBA_CACHE_DIR" in os.environ else beside
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    kept = os.access(nearest, os.W_OK)
    helps = "" if kept else "set NUMBA_CACHE_DIR to a folder that can be written: else each command may compile anew"
    yield Check("kernel cache", "good" if kept else "note", str(folder), helps)
    if "NUMBA_CACHE_DIR" in os.environ:
        yield Check("kernel", "note", "not looked for where NUMBA_CACHE_DIR is set")
    elif compiled():
        yield Check("kernel", "good", "compiled for this machine")
    else:
        yield Check("kernel", "note", "not compiled yet", "the first evaluate compiles it, about a quarter of a minute")


def _browser() -> Iterator[Check]:
    yield Check("browser", "good", "none needed: reports are HTML files, made without one")

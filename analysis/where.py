"""`--where`: the rows of a trace of which an expression in DuckDB's language is true.

DuckDB runs in a process of its own (`where_child.py`) that may read the one Parquet file and nothing else,
has limits of memory and time, and answers with one bit a row: an expression can ask, and do nothing.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import Exit, UserError
from .formats.source import shown
from .trace import SCHEMA, Trace

TIME_LIMIT_S = 300.0
MEMORY_BYTES = 4 << 30  # of addresses, which is more than what is used: DuckDB's own limit is a quarter of it
CHILD = "lmaas.analysis.where_child"


def true_rows(
    trace: Trace, where: str, since_s: float | None = None, until_s: float | None = None
) -> npt.NDArray[np.bool_]:
    """Of every row of the file whether it lies in [since_s, until_s) and `where` is true of it.

    UserError (exit 2) where `where` is not one true-or-false expression over the columns, or asks for too much.
    """
    asked = {
        "path": trace.path.name,
        "where": where,
        "since_s": since_s,
        "until_s": until_s,
        "rows": trace.meta.rows_kept,
        "memory": MEMORY_BYTES,
        "columns": {name: str(dtype) for name, dtype in SCHEMA.items()},
    }
    answer = _ask(asked, trace.path.parent)
    if isinstance(answer, str):
        raise refused(where, answer, trace)
    return answer


def refused(where: str, why: str, trace: Trace) -> UserError:
    """What is said of an expression that cannot be run: itself, the reason, the columns there are."""
    have = ", ".join(name for name in SCHEMA if name in trace.meta.columns or name == "request_id")
    return UserError(f"--where '{shown(where, 200)}': {why}; columns: {have}", Exit.USAGE)


def _ask(asked: dict[str, Any], folder: Path) -> npt.NDArray[np.bool_] | str:
    """The child's answer, or why there is none."""
    try:
        # -P: a file duckdb.py in the folder one works in is not meant
        child = subprocess.run(
            [sys.executable, "-P", "-m", CHILD],
            cwd=folder,  # a folder may be called work[1], which DuckDB would read as a pattern
            input=json.dumps(asked).encode(errors="replace"),
            capture_output=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {TIME_LIMIT_S:g} s"
    if child.returncode == Exit.OK:
        bits = np.frombuffer(child.stdout, np.uint8)
        return np.unpackbits(bits, count=asked["rows"]).astype(bool)
    if child.returncode == Exit.USAGE:
        return shown(child.stdout.decode(errors="replace"), 400)
    if child.returncode < 0 or b"MemoryError" in child.stderr:
        return f"asked for more memory than there is for it ({MEMORY_BYTES >> 30} GB), or DuckDB could not run it"
    raise RuntimeError(f"{CHILD} ended with {child.returncode}: {child.stderr.decode(errors='replace')[-2000:]}")

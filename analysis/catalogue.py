"""The file that lists what a workspace holds: a DuckDB database, open for moments only, for one process at a time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .disk import HOME
from .errors import Exit, UserError
from .formats.source import shown

if TYPE_CHECKING:
    import duckdb

LOCK_WAIT_S = 10.0  # another process holds the catalogue for milliseconds; a longer wait means something is wrong
HEADER_BYTES = 3 * 4096  # of a DuckDB file

TABLES = """
CREATE TABLE IF NOT EXISTS traces (
    trace_id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, source VARCHAR NOT NULL, format VARCHAR NOT NULL,
    rows BIGINT NOT NULL, span_s DOUBLE NOT NULL, used BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    run_id VARCHAR PRIMARY KEY, verb VARCHAR NOT NULL, label VARCHAR NOT NULL, trace_id VARCHAR,
    started VARCHAR NOT NULL, ended VARCHAR NOT NULL, exit_code INTEGER NOT NULL);
"""


@contextmanager
def full_disk(root: Path) -> Iterator[None]:
    """What DuckDB says of a disk that refuses, as a UserError (exit 8)."""
    import duckdb

    try:
        yield
    except duckdb.IOException as error:
        told = f"workspace {root}: cannot be written ({_first_line(error)}); set {HOME} to a folder that can"
        raise UserError(told, Exit.ENVIRONMENT) from None


def connect(path: Path) -> "duckdb.DuckDBPyConnection":
    """Connect, waiting for another process to let go; UserError (exit 8) when it does not, or the file is damaged."""
    import duckdb  # deferred: 0.08 s, and `--help` does not need it

    deadline, again = time.monotonic() + LOCK_WAIT_S, False
    while True:
        try:
            return duckdb.connect(str(path))
        except duckdb.IOException as error:
            if not again and _never_written(path):
                path.unlink(missing_ok=True)
                again = True
                continue
            if "lock" not in str(error).lower():
                told = (
                    f"{path}: cannot be opened ({_first_line(error)}); free its disk, or set {HOME} to another folder"
                )
                raise UserError(told, Exit.ENVIRONMENT) from None
            if time.monotonic() > deadline:
                raise UserError(
                    f"{path}: another lmaas process has held it for {LOCK_WAIT_S:.0f} s; "
                    f"wait for it, or set {HOME} to another folder",
                    Exit.ENVIRONMENT,
                ) from None
            time.sleep(0.02)
        except duckdb.Error as error:
            raise UserError(
                f"{path}: is damaged ({_first_line(error)}); delete it, it is made again from the folders beside it",
                Exit.ENVIRONMENT,
            ) from None


def _never_written(path: Path) -> bool:
    """Whether a killed process, or a full disk, left a catalogue too short to hold even its header."""
    try:
        size = path.stat().st_size
    except OSError:
        return False
    return size < HEADER_BYTES and not _locked(path)


def _locked(path: Path) -> bool:
    """Whether another process has the file, as DuckDB locks it."""
    try:
        import fcntl
    except ImportError:  # Windows does not let go of a file that is open
        return False
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _first_line(error: Exception) -> str:
    return shown(str(error).splitlines()[0], 160)

"""The workspace: traces and runs in folders, and a DuckDB catalogue of them.

The folders are the truth. A trace's folder appears by one rename when everything in it is on the disk, and its
catalogue row is written last; so a process killed at any point leaves the old state or the new, and the same command
finishes the job. A catalogue that is deleted is made again from the folders.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .catalogue import TABLES, connect, full_disk
from .disk import HOME, environment_errors, sync, write_atomically
from .errors import UserError
from .folders import own_folder
from .formats.source import shown
from .trace import Trace, TraceMeta

if TYPE_CHECKING:
    import duckdb

FOLDER = ".lmaas"
CATALOGUE = "lmaas.duckdb"
SHORT_ID = 6


@dataclass(frozen=True)
class Workspace:
    """A folder with `lmaas.duckdb`, `traces/<id>/` and `runs/<id>/`; made when something is first written to it."""

    root: Path

    @classmethod
    def open(cls, root: Path | None = None) -> "Workspace":
        """The workspace at `root`, else at LMAAS_HOME, else at ./.lmaas; touches nothing."""
        return cls((root or Path(os.environ.get(HOME) or FOLDER)).expanduser().absolute())

    def add_trace(self, trace_id: str, build: Callable[[Path], TraceMeta]) -> Trace:
        """Store the trace that `build` writes into the folder it is given (trace.parquet, rejects.parquet).

        Atomic; where the same trace is there already, the stored one stays. It becomes the current trace.
        UserError (exit 8) where the workspace cannot be written.
        """
        folder = self.root / "traces" / trace_id
        with environment_errors(self.root):
            with self._staging() as staging:
                self._ignore_in_git()
                meta = build(staging)
                write_atomically(staging / "meta.json", meta.model_dump_json(indent=2).encode())
                for file in staging.iterdir():
                    sync(file)
                sync(staging)
                self._publish(staging, folder)
            return self.use(self._load(folder))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for this moment only, swept by later commands if this one is killed.

        A workspace that was not there is not there afterwards. UserError (exit 8) where it cannot be written.
        """
        new = [folder for folder in (self.root / "traces", self.root) if not folder.exists()]
        with environment_errors(self.root):
            try:
                with self._staging() as staging:
                    yield staging
            finally:
                with suppress(OSError):  # another process has put something there meanwhile
                    for folder in new:
                        folder.rmdir()

    def _staging(self) -> AbstractContextManager[Path]:
        return own_folder(self.root / "traces", "tmp")

    def find(self, trace_id: str) -> Trace | None:
        """The stored trace with exactly this id, whether or not the catalogue knows it."""
        folder = self.root / "traces" / trace_id
        return self._load(folder) if self._complete(folder) else None

    def use(self, trace: Trace, name: str | None = None) -> Trace:
        """Make `trace` the current one (and catalogue it, if it is not), called `name` where that is given."""
        if name is not None and name != trace.meta.name:
            trace = Trace(trace.meta.model_copy(update={"name": name}), trace.path)
            with environment_errors(self.root):
                write_atomically(trace.path.with_name("meta.json"), trace.meta.model_dump_json(indent=2).encode())
        meta = trace.meta
        row = [meta.trace_id, meta.name, meta.source, meta.format, meta.rows_kept, meta.span_s]
        with self._catalogue() as catalogue:
            catalogue.execute(
                "INSERT INTO traces SELECT ?, ?, ?, ?, ?, ?, coalesce(max(used), 0) + 1 FROM traces "
                "ON CONFLICT (trace_id) DO UPDATE SET used = excluded.used, name = excluded.name",
                row,
            )
        return trace

    def trace(self, name_or_id: str) -> Trace:
        """The stored trace of this id (six signs do) or name, of several the last used; UserError (exit 4) if none."""
        rows = self.traces()
        for row in rows:
            shortened = len(name_or_id) >= SHORT_ID and row["trace_id"].startswith(name_or_id)
            if (shortened or name_or_id == row["name"]) and (trace := self.find(row["trace_id"])):
                return trace
        names = list(dict.fromkeys(row["name"] for row in rows))
        near = get_close_matches(name_or_id, names, n=1)
        stored = f"stored are {', '.join(shown(name, 40) for name in names[:8])}" if names else "none is stored yet"
        hint = f"did you mean '{shown(near[0])}'?" if near else stored
        raise UserError(f"no file and no stored trace named '{shown(name_or_id)}'; {hint}")

    def current(self) -> Trace | None:
        """The trace used last; None in an empty workspace."""
        return next((trace for row in self.traces() if (trace := self.find(row["trace_id"]))), None)

    def traces(self) -> list[dict[str, Any]]:
        """The catalogue's traces, last used first: trace_id, name, source, format, rows, span_s, used."""
        return self._rows("SELECT * FROM traces ORDER BY used DESC")

    def runs(self) -> list[dict[str, Any]]:
        """The finished runs, last first: run_id, verb, label, trace_id, started, ended, exit_code."""
        return self._rows("SELECT * FROM runs ORDER BY started DESC, run_id DESC")

    def add_run(self, run: dict[str, Any]) -> None:
        """Catalogue a finished run; the keys are the columns of `runs`."""
        columns = ("run_id", "verb", "label", "trace_id", "started", "ended", "exit_code")
        with self._catalogue() as catalogue:
            catalogue.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", [run[column] for column in columns]
            )

    def forget_run(self, run_id: str) -> None:
        """Take a run out of the catalogue; its folder is the caller's."""
        with self._catalogue() as catalogue:
            catalogue.execute("DELETE FROM runs WHERE run_id = ?", [run_id])

    def _rows(self, query: str) -> list[dict[str, Any]]:
        if not self.root.exists():
            return []
        with self._catalogue() as catalogue:
            found = catalogue.execute(query)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    @contextmanager
    def _catalogue(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """The catalogue, open for this moment only: DuckDB lets one process at a time have it."""
        with environment_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            connection = connect(self.root / CATALOGUE)
            try:
                with full_disk(self.root):
                    connection.execute("BEGIN")
                    connection.execute(TABLES)
                    # new, or its process was killed before it was filled
                    if not connection.execute("SELECT count(*) FROM traces").fetchall()[0][0]:
                        self._refill(connection)
                    connection.execute("COMMIT")
                    yield connection
            finally:
                connection.close()

    def _refill(self, catalogue: "duckdb.DuckDBPyConnection") -> None:
        """Catalogue the traces whose folders are there, oldest first."""
        folders = [folder for folder in (self.root / "traces").glob("*") if self._complete(folder)]
        for used, folder in enumerate(sorted(folders, key=lambda f: f.stat().st_mtime), start=1):
            meta = self._load(folder).meta
            row = [meta.trace_id, meta.name, meta.source, meta.format, meta.rows_kept, meta.span_s, used]
            catalogue.execute("INSERT OR IGNORE INTO traces VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _publish(self, staging: Path, folder: Path) -> None:
        if folder.exists() and not self._complete(folder):
            shutil.rmtree(folder)  # someone removed files from it
        try:
            staging.rename(folder)
        except OSError:
            if not self._complete(folder):  # else another process stored the same trace meanwhile
                raise
        sync(folder.parent)

    @staticmethod
    def _complete(folder: Path) -> bool:
        return (
            not folder.name.startswith(".")
            and (folder / "meta.json").is_file()
            and (folder / "trace.parquet").is_file()
        )

    @staticmethod
    def _load(folder: Path) -> Trace:
        try:
            meta = TraceMeta.model_validate_json((folder / "meta.json").read_bytes())
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "its JSON"
            raise UserError(
                f"{folder}/meta.json is not readable ({where}); remove the folder and ingest again"
            ) from None
        return Trace(meta, folder / "trace.parquet")

    def _ignore_in_git(self) -> None:
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

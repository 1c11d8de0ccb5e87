"""A run's folder: what was asked, what came out and how it was made."""

import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .disk import environment_errors, sync, write_atomically
from .trace import ROW_GROUP, TraceMeta
from .workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

PACKAGES = (
    "polars",
    "duckdb",
    "pyarrow",
    "numpy",
    "scipy",
    "numba",
    "statsforecast",
    "xgboost-cpu",
    "xgboost",
    "plotly",
)


@dataclass(frozen=True)
class RunDir:
    """`runs/<UTC stamp>-<verb>-<label>-<hash4>/`; append-only, every file written whole or not at all.

    `manifest.json` is there from the start, with exit_code null until `finish`: a run that was killed shows.
    """

    path: Path
    workspace: Workspace
    _manifest: dict[str, Any] = field(repr=False)

    @classmethod
    def create(
        cls, workspace: Workspace, verb: str, label: str, argv: Sequence[str], config: Mapping[str, Any]
    ) -> "RunDir":
        """A new run folder with its manifest and `config.resolved.yaml`; UserError (exit 8) if it cannot be made."""
        import yaml  # deferred: only runs need it

        started = datetime.now(UTC)
        manifest = {
            "schema_version": "1.0",
            "lmaas_version": metadata.version("lmaas"),
            "verb": verb,
            "label": label,
            "argv": list(argv),
            "config": plain(config),
            "input": None,
            "host": _host(),
            "packages": _versions(),
            "started": started.isoformat(),
            "ended": None,
            "exit_code": None,
            "timings_s": {},
        }
        with environment_errors(workspace.root):
            run = cls(_new_folder(workspace.root / "runs", started, verb, label), workspace, manifest)
            write_atomically(run.path / "manifest.json", _json(manifest))
            config_text = yaml.safe_dump(plain(config), sort_keys=True, allow_unicode=True)
            run.write_text("config.resolved.yaml", config_text)
        return run

    def write_json(self, name: str, value: Mapping[str, Any]) -> Path:
        """`value` as JSON: the same value gives the same bytes (sorted keys; a number that is not finite is null)."""
        return self._write(name, _json(value))

    def write_text(self, name: str, text: str) -> Path:
        """`text` as UTF-8."""
        return self._write(name, text.encode(errors="replace"))

    def write_table(self, name: str, table: "pl.DataFrame") -> Path:
        """`table` as Parquet."""
        path = self._new(name)
        temporary = path.with_name(f".{path.name}-{uuid4().hex[:8]}")
        with environment_errors(self.workspace.root):
            try:
                table.write_parquet(temporary, row_group_size=ROW_GROUP)
                sync(temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        return path

    def finish(
        self, exit_code: int, *, trace: TraceMeta | None = None, timings: Mapping[str, float] | None = None
    ) -> None:
        """Complete the manifest and catalogue the run; `timings` in seconds."""
        ended = datetime.now(UTC).isoformat()
        self._manifest.update(
            input=None if trace is None else _input(trace),
            ended=ended,
            exit_code=int(exit_code),
            timings_s=dict(timings or {}),
        )
        with environment_errors(self.workspace.root):
            write_atomically(self.path / "manifest.json", _json(self._manifest))
            sync(self.path)
        self.workspace.add_run(
            {
                "run_id": self.path.name,
                "verb": self._manifest["verb"],
                "label": self._manifest["label"],
                "trace_id": None if trace is None else trace.trace_id,
                "started": self._manifest["started"],
                "ended": ended,
                "exit_code": int(exit_code),
            }
        )

    def _new(self, name: str) -> Path:
        if Path(name).name != name or name.startswith("."):
            raise ValueError(f"'{name}' is no file name for a run folder")
        path = self.path / name
        if path.exists():
            raise FileExistsError(f"{path}: a run folder is append-only")
        return path

    def _write(self, name: str, content: bytes) -> Path:
        path = self._new(name)
        with environment_errors(self.workspace.root):
            return write_atomically(path, content)


def plain(value: Any) -> Any:
    """`value` in JSON's own types: mappings, lists, text, finite numbers, booleans, null; exact where it can be."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # a numpy scalar
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):  # a pydantic model
        return plain(value.model_dump())
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if hasattr(value, "tolist"):  # a numpy array
        return plain(value.tolist())
    return [plain(item) for item in value]


def _json(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode(errors="replace")


def _new_folder(runs: Path, started: datetime, verb: str, label: str) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        salt = f"{started.isoformat()} {os.getpid()} {uuid4().hex}"
        mark = blake2b(salt.encode(), digest_size=2).hexdigest()
        name = "-".join([started.strftime("%Y-%m-%dT%H%M%SZ"), slug(verb), slug(label), mark])
        try:
            (runs / name).mkdir()
        except FileExistsError:
            continue
        return runs / name


def slug(text: str) -> str:
    """`text` as part of a folder's name: labels come from traces and policies, and may hold anything."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()[:40]).strip("-") or "run"


def _input(trace: TraceMeta) -> dict[str, Any]:
    wanted = {
        "trace_id",
        "name",
        "source",
        "format",
        "rows_read",
        "rows_kept",
        "rows_set_aside",
        "span_s",
        "anonymised",
    }
    return trace.model_dump(include=wanted)


def _host() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

"""Stored runs as tables, and one run told."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from lmaas.analysis.stored import StoredRun, stored_runs
from lmaas.analysis.workspace import Workspace

from .format import span, text
from .section import Column, Section, Table, table

SCHEMA = {
    "run": pl.String,
    "verb": pl.String,
    "trace": pl.String,
    "started": pl.String,
    "took_s": pl.Float64,
    "exit_code": pl.Int64,
    "ended": pl.Boolean,
}


def runs() -> dict[str, Table]:
    """The runs in the workspace, the latest first; took_s and exit_code are null of those that did not end."""
    workspace = Workspace.open()
    rows = [_row(run) for run in stored_runs(workspace)]
    columns = (
        Column("run", "Run"),
        Column("verb", "Command"),
        Column("trace", "Trace"),
        Column("took_s", "Took", "span_s"),
        Column("end", "Ended"),
    )
    end = (
        pl.when("ended").then(pl.format("exit code {}", "exit_code")).otherwise(pl.lit("not: interrupted, or at work"))
    )
    shown = pl.DataFrame(rows, schema=SCHEMA, orient="row").with_columns(end=end)
    return {"runs": table(f"Runs in {workspace.root}", shown, columns)}


def _row(run: StoredRun) -> dict[str, Any]:
    manifest = run.manifest
    code = manifest.get("exit_code")
    return {
        "run": run.name,
        "verb": str(manifest.get("verb", "?")),
        "trace": str((manifest.get("input") or {}).get("name", "")) or None,
        "started": str(manifest.get("started", "")) or None,
        "took_s": _took_s(manifest),
        "exit_code": code if isinstance(code, int) else None,
        "ended": isinstance(code, int),
    }


def _took_s(manifest: Mapping[str, Any]) -> float | None:
    try:
        began, ended = (datetime.fromisoformat(str(manifest.get(name))) for name in ("started", "ended"))
        return (ended - began).total_seconds()
    except (ValueError, TypeError):
        return None


def run_facts(run: StoredRun) -> dict[str, Any]:
    """What `--json` prints: the manifest, and the files with their sizes in bytes."""
    files = {path.name: path.stat().st_size for path in sorted(run.path.iterdir()) if path.is_file()}
    return {"run": run.name, "path": str(run.path), "manifest": run.manifest, "files": files}


def run_told(run: StoredRun) -> tuple[Section, ...]:
    """How it was made and how it ended, what was asked, and what it left."""
    facts = run_facts(run)
    took, code = _took_s(run.manifest), run.manifest.get("exit_code")
    ended = f"exit code {code}, after {span(took)}" if took is not None else "it did not end"
    of = (run.manifest.get("input") or {}).get("name")
    finding = f"lmaas {run.verb}{f' on {of}' if of else ''}, version {run.manifest.get('lmaas_version')}: {ended}."
    config = run.manifest.get("config") or {}
    asked = [(str(key), _words(value)) for key, value in config.items() if value not in (None, [])]
    files = pl.DataFrame({"file": list(facts["files"]), "bytes": list(facts["files"].values())})
    settings = pl.DataFrame(asked, schema={"setting": pl.String, "value": pl.String}, orient="row")
    argv = run.manifest.get("argv")
    return (
        Section(
            "run",
            text(run.name),
            text(finding),
            tables=(
                table("Asked", settings, (Column("setting", "Setting"), Column("value", "Value"))),
                table(f"Files in {run.path}", files, (Column("file", "File"), Column("bytes", "Bytes", "count"))),
            ),
            code=shlex.join(["lmaas", *map(str, argv)]) if isinstance(argv, list) else "",
        ),
    )


def _words(value: Any) -> str:
    """A setting's value as it was typed, one after the other where there are several."""
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)

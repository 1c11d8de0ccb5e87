"""The catalogues as tables: policies, routers, GPU profiles, traces; and what an ingest did."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.analysis.registry import Registry
from lmaas.analysis.trace import TraceMeta

from .document import plain
from .format import text
from .report import trace_facts
from .section import Column, Report, Section, Table, table

if TYPE_CHECKING:
    from lmaas.analysis.validate import Validation


def plain_rows(of: Table) -> list[dict[str, Any]]:
    """Every row and column of a table as JSON holds it."""
    return [{name: plain(value) for name, value in row.items()} for row in of.rows.iter_rows(named=True)]


def policies() -> dict[str, Table]:
    """What `--policy` and `--router` take."""
    from lmaas.policies.registry import POLICIES
    from lmaas.replay.routers import ROUTERS

    about = (Column("summary", "What it does"), Column("parameters", "Parameters and defaults"))
    captions = {
        "policies": "Policies, for --policy and --baseline",
        "routers": "Routers, for --router, or FILE.py:NAME",
    }
    return {
        "policies": table(captions["policies"], described(POLICIES), (Column("name", "Policy"), *about)),
        "routers": table(captions["routers"], described(ROUTERS), (Column("name", "Router"), *about)),
    }


def described(registry: Registry) -> pl.DataFrame:
    """name, summary, parameters of everything in a registry; what cannot be loaded says why."""
    rows = []
    for name in registry:
        try:
            thing = registry.load(name)
        except Exception as error:  # an outsider's plug-in may fail in any way
            rows.append({"name": name, "summary": f"cannot be loaded: {error}", "parameters": ""})
            continue
        summary = getattr(thing, "summary", None) or (thing.__doc__ or "").strip().partition("\n")[0]
        rows.append({"name": name, "summary": summary, "parameters": ", ".join(_parameters(thing))})
    return pl.DataFrame(rows, schema={"name": pl.String, "summary": pl.String, "parameters": pl.String})


def _parameters(thing: Any) -> list[str]:
    if hasattr(thing, "params"):  # a router's
        return [f"{name}={default_shown(name, value)}" for name, value in thing.params.items()]
    known = fields(thing) if is_dataclass(thing) else ()
    return [f.name if f.default is MISSING else f"{f.name}={f.default!r}" for f in known if f.init]


def default_shown(name: str, value: Any) -> str:
    """A router's parameter as its default is written."""
    if isinstance(value, int | float):
        return "--seed" if name == "seed" and value < 0 else f"{value:g}"
    return str([[float(f"{x:g}") for x in row] for row in value]).replace(".0", "")


def profiles() -> dict[str, Table]:
    """What `--profile` takes."""
    from lmaas.replay.profile import profiles as shipped

    columns = (
        Column("name", "Profile"),
        Column("gpu", "GPU"),
        Column("gpus_per_replica", "GPUs", "count"),
        Column("kv_tokens", "KV tokens", "count"),
        Column("usd_per_gpu_hour", "$/GPU-h", "usd"),
        Column("provenance", "Provenance"),
        Column("mape", "MAPE", "share"),
    )
    return {"profiles": table("GPU profiles, for --profile", shipped(), columns)}


def ingested(meta: TraceMeta) -> Report:
    """What `lmaas ingest` says of a trace: what was read and what was set aside."""
    from .analyze.quality import rows_table

    aside = meta.rows_read - meta.rows_kept
    finding = f"{meta.rows_kept:,} of {meta.rows_read:,} rows kept" + (f", {aside:,} set aside." if aside else ".")
    rows = rows_table(meta)
    brief = Table(
        rows.caption, rows.rows, tuple(Column(c.name, c.label, c.kind, brief=True) for c in rows.columns), rows.source
    )
    section = Section(
        "ingest", "Ingested", finding, tables=(brief,) if aside else (), notes=tuple(meta.notes), brief=True
    )
    return Report("analyze", meta.name, trace_facts(meta), (section,))


def validated(found: Validation) -> Report:
    """What `lmaas validate` says: the verdict, each finding with what to do about it, then the trace's notes."""
    from .analyze.quality import finding

    meta = found.trace
    notes = [f"{f.verdict}: {f.text}" + (f" → {f.hint}" if f.hint else "") for f in found.quality.details]
    told = tuple(map(text, (*notes, *found.notes)))
    section = Section("validate", "Data quality", finding(meta, found.quality.verdict), notes=told, brief=True)
    return Report("analyze", meta.name, trace_facts(meta), (section,))


def traces() -> dict[str, Table]:
    """What TRACE can be, beside a file: the traces of the workspace, last used first."""
    from lmaas.analysis.workspace import Workspace

    columns = (
        Column("name", "Trace"),
        Column("trace_id", "Id"),
        Column("rows", "Requests", "count"),
        Column("span_s", "Span", "span_s"),
        Column("format", "Format"),
        Column("source", "From"),
    )
    workspace = Workspace.open()
    schema = {"trace_id": pl.String, "name": pl.String, "source": pl.String, "format": pl.String, "rows": pl.Int64}
    rows = pl.DataFrame(workspace.traces(), schema=schema | {"span_s": pl.Float64, "used": pl.Int64})
    return {"traces": table(f"Traces of {workspace.root}, the current one first", rows.drop("used"), columns)}

"""Assumptions and limits: what the numbers rest on, and what the replay leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ..format import number, span, text
from ..section import Column, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

NOT_MODELLED = (
    "Requests stay in the region they came from: there is no routing across regions.",
    "Clients neither time out nor retry: an overloaded fleet builds a queue as long as the overload lasts.",
    "Every prompt is computed in full: a workload with shared prefixes needs less with a prefix cache.",
    "Replicas do not fail, and GPUs are there when asked for, after the start-up time.",
)


def section(result: Evaluation) -> Section:
    """Profiles with their provenance, rows left out, settings in effect."""
    used = profiles(result.settings["profiles"])
    return Section(
        "assumptions",
        "Assumptions and limits",
        finding(used),
        tables=tuple(
            t for t in (_profile_table(used), rows_table(result), _settings(result.settings)) if t.rows.height
        ),
        notes=(*map(text, result.notes), *NOT_MODELLED),
    )


def profiles(used: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """One row a service and profile: `service` and what the settings say of the profile."""
    return pl.DataFrame(
        [{"service": service, **profile} for service, profile in used.items()], infer_schema_length=None
    )


def finding(used: pl.DataFrame) -> str:
    """The weakest provenance, with its error where known."""
    if used.is_empty() or "provenance" not in used.columns:
        return "No GPU profile was used."
    weakest = next((p for p in ("estimated", "fitted", "measured") if p in set(used["provenance"])), None)
    if weakest is None:
        return "The provenance of the GPU profiles is not stated."
    worst: Any = used["mape"].max() if "mape" in used.columns else None
    error = (
        "its held-out error is not known"
        if worst is None
        else f"the largest held-out error is {number(100 * float(worst), 3)} %"
    )  # type: ignore[arg-type]
    return f"Latencies rest on {weakest} GPU profiles; {error}."


def _profile_table(used: pl.DataFrame) -> Table:
    columns = (
        Column("service", "Service"),
        Column("name", "Profile"),
        Column("gpu", "GPU"),
        Column("gpus_per_replica", "GPUs per replica", "count"),
        Column("usd_per_gpu_hour", "$/GPU-hour", "usd"),
        Column("provenance", "Provenance"),
        Column("mape", "Held-out error (MAPE)", "share"),
    )
    return table("GPU profiles", used, columns)


def rows_table(result: Evaluation) -> Table:
    """What became of every row that was read."""
    trace = result.trace
    left_out = int(result.scores["not_replayed"].max() or 0) if result.scores.height else 0  # type: ignore[arg-type]
    rows = [("read", trace.rows_read), ("kept in the trace table", trace.rows_kept)]
    rows += [(f"set aside: {text(reason)}", count) for reason, count in trace.rows_set_aside.items()]
    rows.append(("in the evaluated part, not replayed (no input or no output tokens)", left_out))
    frame = pl.DataFrame(rows, schema={"what": pl.String, "rows": pl.Int64}, orient="row")
    return table("Rows", frame, (Column("what", "Rows"), Column("rows", "Count", "count")))


def _settings(settings: dict[str, Any]) -> Table:
    """Scalar settings in words; what is nested has its own table or is in the manifest."""
    rows = [
        (name, _written(name, value))
        for name, value in settings.items()
        if isinstance(value, str | int | float | list | tuple)
    ]
    frame = pl.DataFrame(rows, schema={"setting": pl.String, "value": pl.String}, orient="row")
    return table("Settings in effect", frame, (Column("setting", "Setting"), Column("value", "Value")), "manifest.json")


def _written(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "none"
    if name.endswith("_s") and isinstance(value, int | float):
        return span(float(value))
    return text(value)

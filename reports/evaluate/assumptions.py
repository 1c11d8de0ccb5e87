"""Assumptions and limits: what the numbers rest on, and what the replay leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ..format import percent, span, text
from ..section import Column, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

NOT_MODELLED = (
    "a request leaves its region only where the fleet file says so (latencies, faults, a threshold, hosting)",
    "replicas fail, and GPUs are short, only where the fleet file says so",
)
IN_FULL = "every prompt is computed in full: a workload with shared prefixes needs less with a prefix cache"
CACHED = (
    "replicas keep computed prompt blocks until their room is needed, the least recently used going first; each has a "
    "cache of its own, empty when it starts, and routers that do not look for prefixes spread them over all"
)


def section(result: Evaluation) -> Section:
    """Profiles with their provenance, thresholds, measured rates, rows left out, settings in effect."""
    settings = result.settings
    used = profiles(settings["pools"])
    tables = (
        _profile_table(used),
        _slo_table(settings),
        _rate_table(settings),
        rows_table(result),
        _settings(settings),
    )
    return Section(
        "assumptions",
        "Assumptions and limits",
        finding(used),
        tables=tuple(t for t in tables if t.rows.height),
        notes=(*map(text, result.notes), *NOT_MODELLED, CACHED if settings.get("prefix_cache") else IN_FULL),
    )


def profiles(pools: list[dict[str, Any]]) -> pl.DataFrame:
    """One row a pool and one for each profile mixed in, with its held-out error and start-up time as columns."""
    used = []
    for pool in pools:
        mixed = [{**other, "pool": f"{pool['pool']}: {other['replicas']:,} mixed in"} for other in pool["mixed"]]
        used += [pool, *mixed]
    rows = [
        {**row, "mape": (row.get("error") or {}).get("mape"), "cold_s": (row.get("startup_s") or {}).get("cold")}
        for row in used
    ]
    words: dict[str, Any] = dict.fromkeys(("pool", "profile", "provenance", "gpu"), pl.String)
    numbers = ("gpus_per_replica", "usd_per_gpu_hour", "cold_s", "mape", "minimum", "maximum")
    return pl.DataFrame(rows, schema=words | dict.fromkeys(numbers, pl.Float64))


def finding(used: pl.DataFrame) -> str:
    """The weakest provenance, with its error where known."""
    weakest = next((p for p in ("estimated", "fitted", "calibrated", "measured") if p in set(used["provenance"])), None)
    if weakest is None:
        return "The provenance of the GPU profiles is not stated."
    worst: Any = used["mape"].max()
    error = "held-out error not known" if worst is None else f"held-out error up to {percent(worst)} (MAPE)"
    return f"Latencies rest on {weakest} GPU profiles, {error}."


def _profile_table(used: pl.DataFrame) -> Table:
    columns = (
        Column("pool", "Pool"),
        Column("profile", "Profile"),
        Column("gpu", "GPU"),
        Column("gpus_per_replica", "GPUs a replica", "count"),
        Column("usd_per_gpu_hour", "$/GPU-h", "usd"),
        Column("cold_s", "Cold start", "duration_s"),
        Column("provenance", "Provenance"),
        Column("mape", "MAPE", "share"),
        Column("minimum", "Least replicas", "count"),
        Column("maximum", "Most replicas", "count"),
    )
    return table("Pools and their GPU profiles", used, columns, "config.resolved.yaml")


def _slo_table(settings: dict[str, Any]) -> Table:
    columns = (Column("service", "Service"), Column("tier", "Tier"), Column("thresholds", "A request attains within"))
    schema = dict.fromkeys(("service", "tier", "thresholds"), pl.String)
    return table("SLOs in effect", pl.DataFrame(settings["slos"], schema=schema), columns)


def _rate_table(settings: dict[str, Any]) -> Table:
    columns: tuple[Column, ...] = (
        Column("service", "Service"),
        Column("requests_s", "Requests/s", "number"),
        Column("prompt_tokens_s", "Prompt tokens/s", "number"),
        Column("output_tokens_s", "Output tokens/s", "number"),
        Column("mean_running", "Present on average", "number"),
        Column("alone_attainment", "Attained on an idle replica", "share"),
        Column("hit_share", "Prompt cached", "share"),
    )
    rows = pl.DataFrame(settings["rates"], infer_schema_length=None)
    columns = columns if "hit_share" in rows.columns and rows["hit_share"].count() else columns[:-1]
    if (rows["lane"] != "shared").any():
        columns = (columns[0], Column("lane", "Lane"), *columns[1:])
    return table("μ: what one replica sustains at the target, found by replaying the training mix", rows, columns)


def rows_table(result: Evaluation) -> Table:
    """What became of every row that was read."""
    trace = result.trace
    left_out = int(result.scores["not_replayed"].max() or 0) if result.scores.height else 0  # type: ignore[arg-type]
    rows = [("read", trace.rows_read), ("kept in the trace table", trace.rows_kept)]
    rows += [(f"set aside: {text(reason)}", count) for reason, count in trace.rows_set_aside.items()]
    rows.append(("of these not replayed: no input or no output tokens", left_out))
    frame = pl.DataFrame(rows, schema={"what": pl.String, "rows": pl.Int64}, orient="row")
    return table("Rows", frame, (Column("what", "Rows"), Column("rows", "Count", "count")))


def _settings(settings: dict[str, Any]) -> Table:
    """Scalar settings in words; what is nested has its own table or is in the manifest."""
    rows = [(name, _written(name, value)) for name, value in settings.items() if isinstance(value, str | int | float)]
    frame = pl.DataFrame(rows, schema={"setting": pl.String, "value": pl.String}, orient="row")
    return table("Settings in effect", frame, (Column("setting", "Setting"), Column("value", "Value")), "manifest.json")


def _written(name: str, value: Any) -> str:
    return span(float(value)) if name.endswith("_s") else text(value)

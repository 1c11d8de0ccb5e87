"""How much requests of one time differ: variation of lengths and demand, evenness of the mix, Gini of the tenants."""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from lmaas.analysis.trace import TraceMeta

from . import demand, types
from .inequality import cv, evenness, gini
from .tables import NONE

MIN_WINDOW_ROWS = 30  # requests of a window; the variation of fewer is noise
INDICES = {
    "input_cv": "standard deviation / mean of the requests' input tokens",
    "output_cv": "of their output tokens",
    "prefill_cv": "of their prefill work (see demand)",
    "kv_cv": "of their KV token-seconds (see demand)",
    "prefill_type_cv": "of prefill work, every request counting as its type's mean over the trace: between types",
    "kv_type_cv": "of KV token-seconds, likewise",
    "type_evenness": "entropy of the mix of types / its maximum: 0 one alone, 1 all alike; null with one type",
    "service_evenness": "of the mix of services, likewise",
    "tenant_gini": "Gini of input + output tokens over the tenants of the window; null without two named",
}

COLUMNS: dict[str, dict[str, str]] = {
    "heterogeneity": {
        "index": "; ".join(f"{name}: {meaning}" for name, meaning in INDICES.items()),
        "trace": "over all requests of the trace",
        "min": "of the windows with at least 30 requests; likewise mean, max",
        "mean": "",
        "max": "",
        "windows": "how many windows that is",
        "window_s": "their length",
    },
    "heterogeneity_windows": {
        "start_s": "start of the window, seconds since the trace's epoch",
        "length_s": "length of the window",
        "requests": "answered requests with both lengths; windows with fewer than 30 are absent",
        **dict.fromkeys(INDICES, "index, see heterogeneity"),
    },
}


def tables(
    joint: pl.DataFrame,
    joint_s: float,
    tenant_load: pl.DataFrame,
    tenant_s: float,
    found: types.Types | None,
    per: demand.Coefficients | None = None,
) -> dict[str, pl.DataFrame]:
    """`heterogeneity` and `heterogeneity_windows`; columns as in COLUMNS. `found`: the request types, if any."""
    if found is None:
        return {name: pl.DataFrame(schema=_schema(name)) for name in COLUMNS}
    joint, joint_s = types.wider(joint, joint_s)
    cells = _with_means(found.assign(demand.cells(joint, "window", "service", per=per)), len(found.names))
    named = tenant_load.filter(pl.col("tenant") != NONE).select(
        window=(pl.col("window") * tenant_s / joint_s).floor().cast(pl.Int64),
        tenant="tenant",
        tokens=(pl.col("input_tokens") + pl.col("output_tokens")).cast(pl.Float64),
    )
    named = named.group_by("window", "tenant").agg(pl.col("tokens").sum()).sort("window", "tenant")
    # loads of tenants in windows longer than these say nothing of each
    parts = named.partition_by("window", as_dict=True) if tenant_s <= joint_s else {}
    tenants = {window: part for (window,), part in parts.items()}
    kinds, services = len(found.names), cells["service"].n_unique()
    windows = [
        {"start_s": window * joint_s, "length_s": joint_s, "requests": int(part["n"].sum())}
        | _indices(part, kinds, services, tenants.get(window, named.clear()))
        for (window,), part in cells.partition_by("window", as_dict=True).items()
        if part["n"].sum() >= MIN_WINDOW_ROWS
    ]
    over_time = pl.DataFrame(windows, schema=_schema("heterogeneity_windows")).sort("start_s")
    whole = _indices(cells, kinds, services, named)
    rows = [_summary(name, value, over_time, joint_s) for name, value in whole.items()]
    return {
        "heterogeneity": pl.DataFrame(rows, schema=_schema("heterogeneity")),
        "heterogeneity_windows": over_time,
    }


def _indices(cells: pl.DataFrame, kinds: int, services: int, tenants: pl.DataFrame) -> dict[str, float | None]:
    n = cells["n"].cast(pl.Float64).to_numpy()
    each = {c: cells[c].to_numpy() for c in ("input", "output", "prefill_work", "kv_token_s")}
    kind = cells["type"].to_numpy()
    by_tenant = tenants.group_by("tenant").agg(pl.col("tokens").sum()).sort("tenant")["tokens"].to_numpy()
    by_service = cells.group_by("service").agg(pl.col("n").sum()).sort("service")["n"].cast(pl.Float64).to_numpy()
    return {
        "input_cv": cv(each["input"], n),
        "output_cv": cv(each["output"], n),
        "prefill_cv": cv(each["prefill_work"], n),
        "kv_cv": cv(each["kv_token_s"], n),
        "prefill_type_cv": cv(cells["prefill_work of type"].to_numpy(), n) if kinds > 1 else None,
        "kv_type_cv": cv(cells["kv_token_s of type"].to_numpy(), n) if kinds > 1 else None,
        "type_evenness": evenness(np.bincount(kind, n, minlength=kinds).astype(np.float64), kinds),
        "service_evenness": evenness(by_service, services),
        "tenant_gini": gini(by_tenant, np.ones(len(by_tenant))) if len(by_tenant) > 1 else None,
    }


def _with_means(cells: pl.DataFrame, kinds: int) -> pl.DataFrame:
    """`cells` with the mean demands of their type: of the trace, for a window's own would vary by chance alone."""
    n, kind = cells["n"].cast(pl.Float64).to_numpy(), cells["type"].to_numpy()
    held = np.bincount(kind, n, minlength=kinds)
    for metric in ("prefill_work", "kv_token_s"):
        mean = np.bincount(kind, cells[metric].to_numpy() * n, minlength=kinds) / np.maximum(held, 1)
        cells = cells.with_columns(pl.Series(f"{metric} of type", mean[kind]))
    return cells


def _summary(index: str, value: float | None, over_time: pl.DataFrame, joint_s: float) -> dict[str, object]:
    known = over_time[index].drop_nulls()
    return {
        "index": index,
        "trace": value,
        "min": known.min(),
        "mean": known.mean(),
        "max": known.max(),
        "windows": len(known),
        "window_s": joint_s,
    }


def _schema(name: str) -> dict[str, pl.DataType]:
    kinds: dict[str, pl.DataType] = {"index": pl.String(), "windows": pl.Int64(), "requests": pl.Int64()}
    return {c: kinds.get(c, pl.Float64()) for c in COLUMNS[name]}


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """How far requests differ in the memory they hold, within and between types."""
    found = tables.get("heterogeneity", pl.DataFrame())
    if found.is_empty():
        return
    value = dict(found.filter(pl.col("windows") > 1).select("index", "mean").iter_rows())
    if value.get("kv_type_cv") is not None:
        yield (
            "From one request type to another, the KV memory that a request holds over time varies by "
            f"{value['kv_type_cv']:.2f} times its mean (coefficient of variation, mean of the windows): the more, the "
            "more there is to gain from unlike deployments."
        )

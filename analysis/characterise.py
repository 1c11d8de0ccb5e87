"""`analyze`: one trace in, the tables that describe its workload and what they say out."""

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from .quality import Quality, assess
from .trace import Trace, TraceMeta
from .windows import DAY_S
from .workload import lengths, load
from .workload import tables as described
from .workload.findings import findings
from .workload.prefix import prefix
from .workload.tables import DIMENSIONS

SCHEMA_VERSION = "1.0"
NOT_IN_METRICS = ("load",)  # a row a window: in the run's Parquet tables, too long for metrics.json


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found. `tables` maps names to tables whose columns `workload.tables.COLUMNS` documents.

    Always there: overview (one row), status, shares, load, scales, seasonality, pools, lengths, correlation.
    `latency` only where the trace has observed latencies, `prefix` only where it has block hashes.
    """

    trace: TraceMeta
    quality: Quality
    window_s: float
    tables: dict[str, pl.DataFrame]
    findings: tuple[str, ...]

    def metrics(self) -> dict[str, Any]:
        """A JSON-ready dict: every table but `load` as a list of rows; a value that does not exist is null."""
        return {
            "schema_version": SCHEMA_VERSION,
            "trace": self.trace.model_dump(mode="json", exclude={"source"}),  # a path: it differs by machine
            "quality": {"verdict": self.quality.verdict, "findings": list(self.quality.findings)},
            "window_s": self.window_s,
            "findings": list(self.findings),
            "tables": {
                name: [{k: _plain(v) for k, v in row.items()} for row in table.iter_rows(named=True)]
                for name, table in sorted(self.tables.items())
                if name not in NOT_IN_METRICS
            },
        }


def analyze(trace: Trace, *, window_s: float | None = None) -> Analysis:
    """Characterise a trace: load over time, lengths, who sends, and latency and prefix reuse where it has them.

    `window_s` is the window of the load and pool tables (default: `load.default_window_s`). All percentiles
    are exact. UserError (exit 2) for a window that is not positive, below the timestamps' quantum, or far too short.
    """
    meta = trace.meta
    if window_s is None:
        window_s = load.default_window_s(meta.span_s, meta.quantum_s)
    load.check_window(window_s, meta.span_s, meta.quantum_s)
    tables = _tables(trace, window_s)
    return Analysis(meta, assess(trace), window_s, tables, findings(tables, meta))


def _tables(trace: Trace, window_s: float) -> dict[str, pl.DataFrame]:
    scan, meta = trace.scan(), trace.meta
    # two passes over the file: the second needs the names and times found by the first
    first = {"overview": described.overview(scan), "status": described.status(scan)}
    tables = _collect(first | {d: described.totals(scan, d) for d in DIMENSIONS})
    totals = {d: tables.pop(d) for d in DIMENSIONS}
    tables["shares"] = pl.concat([described.shares(totals[d], d) for d in DIMENSIONS])

    groups = {d: described.folded(d, totals[d]) for d in DIMENSIONS}
    tables |= _collect(_distributions(scan, groups, set(meta.columns)))
    tables |= _over_time(trace, window_s, groups, tables["overview"])
    if meta.block_size and "block_hashes" in meta.columns:
        tables["prefix"] = prefix(scan, meta.block_size)
    return tables


def _distributions(scan: pl.LazyFrame, groups: dict[str, pl.Expr], columns: set[str]) -> dict[str, pl.LazyFrame]:
    parts = {"all": pl.lit("all")} | {d: groups[d] for d in ("service", "region", "tier")}
    frames = {
        "lengths": lengths.lengths(scan, parts),
        "correlation": lengths.correlation(scan, {k: parts[k] for k in ("all", "service", "tier")}),
    }
    observed = columns | ({"tpot_s"} if {"ttft_s", "e2e_s"} <= columns else set())
    metrics = tuple(m for m in lengths.LATENCIES if m in observed)
    if metrics:
        frames["latency"] = lengths.latency(scan, parts, metrics)
    return frames


def _over_time(
    trace: Trace, window_s: float, groups: dict[str, pl.Expr], overview: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    scan, meta = trace.scan(), trace.meta
    base_s = load.base_scale_s(meta.quantum_s)
    keys = (groups["service"].alias("service"), groups["region"].alias("region"))
    counted = _collect(
        {
            "windows": load.counts(scan, window_s, *keys),
            "hours": load.counts(scan, 3600.0, *keys),
            "finest": load.counts(scan, base_s),
        }
    )
    at = (overview["first_s"].item(), overview["last_s"].item())
    # phases of an hour mean nothing where timestamps are coarser
    hours = counted["hours"] if meta.quantum_s <= 3600 else counted["hours"].clear()
    by_service = counted["windows"].group_by("window", "service").agg(pl.exclude("region").sum())
    return {
        "load": load.load(by_service, window_s, *at),
        "pools": load.pools(counted["windows"], window_s, *at),
        "scales": load.scales(counted["finest"], base_s, *at),
        "seasonality": load.seasonality(hours, *at, _clock_s(meta)),
    }


def _clock_s(meta: TraceMeta) -> float:
    """Seconds since a Monday midnight UTC at arrival_s = 0; 0 where the epoch is not known."""
    # 1970-01-01 was a Thursday
    return (meta.epoch.timestamp() + 3 * DAY_S) % (7 * DAY_S) if meta.epoch else 0.0


def _collect(frames: dict[str, pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    # together, so that one scan of the file serves them all
    return dict(zip(frames, pl.collect_all(list(frames.values()), engine="streaming"), strict=True))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""`analyze`: one trace in, the tables that describe its workload and what they say out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from .errors import Exit, UserError
from .formats.source import shown
from .instants import Period
from .progress import Tell, rising, silent, steps
from .progress import part as step
from .quality import Quality, assess
from .selection import selected
from .trace import Trace, TraceMeta
from .windows import DAY_S
from .workload import latency_load, lengths, load, prefix, scales, sessions, spatial, temporal
from .workload import tables as described
from .workload.findings import findings
from .workload.given import Given, in_memory
from .workload.rewards import rewards
from .workload.summary import Keys, summarise
from .workload.tables import DIMENSIONS, GROUPINGS

if TYPE_CHECKING:
    from .comparison.against import Comparison

SCHEMA_VERSION = "1.0"
STATISTICS = (load, lengths, latency_load, prefix, sessions, temporal, spatial)
# shares of the time, measured: a part of the trace is written, its rows are counted; all but the quality
SELECTED, COUNTED, DESCRIBED = 0.1, 0.05, 0.98
# a row a window or cell: in the run's Parquet tables, too long for metrics.json
NOT_IN_METRICS = ("load", *spatial.LONG)


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found. `tables` maps names to tables whose columns `workload.columns.COLUMNS` documents.

    Always there: overview (one row), status, shares, load, scales, seasonality, pools, lengths, correlation.
    `latency` only where the trace has observed latencies, `prefix` only where it has block hashes,
    `sessions` only where it has session ids.
    """

    trace: TraceMeta
    quality: Quality
    window_s: float
    tables: dict[str, pl.DataFrame]
    findings: tuple[str, ...]
    comparison: "Comparison | None" = None  # of `comparison.against.compared`; its tables are among these

    def metrics(self) -> dict[str, Any]:
        """A JSON-ready dict: every table but `load` as a list of rows; a value that does not exist is null."""
        return {
            "schema_version": SCHEMA_VERSION,
            "trace": self.trace.model_dump(mode="json", exclude={"source"}),  # a path: it differs by machine
            "quality": {"verdict": self.quality.verdict, "findings": list(self.quality.findings)},
            "window_s": self.window_s,
            "findings": list(self.findings),
            "comparison": self.comparison.metrics() if self.comparison else None,
            "tables": {
                name: [{k: _plain(v) for k, v in row.items()} for row in table.iter_rows(named=True)]
                for name, table in sorted(self.tables.items())
                if name not in NOT_IN_METRICS
            },
        }


def analyze(
    trace: Trace,
    *,
    window_s: float | None = None,
    where: str | None = None,
    since: str | None = None,
    until: str | None = None,
    by: Sequence[str] | None = None,
    progress: Tell = silent,
) -> Analysis:
    """Characterise a trace: load over time, lengths, who sends, and latency and prefix reuse where it has them.

    `window_s` is the window of the load and pool tables (default: `load.default_window_s`). Percentiles
    are exact where the rows fit in memory (`given.IN_MEMORY_ROWS`), else within 1 %: the column `exact` says which.
    `where` (a DuckDB expression over the trace table), `since` and `until` (a date, a time with its zone, or a length
    of time from the trace's start) say which requests are looked at. `by`: of service, region, tier and tenant those
    that the tables are broken down by (default: lengths and latencies by the first three, shares by all). `progress` is
    told the share of the time that is done, a `Share` of the requests.
    UserError (exit 2) where these cannot be, and for a window that is not positive, below the timestamps' quantum, or
    far too short.
    """
    with selected(trace, Period.parse(since, until), where) as part:
        tell = rising(progress, part.meta.rows_kept, "requests")
        begun = 0.0 if part is trace else SELECTED
        tell(begun)
        groupings = None if by is None else check_groupings(by, part.meta)
        return _analyze(part, window_s, groupings, step(tell, begun, 1.0))


def check_groupings(by: Sequence[str], meta: TraceMeta) -> tuple[str, ...]:
    """The dimensions to break down by, each once; UserError (exit 2) for one unknown, or that the trace lacks."""
    there = [d for d in DIMENSIONS if d in meta.columns]
    for name in by:
        if name not in DIMENSIONS:
            raise UserError(f"--by '{shown(name)}': must be of {', '.join(DIMENSIONS)}", Exit.USAGE)
        if name not in there:
            raise UserError(f"--by {name}: the trace names no {name}; it has {', '.join(there)}", Exit.USAGE)
    return tuple(dict.fromkeys(by))


def _analyze(trace: Trace, window_s: float | None, by: tuple[str, ...] | None, tell: Tell) -> Analysis:
    meta = trace.meta
    if window_s is None:
        window_s = scales.default_window_s(meta.span_s, meta.quantum_s)
    scales.check_window(window_s, meta.span_s, meta.quantum_s)
    tables = _tables(trace, window_s, by, step(tell, 0.0, DESCRIBED))
    said = findings(tables, meta)
    if by is not None:
        tables = {name: _broken_down(table, by) for name, table in tables.items()}
    quality = assess(trace)
    tell(1.0)
    return Analysis(meta, quality, window_s, tables, said)


def _broken_down(table: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    """The table without the rows of groupings that were not asked for."""
    return table.filter(pl.col("by").is_in(("all", *by))) if "by" in table.columns else table


def _tables(trace: Trace, window_s: float, by: tuple[str, ...] | None, tell: Tell) -> dict[str, pl.DataFrame]:
    scan, meta = trace.scan(), trace.meta
    # the pass that leaves the states needs the names found before
    few = in_memory(meta.rows_kept)
    tables = {"overview": described.overview(scan, count_sessions=few)}
    frames = {"status": described.status(scan)} | {d: described.totals(scan, d) for d in DIMENSIONS}
    tables |= described.collected(frames)
    totals = {d: tables.pop(d) for d in DIMENSIONS}
    tables["shares"] = pl.concat([described.shares(totals[d], d) for d in DIMENSIONS])
    groupings = GROUPINGS if by is None else by
    tell(COUNTED)
    ends = steps(step(tell, COUNTED, 1.0), _seconds(meta, totals["service"]))
    keys = Keys.choose(window_s, meta.quantum_s, meta.span_s, totals, tenants="tenant" in groupings)
    given = Given(trace, summarise(scan, keys, meta.columns, next(ends)), totals, groupings)
    if not few:
        estimate = round(given.summary.distinct_sessions or 0)
        tables["overview"] = tables["overview"].with_columns(sessions=pl.lit(estimate, pl.UInt32))
    for told, statistics in zip(ends, STATISTICS, strict=True):
        tables |= statistics.describe(replace(given, tell=told))
    tables["rewards"] = rewards(tables, given)
    return tables


def _seconds(meta: TraceMeta, services: pl.DataFrame) -> list[float]:
    """About how long the states take, then each of STATISTICS; measured on traces of half a million to five million
    rows, an hour to two weeks.
    """
    rows, days = meta.rows_kept / 1e6, min(meta.span_s / DAY_S, 14)
    blocks = float(services["input_tokens"].sum()) / 1e6 / meta.block_size if meta.block_size else 0.0
    by_row = {
        load: 0.15 * rows,
        lengths: rows if in_memory(meta.rows_kept) else 0.03 * rows,
        latency_load: 0.0,
        prefix: 0.3 * blocks,
        sessions: rows if "session_id" in meta.columns else 0.0,
        temporal: 2.0 + 0.25 * days,
        spatial: 0.5 + 0.1 * days,
    }
    return [1.1 * rows, *(by_row[statistics] for statistics in STATISTICS)]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

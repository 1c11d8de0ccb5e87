"""What a trace shows of mistakes in how it was written down or read: sentinels, clocks, zones, order.

Judged by the rows kept and by why others were not; each finding says what to do. Limits are stated where they are used.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from .ingest_facts import duplicates, repeated_ids
from .ingest_write import FILES
from .progress import Tell, silent, steps
from .quality import Finding
from .trace import Trace, TraceMeta
from .windows import HOUR_S

SINCE_1970_S = 1e9  # 2001; no trace lasts 31 years
LONGEST_S = 1e6  # eleven days: no request takes that long, a difference of two clocks does
CHANGES = {3, 4, 9, 10, 11}  # months in which clocks are put forward or back somewhere
SUNDAY = 6
FEW = 4  # changes of clocks in a trace of two years; more steps of an hour have another cause


def source_findings(trace: Trace, tell: Tell = silent) -> list[Finding]:
    """What the rules below find in a stored trace; a few passes over its times."""
    scan = _scan(trace, tell)
    return [finding for rule in RULES if (finding := rule(trace.meta, scan)) is not None]


def _scan(trace: Trace, tell: Tell) -> dict[str, Any]:
    ends = steps(tell, [26, 24, 50])  # % of the time of times, repeats and ids, measured
    next(ends)
    rows, arrival = trace.scan(), pl.col("arrival_s")
    order = pl.col("source_row")
    latencies = ("ttft_s", "e2e_s", "queue_s")
    facts = rows.select(
        first=arrival.min(),
        last=arrival.max(),
        descents=(order.cast(pl.Int64).diff() < 0).sum(),
        early=(arrival < SINCE_1970_S / 100).sum(),
        late=(arrival > SINCE_1970_S).sum(),
        longest=pl.max_horizontal(pl.col(name).max() for name in latencies),
        first_after_last=(pl.col("ttft_s") > pl.col("e2e_s")).sum(),
        both=(pl.col("ttft_s").is_not_null() & pl.col("e2e_s").is_not_null()).sum(),
    )
    scan = facts.collect(engine="streaming").row(0, named=True) | {"back": None, "gaps": []}
    if scan["descents"]:
        scan["back"] = _backward(trace)
    next(ends)
    scan["repeats"] = duplicates(trace.path, [c for c in trace.meta.columns if c not in ("source_row", "request_id")])
    next(ends)
    scan["own_ids"] = _own_ids(trace)
    scan["same_ids"] = repeated_ids(trace.path, trace.meta.rows_kept) if scan["own_ids"] else 0
    next(ends, None)
    if trace.meta.epoch is not None and trace.meta.epoch_kind == "assumed":
        hours = rows.select(before=arrival.shift(1), gap=arrival.diff()).filter(
            pl.col("gap").is_between(HOUR_S, HOUR_S + 300)
        )
        scan["gaps"] = hours.collect(engine="streaming").rows()
    return scan


def _backward(trace: Trace) -> dict[str, Any]:
    """Steps back in time in the source's order (not where a file begins): how many, how far, which by an hour."""
    starts = trace.path.with_name(FILES)
    begins = pl.read_parquet(starts)["first_row"].to_list() if starts.is_file() else []
    ordered = trace.scan().select("source_row", "arrival_s").sort("source_row")
    step = pl.col("arrival_s").diff()
    steps = ordered.select("source_row", before=pl.col("arrival_s").shift(1), step=step)
    back = steps.filter((pl.col("step") < 0) & ~pl.col("source_row").is_in(begins))
    an_hour = pl.col("before").filter(pl.col("step").is_between(-HOUR_S - 1, -HOUR_S + 300))
    facts = back.select(rows=pl.len(), most_s=-pl.col("step").min(), folds=an_hour.head(FEW + 1).implode())
    return facts.collect(engine="streaming").row(0, named=True)


def _own_ids(trace: Trace) -> bool:
    """Whether the source gives request ids; else they are row numbers."""
    given = trace.scan().select((pl.col("request_id") != pl.col("source_row").cast(pl.String)).any())
    return bool(given.collect(engine="streaming").item())


Rule = Callable[[TraceMeta, dict[str, Any]], Finding | None]


def sentinels(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Negative counts and durations are a mark for unknown, mostly -1: the row is set aside."""
    found = {reason: rows for reason, rows in meta.rows_set_aside.items() if reason.endswith(" negative")}
    if not found:
        return None
    told = ", ".join(f"{rows:,} {reason}" for reason, rows in found.items())
    hint = "if -1 stands for unknown, write nothing there, and a status other than ok where the request did not succeed"
    return Finding("FAIR", f"negative values: {told}", hint)


def since_1970(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Seconds since 1970 read as relative: the hours of day are lost, nothing else."""
    large = sum(rows for reason, rows in meta.rows_set_aside.items() if reason == "arrival_s too large")
    if meta.epoch_kind != "relative" or (scan["first"] < SINCE_1970_S and not large):
        return None
    unit = meta.time_unit if scan["first"] >= SINCE_1970_S else "ms"
    text = f"times begin at {scan['first']:,.0f} s: seconds since 1970, read as relative"
    if scan["first"] < SINCE_1970_S:
        text = f"{large:,} times are too large for {meta.time_unit}: of a finer unit, perhaps since 1970"
    return Finding("FAIR", text, f"if so, ingest with --map arrival_s=COLUMN --time-unit epoch-{unit}")


def two_clocks(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """A wall clock and a monotonic one, in one column of times or subtracted from each other."""
    hint = "subtract only times of one clock, and take all arrivals from the same one"
    if meta.epoch_kind == "relative" and scan["early"] and scan["late"]:
        text = f"{scan['early']:,} arrivals lie near 0 and {scan['late']:,} above 1e9 s: two clocks in one column"
        return Finding("POOR", text, hint)
    if (scan["longest"] or 0.0) > LONGEST_S:
        return Finding("POOR", f"a latency of {scan['longest']:,.0f} s: a wall and a monotonic clock mixed", hint)
    if scan["first_after_last"] > 0.001 * scan["both"]:
        rows = scan["first_after_last"]
        return Finding("FAIR", f"{rows:,} requests have ttft_s above e2e_s: not of one clock, or swapped", hint)
    return None


def out_of_order(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Rows out of order are sorted; from a fifth on, the time may not be that of arrival."""
    if not scan["back"] or not scan["back"]["rows"]:
        return None
    rows, most = scan["back"]["rows"], scan["back"]["most_s"]
    are = "row is" if rows == 1 else "rows are"
    text = f"{rows:,} {are} earlier than the one before, by up to {most:,.6g} s: sorted"
    hint = "nothing, if several writers share the file; else check that this column is the arrival"
    if rows > 0.2 * meta.rows_kept:
        hint = "the rows may be in order of completion, or of several sources: check that this column is the arrival"
    return Finding("FAIR" if rows > 0.2 * meta.rows_kept else "GOOD", text, hint)


def clock_change(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Times without a zone that jump an hour back, or on a Sunday of spring or autumn an hour ahead: local time."""
    if meta.epoch is None or meta.epoch_kind != "assumed":
        return None
    hint = "export the times in UTC, or with their zone (2026-10-25 02:30:00+02:00)"
    folds = scan["back"]["folds"] if scan["back"] else []
    if folds and len(folds) <= FEW:
        day = _day(meta.epoch, folds[0])
        return Finding("FAIR", f"times go back by an hour on {day:%Y-%m-%d}: clocks put back, an hour doubled", hint)
    dense = meta.span_s / max(meta.rows_kept - 1, 1) < HOUR_S / 20
    for before, _ in scan["gaps"]:
        day = _day(meta.epoch, before)
        if dense and day.month in CHANGES and day.weekday() == SUNDAY and day.hour < 4:
            return Finding("FAIR", f"an hour is missing on {day:%Y-%m-%d}: clocks put forward", hint)
    return None


def _day(epoch: datetime, at_s: float) -> datetime:
    return (epoch + timedelta(seconds=at_s)).astimezone(UTC)


def repeated(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Equal rows: legal without request ids; with them, written twice. FAIR from 1 %."""
    if not scan["repeats"]:
        return None
    repeat = "row repeats" if scan["repeats"] == 1 else "rows repeat"
    text = f"{scan['repeats']:,} {repeat} another in every column but the id: kept"
    hint = "legal where the source has no request ids; if one export overlaps another, remove the overlap"
    if scan["own_ids"]:
        hint = "were requests written twice under different ids? Remove one of them in the source"
    return Finding("FAIR" if scan["repeats"] >= 0.01 * meta.rows_kept else "GOOD", text, hint)


def same_ids(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Rows under one request id: retries, or logs of several writers joined. FAIR from 1 %."""
    if not scan["same_ids"]:
        return None
    rows = "row has" if scan["same_ids"] == 1 else "rows have"
    text = f"{scan['same_ids']:,} {rows} the request id of another: kept, each a request of its own"
    hint = "nothing, if they are retries; else do the rows of one request belong together, or is this column no id?"
    return Finding("FAIR" if scan["same_ids"] >= 0.01 * meta.rows_kept else "GOOD", text, hint)


RULES: tuple[Rule, ...] = (since_1970, two_clocks, sentinels, clock_change, out_of_order, repeated, same_ids)

"""A part of a stored trace, by time and by an expression: written beside it for as long as it is looked at."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import polars as pl

from .disk import environment_errors
from .errors import Exit, UserError
from .folders import own_folder
from .formats.source import shown
from .instants import Period, at_s, moment
from .trace import ROW_GROUP, SCHEMA, Selection, Trace
from .where import true_rows


@contextmanager
def selected(trace: Trace, period: Period | None = None, where: str | None = None) -> Iterator[Trace]:
    """The rows of `trace` in `period` of which `where` is true, as a trace; `trace` itself where nothing is asked.

    Its file is gone at the end. UserError (exit 2) where no row is left, `where` cannot be run, or the period is none.
    """
    period = period or Period()
    if not period and where is None:
        yield trace
        return
    since_s, until_s, ends = bounds(trace, period)
    with ExitStack() as stack:
        with environment_errors(trace.path.parent):
            part = stack.enter_context(own_folder(trace.path.parent, "part")) / "trace.parquet"
        inside = _inside(since_s, until_s)
        total = int(trace.scan().select(inside.sum()).collect(engine="streaming").item() or 0)
        if not total:
            raise _empty(trace, ends, f"no request {_words(trace, since_s, until_s, None, ends[0])}")
        rows = pl.scan_parquet(trace.path, glob=False)
        if where is None:
            rows = rows.filter(inside)
        else:
            keep = pl.LazyFrame({"keep": true_rows(trace, where, since_s, until_s)})
            rows = pl.concat([rows, keep], how="horizontal").filter("keep").drop("keep")
        with environment_errors(trace.path.parent):
            rows.sink_parquet(part, row_group_size=ROW_GROUP, compression="lz4")  # read once or twice, then gone
        yield _described(Trace(trace.meta, part), trace, total, (since_s, until_s, where), ends)


def bounds(trace: Trace, period: Period) -> tuple[float | None, float | None, tuple[float, float]]:
    """`period` as arrival_s, and the first and last arrival; UserError (exit 2) where it ends before it begins."""
    at = pl.col("arrival_s")
    ends = trace.scan().select(first=at.min(), last=at.max()).collect(engine="streaming").row(0)
    since_s = None if period.since is None else at_s(period.since, trace.meta, ends, "--since")
    until_s = None if period.until is None else at_s(period.until, trace.meta, ends, "--until")
    if since_s is not None and until_s is not None and until_s <= since_s:
        told = f"{_words(trace, since_s, until_s, None, ends[0])}: ends before it begins"
        raise _empty(trace, ends, told)
    return since_s, until_s, ends


def _inside(since_s: float | None, until_s: float | None) -> pl.Expr:
    low, high = (-math.inf if since_s is None else since_s), (math.inf if until_s is None else until_s)
    return (pl.col("arrival_s") >= low) & (pl.col("arrival_s") < high)


def _described(
    part: Trace,
    trace: Trace,
    in_period: int,
    asked: tuple[float | None, float | None, str | None],
    ends: tuple[float, float],
) -> Trace:
    since_s, until_s, where = asked
    at, rows = pl.col("arrival_s"), pl.len()
    scan = pl.scan_parquet(part.path, glob=False)
    names = scan.collect_schema().names()
    known = [pl.col(c).is_not_null().any().alias(f"has {c}") for c in names if c in SCHEMA]
    found = scan.select(*known, rows=rows, span_s=at.max() - at.min()).collect(engine="streaming").row(0, named=True)
    said = _words(trace, since_s, until_s, where, ends[0])
    if not found["rows"]:
        raise _empty(trace, ends, f"of {in_period:,} requests none is left {said}")
    whole = trace.meta.rows_kept
    selection = Selection(
        since_s=since_s,
        until_s=until_s,
        where=where,
        rows=whole,
        outside=whole - in_period,
        unmet=in_period - found["rows"],
        said=said,
        period=_words(trace, since_s, until_s, None, ends[0]),
    )
    changed = {
        "rows_kept": found["rows"],
        "span_s": found["span_s"],
        "columns": [c for c in trace.meta.columns if found.get(f"has {c}", c not in names)],
        "selection": selection,
    }
    return Trace(trace.meta.model_copy(update=changed), part.path)


def _words(trace: Trace, since_s: float | None, until_s: float | None, where: str | None, first_s: float) -> str:
    """'where ... from ... to ...', as far as it was asked."""
    parts = [] if where is None else [f"where {shown(where, 200)}"]
    if since_s is not None:
        parts.append(f"from {moment(since_s, trace.meta, first_s)}")
    if until_s is not None:
        parts.append(f"{'to' if since_s is not None else 'before'} {moment(until_s, trace.meta, first_s)}")
    return " ".join(parts)


def _empty(trace: Trace, ends: tuple[float, float], told: str) -> UserError:
    first, last = (moment(at, trace.meta, ends[0]) for at in ends)
    zone = " UTC" if trace.meta.epoch else ""
    return UserError(f"{shown(trace.meta.name)}: {told}; it covers {first} to {last}{zone}", Exit.USAGE)

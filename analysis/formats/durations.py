"""Durations that a source does not say but its times do."""

import polars as pl

from lmaas.analysis.checks import seconds

from . import times
from .base import SINCE_1970, TimeUnit
from .source import Source


def between(source: Source, start: str, end: str, unit: TimeUnit) -> pl.Expr:
    """Seconds from `start` to `end`, two times of one clock in one unit; null where either is missing.

    What stands in `end` and is no time is passed on as it is, for the checks to refuse.
    """
    first, last = (_ns(source, column, unit) for column in (start, end))
    took = seconds(last - first, times.NS)
    if unit == "epoch-s":
        took = took.round(6)  # a double of seconds since 1970 holds no more
    if source.dtypes.get(end, pl.String()) != pl.String():
        return took
    return pl.when(took.is_not_null()).then(took.cast(pl.String)).when(last.is_null()).then(pl.col(end))


def _ns(source: Source, column: str, unit: TimeUnit) -> pl.Expr:
    dtype = source.dtypes.get(column, pl.String())
    if isinstance(dtype, pl.Datetime):
        return times.from_dates(pl.col(column), dtype).struct.field("ns")
    if unit in SINCE_1970:
        return times.from_numbers(pl.col(column), dtype, SINCE_1970[unit]).struct.field("ns")
    return times.parse(pl.col(column).cast(pl.String)).struct.field("ns")

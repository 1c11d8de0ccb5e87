"""Any CSV, JSONL or Parquet whose columns the user names: `--map field=column` and `--time-unit`."""

import re
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import REQUIRED, SCHEMA

from .base import TIME_UNITS, Reading, TimeUnit
from .http import status_or_code
from .prompts import COLUMN, grams
from .source import Source, missing_columns, shown

FIELDS = tuple(name for name in SCHEMA if name != "source_row")  # a source's own row numbers are this one's to give
PATTERN = re.compile(r"\^.*\$|\*", re.DOTALL)  # what Polars takes for many columns in place of one
ALIASES = {"client": "tenant"}  # ServeGen's and several gateways' word for it
KNOWN = (*FIELDS, *ALIASES)  # columns that go by their own name


def check_fields(mapping: Mapping[str, str]) -> None:
    """UserError (exit 2) for a field that the trace table does not have."""
    for field in mapping:
        if field not in FIELDS:
            near = get_close_matches(field, FIELDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(FIELDS)}"
            raise UserError(f"no trace column named '{shown(field)}'; {hint}", Exit.USAGE)


def check_time_unit(unit: str | None) -> TimeUnit | None:
    """`unit` if it is one; UserError (exit 2) else."""
    if unit is None:
        return None
    for known in TIME_UNITS:
        if unit == known:
            return known
    raise UserError(f"no time unit '{shown(unit)}'; there are {', '.join(TIME_UNITS)}", Exit.USAGE)


def mapped(
    source: Source,
    mapping: Mapping[str, str],
    unit: TimeUnit | None,
    *,
    epoch: datetime | None = None,
    block_size: int | None = None,
) -> Reading:
    """The named columns, and every other trace column that the source has under its own name.

    The arrival's unit is the one given; a date column of a Parquet file is a date, and a column called `arrival_s`
    is in seconds. UserError where a column is not there (exit 4) or the unit is not known (exit 2).
    """
    check_fields(mapping)
    columns: dict[str, str] = {own: own for own in FIELDS if own in source.columns}
    columns |= {own: other for other, own in ALIASES.items() if other in source.columns and own not in columns}
    columns |= mapping
    absent = [column for column in columns.values() if column not in source.columns]
    pattern = next((name for name in columns.values() if PATTERN.fullmatch(name)), None)
    if pattern is not None and not absent:
        raise UserError(f"{source.name}: column {shown(pattern)} is called like a pattern of names; rename it")
    if absent or not set(REQUIRED) <= set(columns):
        raise missing_columns(source, absent or [name for name in REQUIRED if name not in columns], mapping)
    notes: tuple[str, ...] = ()
    if source.kind == "csv" and "block_hashes" in columns:
        del columns["block_hashes"]
        notes = ("block_hashes are not read from CSV: use JSONL or Parquet",)
    arrival = columns.pop("arrival_s")
    unit = _unit(source, arrival, unit)
    # mapped to another column, that one holds the prompts themselves
    asked = grams(source, mapping[COLUMN]) if mapping.get(COLUMN, COLUMN) != COLUMN else {}
    ended = _ended(source, columns)
    return Reading(arrival, unit, {**columns, **asked, **ended}, block_size=block_size, epoch=epoch, notes=notes)


def _ended(source: Source, columns: Mapping[str, str]) -> dict[str, pl.Expr]:
    """The status, where it may be written as a code of HTTP; of an enumeration it is not."""
    column = columns.get("status", "")
    words = isinstance(source.dtypes.get(column), (pl.Enum, pl.Categorical))
    return {"status": status_or_code(pl.col(column))} if column and not words else {}


def _unit(source: Source, arrival: str, given: TimeUnit | None) -> TimeUnit:
    dtype = source.dtypes.get(arrival, pl.String())
    is_date = isinstance(dtype, pl.Datetime)
    if is_date and given not in (None, "datetime"):
        raise UserError(f"{source.name}: column {shown(arrival)} holds dates, not {given}", Exit.USAGE)
    if is_date or given:
        return given or "datetime"
    if arrival == "arrival_s":
        return "s"
    units = "|".join(TIME_UNITS)
    raise UserError(f"{source.name}: say what unit column {shown(arrival)} is in: --time-unit {units}", Exit.USAGE)

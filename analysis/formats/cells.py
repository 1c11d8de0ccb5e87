"""Single cells of logs: the first that says something, numbers inside JSON, zeros that stand for unknown."""

from collections.abc import Mapping

import polars as pl

from lmaas.analysis.checks import seconds

from .source import Source

NOTHING = ("", "-", "None", "null", "NULL", "\\N")  # how loggers and database dumps write that there is nothing


def first(source: Source, *columns: str) -> pl.Expr:
    """As text, the first of the columns that is there and says something; null where none does."""
    there = [pl.col(name).cast(pl.String) for name in columns if name in source.columns]
    said = [pl.when(~text.is_in(NOTHING)).then(text) for text in there]
    return pl.coalesce(*said) if said else pl.lit(None, pl.String)


def inside(source: Source, column: str, *paths: str) -> pl.Expr:
    """As text, the first of the JSONPaths that leads somewhere in a column of JSON texts."""
    if column not in source.columns or source.dtypes.get(column, pl.String()) != pl.String():
        return pl.lit(None, pl.String)
    found = [pl.col(column).str.json_path_match(path) for path in paths]
    return pl.coalesce(*(pl.when(~text.is_in(NOTHING)).then(text) for text in found))


def unless_zero(number: pl.Expr, failed: pl.Expr) -> pl.Expr:
    """`number`, but unknown where a request failed and the log has a zero for it."""
    zero = (number.cast(pl.Float64, strict=False) == 0).fill_null(False)
    return pl.when(~(failed.fill_null(False) & zero)).then(number)


def milliseconds(number: pl.Expr) -> pl.Expr:
    """Milliseconds, as text, in seconds; what is no number stays as it is, for the checks to refuse."""
    in_s = seconds(number.cast(pl.Float64, strict=False), 1000)
    return pl.when(in_s.is_not_null()).then(in_s.cast(pl.String)).otherwise(number)


def read_only(columns: Mapping[str, pl.Expr]) -> dict[str, str | pl.Expr]:
    """Those of `columns` that read anything of the source."""
    return {name: column for name, column in columns.items() if column.meta.root_names()}

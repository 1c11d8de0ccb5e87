"""What a trace format is: a signature, and a mapping of its columns onto the trace table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol, get_args

import polars as pl

from .source import Kind, Source

TimeUnit = Literal["s", "ms", "us", "ns", "datetime", "epoch-s", "epoch-ms", "epoch-us", "epoch-ns"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
SINCE_1970: dict[str, int] = {"epoch-s": 1, "epoch-ms": 10**3, "epoch-us": 10**6, "epoch-ns": 10**9}  # units a second


@dataclass(frozen=True)
class Reading:
    """How one source becomes the trace table.

    In CSV and JSONL every source column is text (`block_hashes` in JSONL: List(UInt64)), in Parquet it has its own
    type; an expression given here returns either, and the types of the trace table are checked and made from it in
    one place (`checks`), so that a format never casts.
    """

    arrival: str | pl.Expr  # source column of the arrival time, or an expression
    unit: TimeUnit  # of `arrival`; decided by the format, never by the size of the numbers
    columns: Mapping[str, str | pl.Expr]  # trace column -> source column, or an expression over source columns
    block_size: int | None = None  # tokens a hash block
    checks: Mapping[str, pl.Expr] = field(default_factory=dict)  # reason -> true where a row of the trace is bad
    asides: Mapping[str, pl.Expr] = field(default_factory=dict)  # reason -> over source columns: where it is no request
    epoch: datetime | None = None  # of times that are numbers, where the source states it; else they are relative
    later_ns: Mapping[str, int] = field(default_factory=dict)  # of merged files, by label: how much after `epoch` 0 is
    notes: tuple[str, ...] = ()
    ids_repeat: bool = False  # the source may write one request several times, under its id: told, never dropped

    @property
    def dated(self) -> bool:
        """Whether the arrival is an instant of the calendar; else it counts from a start of the source's own."""
        return self.unit == "datetime" or self.unit in SINCE_1970

    def source_columns(self) -> list[str]:
        """The source columns read, each once, in a stable order."""
        named: list[str] = []
        for column in (self.arrival, *self.columns.values(), *self.asides.values()):
            named += [column] if isinstance(column, str) else column.meta.root_names()
        return list(dict.fromkeys(named))

    def told_columns(self) -> list[str]:
        """Those of them that a row that is set aside may be stored with: all but what only prompts are read from."""
        prompt = self.columns.get("prompt_grams")
        if prompt is None or isinstance(prompt, str):
            return self.source_columns()
        without = {name: column for name, column in self.columns.items() if column is not prompt}
        return replace(self, columns=without).source_columns()


class Format(Protocol):
    """A trace format; a class without state, registered in `FORMATS`."""

    name: str
    kinds: tuple[Kind, ...]
    required: tuple[str, ...]  # source columns it cannot do without
    # a flat format of JSONL also says as `optional` what else it reads: keys that the first lines may not have

    def recognises(self, source: Source) -> bool:
        """Whether `source` bears this format's signature: its columns, never its name or the size of its numbers."""
        ...

    def read(self, source: Source) -> Reading:
        """The mapping for `source`, which has all `required` columns."""
        ...


def present(columns: Mapping[str, str], source: Source) -> dict[str, str | pl.Expr]:
    """The part of `columns` (trace column -> source column) whose source column is there."""
    return {trace: column for trace, column in columns.items() if column in source.columns}

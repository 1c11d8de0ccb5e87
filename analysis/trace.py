"""The trace table: the one shape every format becomes at the edge (docs/trace-table.md)."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

STATUSES = ("ok", "failed", "cancelled", "rejected", "incomplete")
TIERS = ("interactive-fast", "interactive-normal", "batch")
ROW_GROUP = 131_072  # rows; small groups keep streaming readers in memory (polars#25307)

SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),  # source id, else the source row number
    "arrival_s": pl.Float64(),  # since the trace's epoch
    "service": pl.Categorical(),  # model or endpoint; `default` where the source has none
    "region": pl.Categorical(),  # where the request comes from
    "tenant": pl.Categorical(),
    "tier": pl.Categorical(),  # one of TIERS
    "session_id": pl.String(),
    "turn": pl.UInt16(),
    "parent_id": pl.String(),
    "think_s": pl.Float64(),  # pause between the previous turn's end and this request
    "deadline_s": pl.Float64(),
    "priority": pl.Float64(),
    "max_tokens": pl.UInt32(),
    "input_tokens": pl.UInt32(),
    "output_tokens": pl.UInt32(),
    "cached_tokens": pl.UInt32(),  # prefix-cache hits reported by the source
    "block_hashes": pl.List(pl.UInt64()),
    "prompt_grams": pl.String(),  # 32 hexadecimal digits: hashed n-grams of the prompt (grams.py)
    "ttft_s": pl.Float64(),  # observed
    "e2e_s": pl.Float64(),  # observed
    "queue_s": pl.Float64(),  # observed
    "status": pl.Enum(STATUSES),
    "source_row": pl.UInt64(),  # for tracing a number back
}
REQUIRED = ("arrival_s", "input_tokens", "output_tokens")


class Selection(BaseModel):
    """Which rows of a stored trace a part of it has: rows = kept + outside + unmet."""

    model_config = ConfigDict(extra="forbid")

    since_s: float | None = None  # arrival_s from here on
    until_s: float | None = None  # arrival_s before this
    where: str | None = None  # a DuckDB expression that is true of the rows
    rows: int  # of the stored trace
    outside: int  # not in the period
    unmet: int  # in the period, and the expression is not true
    said: str  # in words: 'where ... from ... to ...'
    period: str  # of these words those about time


class TraceMeta(BaseModel):
    """What is known of a stored trace beside its rows (`meta.json` in its folder)."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal["1.0"] = "1.0"
    trace_id: str  # hash of content and mapping
    name: str
    source: str
    format: str
    epoch: datetime | None  # UTC instant of arrival_s = 0; None where times are relative
    epoch_kind: Literal["known", "assumed", "relative"]  # assumed: the source's times carry no zone
    time_unit: str  # as decided by the format's signature or given by the user
    quantum_s: float  # timestamps are multiples of this; statistics below it are refused
    block_size: int | None  # tokens a hash block
    rows_read: int
    rows_kept: int
    rows_set_aside: dict[str, int]  # reason -> rows; rows_read = rows_kept + their sum (+ what `selection` drops)
    span_s: float  # last arrival - first arrival
    columns: list[str]  # columns that hold at least one value
    notes: list[str]  # oddities found, one sentence each
    anonymised: bool = False  # tenants, sessions and ids are keyed hashes
    selection: Selection | None = None  # of a part of a stored trace


@dataclass(frozen=True)
class Trace:
    """A stored trace: its metadata and the Parquet file, sorted by arrival."""

    meta: TraceMeta
    path: Path

    def scan(self) -> pl.LazyFrame:
        """Lazy frame of SCHEMA; nothing is read until it is collected."""
        stored = pl.scan_parquet(self.path, glob=False)  # a folder may be called work[1]
        names = stored.collect_schema().names()
        absent = [_absent(name).alias(name) for name in SCHEMA if name not in names]
        return stored.with_columns(absent).select(list(SCHEMA)) if absent else stored

    def table(self, *columns: str) -> pl.DataFrame:
        """The rows in memory, in arrival order; only `columns` where given."""
        return self.scan().select(columns or list(SCHEMA)).collect()


def _absent(name: str) -> pl.Expr:
    """A column that is not in the file, since the source has none: a third of the time to write were such columns."""
    return pl.col("source_row").cast(pl.String) if name == "request_id" else pl.lit(None, SCHEMA[name])

"""A source's rows to two Parquet files in one pass: those kept, in order of arrival, and those set aside."""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from .account import Account
from .anonymise import Anonymiser
from .checks import NS, ROW, SPELLED, arrivals_ns, checked, numbers, seconds
from .errors import UserError
from .formats.base import Reading
from .formats.canonical import BLOCK_SIZE, EPOCH
from .formats.careful import MALFORMED
from .formats.expected import expected_rows
from .formats.merged import OWN, Merged, carefully, fast
from .formats.packed import damaged
from .formats.padding import without_padding
from .formats.source import Source, shown
from .ingest_sort import group_rows, sort_rows
from .ingest_texts import put_texts
from .progress import Tell, silent

TRACE, REJECTS, FILES = "trace.parquet", "rejects.parquet", "files.parquet"
FIRST = 1000  # rows that tell how much the others hold
LEVEL = 1  # of zstd: the default, 3, takes half as long again to write and saves a tenth of the size
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how Polars says what the system answered


@dataclass(frozen=True)
class Written:
    """The account of a pass over a source: `rows_read` = `facts["rows"]` + the sum of `set_aside`."""

    facts: dict[str, int]  # `rows` kept, `naive` of them, and for every trace column its values
    set_aside: dict[str, int]  # reason -> rows, most frequent first
    inversions: int  # kept rows that are earlier than the kept row before them
    epoch: datetime | None
    files: pl.DataFrame | None = None  # of a merged source: file, first_row, rows

    @property
    def rows_read(self) -> int:
        """Every row of the source."""
        return self.facts["rows"] + sum(self.set_aside.values())


def write_rows(
    source: Source,
    reading: Reading,
    folder: Path,
    anonymiser: Anonymiser | None = None,
    *,
    keep_text: bool = False,
    tell: Tell = silent,
) -> Written:
    """Write trace.parquet (sorted by arrival, stably) and rejects.parquet into `folder`; UserError (exit 4) if nothing
    is kept or the source cannot be read to its end. `keep_text`: with what people and models wrote in the rejects.
    """
    write = partial(_write, source, reading, folder, anonymiser, keep_text, tell, expected_rows(source))
    wanted = reading.source_columns()
    hashes = _hashes(source, reading)
    try:
        if source.kind == "parquet":
            return write(source.scan(wanted, ROW), dict(source.dtypes))
        types = {name: pl.List(pl.UInt64()) if name == hashes else pl.String() for name in wanted}
        if source.by_line:
            raw = carefully(source, wanted, ROW, hashes)
            return write(raw, types | {MALFORMED: pl.String()})
        try:
            return write(fast(source, wanted, ROW, hashes), types)
        except pl.exceptions.PolarsError as error:  # some line is no row: read slowly, and set that line aside
            _raise_full_disk(error)
            raw = carefully(source, wanted, ROW, hashes)
            return write(raw, types | {MALFORMED: pl.String()})
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        _raise_full_disk(error)
        if source.kind == "parquet":
            _refuse_damaged(source, wanted)
        raise
    except OSError as error:
        if error.errno in FULL_DISK:
            raise
        why = damaged(source.compression) if source.compression else error.strerror or shown(str(error))
        name = source.at_fault(wanted, ROW).name if isinstance(source, Merged) else source.name
        raise UserError(f"{name}: cannot be read to its end: {why}") from None


def _raise_full_disk(error: BaseException) -> None:
    """The OSError that a PolarsError tells of, where it is one of the disk that is written to."""
    told = OS_ERROR.search(str(error))
    if told and int(told[1]) in FULL_DISK:
        raise OSError(int(told[1]), os.strerror(int(told[1]))) from None


def _refuse_damaged(source: Source, wanted: list[str]) -> None:
    """UserError if the bare columns cannot be read either: then the file is at fault, not what is done with it."""
    try:
        source.scan(wanted, ROW).select(pl.all().count()).collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        name = source.at_fault(wanted, ROW).name if isinstance(source, Merged) else source.name
        why = shown(str(error).splitlines()[0].removeprefix("parquet: "), 120)
        raise UserError(f"{name}: Parquet, but damaged ({why}); copy or export it again") from None


def _hashes(source: Source, reading: Reading) -> str | None:
    """The JSONL key that holds lists."""
    column = reading.columns.get("block_hashes")
    return column if source.kind == "jsonl" and isinstance(column, str) else None


def _write(
    source: Source,
    reading: Reading,
    folder: Path,
    anonymiser: Anonymiser | None,
    keep_text: bool,
    tell: Tell,
    expected: float,
    raw: pl.LazyFrame,
    types: Mapping[str, pl.DataType],
) -> Written:
    types = {**types, **OWN} if isinstance(source, Merged) else types
    padded = {name for name in reading.source_columns() if name not in OWN} if source.kind == "csv" else set[str]()
    late = padded & numbers(reading)  # looked at only where they are no numbers as they stand
    try:
        base_ns = _base_ns(without_padding(raw, padded), reading, types) if reading.dated else 0
        account = Account(
            folder, anonymiser is None, expected, tell, in_order=not (isinstance(source, Merged) and source.files[1:])
        )
        kept = checked(without_padding(raw, padded - late), reading, types, base_ns, account, late)
    except UserError as error:
        named = str(error).startswith(source.name)
        raise UserError(str(error) if named else f"{source.name}: {error}", error.code) from None
    if anonymiser is not None:
        kept = anonymiser.applied(kept)
    written = {"compression": "zstd", "compression_level": LEVEL, "row_group_size": _group_rows(raw, reading, types)}
    facts, files = _sink(kept, account, folder, {**written, "metadata": _metadata(reading, base_ns)}), None
    if isinstance(source, Merged):
        files = _files(source, account.files)
        files.write_parquet(folder / FILES)
    set_aside = _reasons(folder / REJECTS)
    if set_aside and anonymiser is None:
        put_texts(source, facts["rows"] + sum(set_aside.values()), folder / REJECTS, whole=keep_text)
    if not facts["rows"]:
        raise _nothing_kept(source, set_aside, folder / REJECTS)
    inversions, first_s = account.order()
    earlier_s = min(int(first_s // 1), 0)  # whole seconds by which the earliest lies before arrival_s = 0
    base_ns += earlier_s * NS if reading.dated else 0
    if inversions:
        _sort(folder / TRACE, reading, base_ns, earlier_s, written)
    tell(1.0)
    return Written(facts, set_aside, inversions, _epoch(reading, base_ns), files)


def _group_rows(raw: pl.LazyFrame, reading: Reading, types: Mapping[str, pl.DataType]) -> int:
    """Rows of a row group, by the hashes that the first rows hold."""
    column = reading.columns.get("block_hashes")
    if not isinstance(column, str) or not isinstance(types.get(column), pl.List):
        return group_rows(0.0)
    found = raw.head(FIRST).select(pl.col(column).list.len().mean()).collect().item()
    return group_rows(found or 0.0)


def _base_ns(raw: pl.LazyFrame, reading: Reading, types: Mapping[str, pl.DataType]) -> int:
    """The whole second at or before the first date: what arrival_s = 0 stands for, unless a later row is earlier."""
    dates = arrivals_ns(raw.head(100), reading, types).collect()
    if dates.is_empty():
        dates = arrivals_ns(raw, reading, types).head(1).collect(engine="streaming")
    return 0 if dates.is_empty() else int(dates.item(0, "ns")) // NS * NS


def _epoch(reading: Reading, base_ns: int) -> datetime | None:
    if not reading.dated:
        return reading.epoch
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=base_ns // NS)


def _metadata(reading: Reading, base_ns: int) -> dict[str, str]:
    """What a stored trace says of itself, so that it can be ingested elsewhere without loss."""
    epoch = _epoch(reading, base_ns)
    stated = {EPOCH: epoch.isoformat() if epoch else None, BLOCK_SIZE: reading.block_size}
    return {key: str(value) for key, value in stated.items() if value is not None}


def _sink(kept: pl.LazyFrame, account: Account, folder: Path, written: Mapping[str, Any]) -> dict[str, int]:
    """Write both files in one streaming pass over the source; the facts of those kept."""
    try:
        kept.sink_parquet(folder / TRACE, **written, engine="streaming")
        parts = sorted(account.set_aside)
        rejects = pl.scan_parquet(parts, glob=False) if parts else pl.LazyFrame(schema=account.rejected)
        rejects.sink_parquet(folder / REJECTS, compression="zstd")
    finally:
        for part in account.set_aside:
            part.unlink()
    return {"rows": account.rows, "naive": account.naive, **account.values}


def _files(source: Merged, rows: Mapping[str, int]) -> pl.DataFrame:
    """Which rows of a merged source are of which file, in order; a file may have none."""
    counted = pl.DataFrame(
        {"file": source.labels, "rows": [rows.get(label, 0) for label in source.labels]},
        schema={"file": pl.String, "rows": pl.UInt64},
    )
    return counted.select("file", (pl.col("rows").cum_sum() - pl.col("rows")).alias("first_row"), "rows")


def _reasons(rejects: Path) -> dict[str, int]:
    rows = (
        pl.scan_parquet(rejects, glob=False).group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    )
    return dict(rows.collect().iter_rows())


def _nothing_kept(source: Source, set_aside: Mapping[str, int], rejects: Path) -> UserError:
    if not set_aside:
        what = "a header and no rows" if source.kind == "csv" else "no rows"
        return UserError(f"{source.name}: has {what}; expected at least one request")
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in list(set_aside.items())[:4])
    text = pl.scan_parquet(rejects, glob=False).select("text").head(1).collect().item()
    first = "" if text is None else f"; the first is '{shown(text)}'"
    rows = f"none of its {sum(set_aside.values()):,} rows is a request"
    if next(iter(set_aside)) == "arrival_s too large":  # numbers since 1970, in a finer unit than was said
        reasons += " (since 1970? --map arrival_s=COLUMN --time-unit epoch-ms|epoch-us|epoch-ns)"
    elif next(iter(set_aside)).endswith(" negative"):
        reasons += " (if -1 stands for unknown, write nothing there)"
    elif words := accepted(set_aside):
        reasons += f" ({words})"
    return UserError(f"{source.name}: {rows}: {reasons}{first}")


def accepted(set_aside: Mapping[str, int]) -> str:
    """The words of the column whose words are not known, where that is the first reason; else nothing."""
    column = next(iter(set_aside), "").removesuffix(" unknown")
    if column not in SPELLED:
        return ""
    codes = " or a code of HTTP" if column == "status" else ""
    return f"{column} is one of {', '.join(SPELLED[column])}{codes}; what says something else is not mapped to it"


def _sort(trace: Path, reading: Reading, base_ns: int, earlier_s: int, written: Mapping[str, Any]) -> None:
    """Sort by arrival, equal times in the source's order; where rows lie before the epoch, move it to them."""
    arrival = pl.col("arrival_s")
    if earlier_s:  # over whole nanoseconds, so that a shuffled file gives the very numbers that the sorted one does
        arrival = seconds((arrival * NS).round().cast(pl.Int64) - earlier_s * NS, NS)
    sort_rows(trace, arrival, **written, metadata=_metadata(reading, base_ns))

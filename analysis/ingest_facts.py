"""What is known of a trace beside its rows: epoch, time step, order, duplicates, in its metadata."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from .formats.base import Reading
from .formats.merged import NAMED
from .formats.source import Source, shown
from .ingest_write import TRACE, Written
from .progress import Tell, silent
from .trace import ROW_GROUP, SCHEMA, TraceMeta

US = 1_000_000
STEPS_US = tuple(10**k for k in range(6, -1, -1))  # decimal steps of a clock, a second first
ENOUGH = 20  # gaps between distinct times before a step other than a decimal one is believed
SAMPLE = 10_000
PART = 8 * ROW_GROUP
IDS_AT_ONCE = 16_000_000  # hashes held at a time: some 500 MB
GAPS_KEPT = 1 << 20  # of more, every second is kept for the usual gap: memory does not grow with the trace


def describe(
    source: Source, reading: Reading, written: Written, folder: Path, known: Mapping[str, str], tell: Tell = silent
) -> TraceMeta:
    """The metadata of the trace in `folder`; `known`: its trace_id, name and format."""
    trace = folder / TRACE
    columns = [name for name in SCHEMA if name == "request_id" or written.facts[name]]
    naive = written.facts["naive"]
    # a request id that the source gives is part of what makes a row the same; a row number is not
    compared = [name for name in columns if name in reading.columns]
    clock, repeats = Clock(), Repeats(trace, compared)
    with ThreadPoolExecutor(1) as beside:
        for rows in in_order(trace, ["arrival_s", *repeats.plain]):
            timed = beside.submit(clock.add, rows["arrival_s"].to_numpy())
            repeats.add(rows)
            timed.result()
            tell(clock.rows / written.facts["rows"])
    quantum, batched = clock.step()
    return TraceMeta(
        trace_id=known["trace_id"],
        name=known["name"],
        source=str(source.path),
        format=known["format"],
        epoch=written.epoch,
        epoch_kind="relative" if written.epoch is None else "assumed" if naive else "known",
        time_unit=reading.unit,
        quantum_s=quantum,
        block_size=reading.block_size if "block_hashes" in columns else None,
        rows_read=written.rows_read,
        rows_kept=written.facts["rows"],
        rows_set_aside=written.set_aside,
        span_s=clock.last_s - clock.first_s,
        columns=columns,
        notes=[
            *_notes(source, reading, written, batched, quantum, repeats.count()),
            *(_repeated_ids(repeated_ids(trace, written.facts["rows"])) if reading.ids_repeat else []),
        ],
    )


def repeated_ids(trace: Path, rows: int) -> int:
    """Rows of a trace of so many whose request id an earlier one has; 64-bit hashes, so much at a time as fits."""
    ids = pl.scan_parquet(trace, glob=False).select(pl.col("request_id").hash())
    parts = rows // IDS_AT_ONCE + 1
    distinct = (
        ids.filter(pl.col("request_id") % parts == part).select(pl.col("request_id").n_unique())
        for part in range(parts)
    )
    return rows - sum(int(one.collect(engine="streaming").item()) for one in distinct)


def _repeated_ids(again: int) -> list[str]:
    """A sentence where rows share their request's id."""
    rows = "row has" if again == 1 else "rows have"
    return [f"{again:,} {rows} the id of another, as an export writes a request again: kept"] if again else []


def _notes(
    source: Source, reading: Reading, written: Written, batched: bool, quantum: float, repeats: int
) -> list[str]:
    rows, naive = written.facts["rows"], written.facts["naive"]
    notes = [*_merged(written), *reading.notes]
    if naive:
        which = "times carry" if naive == rows else f"{naive:,} of {rows:,} times carry"
        notes.append(f"{which} no time zone: read as UTC")
    if written.inversions:
        begins = ", beginnings of files counted" if written.files is not None else ""
        notes.append(
            f"not in order of arrival: {written.inversions:,} rows earlier than the one before{begins}; sorted"
        )
    if repeats:
        notes.append(f"{repeats:,} rows repeat another in every column: kept, the source may have no request id")
    if batched:
        notes.append(f"times come in batches about {quantum:g} s apart: no statistic below that is shown")
    elif quantum >= 1:
        notes.append(f"times are whole multiples of {quantum:g} s: no statistic below that is shown")
    if written.facts["block_hashes"] and not reading.block_size:
        notes.append("block_hashes without a block size (Parquet metadata lmaas.block_size): prefix reuse is not used")
    unused = [shown(column, 40) for column in source.columns if column not in reading.source_columns()]
    if unused:
        notes.append(f"not read: {', '.join(unused[:8])}{', …' if len(unused) > 8 else ''}")
    return notes


def _merged(written: Written) -> list[str]:
    if written.files is None:
        return []
    named = [f"{shown(name)} ({n:,} rows)" for name, _, n in written.files.head(NAMED).iter_rows()]
    more = f" and {written.files.height - NAMED:,} more" if written.files.height > NAMED else ""
    files = f"{written.files.height:,} file{'s' if written.files.height > 1 else ''}"
    return [f"from {files}, rows numbered through them: {', '.join(named)}{more}"]


def in_order(trace: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The rows of a stored trace, some row groups at a time."""
    rows = pl.scan_parquet(trace, glob=False).select(columns)
    length = pl.scan_parquet(trace, glob=False).select(pl.len()).collect().item()

    def read(at: int) -> pl.DataFrame:
        return rows.slice(at, PART).collect()

    with ThreadPoolExecutor(1) as ahead:  # reads the next part while this one is looked at
        part = ahead.submit(read, 0)
        for at in range(PART, length + PART, PART):
            here, part = part, ahead.submit(read, at)
            yield here.result()


def time_step(arrivals_s: np.ndarray) -> tuple[float, bool]:
    """The step of sorted timestamps in seconds and whether they come in batches; see `Clock.step`."""
    clock = Clock()
    clock.add(arrivals_s)
    return clock.step()


@dataclass
class Clock:
    """The time step of sorted timestamps, handed over in parts."""

    rows: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    last: int = 0  # microseconds
    gaps: int = 0  # between distinct times
    common: int = 0  # greatest common step of the gaps
    kept: list[np.ndarray] = field(default_factory=list)  # gaps, every `stride`-th
    stride: int = 1

    def add(self, arrivals_s: np.ndarray) -> None:
        """The next timestamps, not earlier than the last ones."""
        times = np.rint(arrivals_s * US).astype(np.int64)
        if len(times) == 0:
            return
        if self.rows == 0:
            self.first_s, self.last = float(arrivals_s[0]), int(times[0])
        gaps = np.diff(times, prepend=self.last)
        gaps = gaps[gaps > 0]
        self.rows, self.gaps = self.rows + len(times), self.gaps + len(gaps)
        self.last_s, self.last = float(arrivals_s[-1]), int(times[-1])
        self.common = _common_step(gaps, self.common)
        self.kept.append(gaps[:: self.stride])
        if sum(map(len, self.kept)) > GAPS_KEPT:
            self.kept, self.stride = [np.concatenate(self.kept)[::2]], self.stride * 2

    def step(self) -> tuple[float, bool]:
        """The step in seconds, at least a microsecond, and whether the times come in batches.

        The largest decimal step up to 1 s that all times are multiples of; the greatest common step where that is
        more; the usual gap where times come in batches, as a collector writes them: most requests share their time
        with others, and hardly a gap is much below the usual one.
        """
        if self.gaps == 0:
            return 1 / US, False
        step = next(step for step in STEPS_US if self.common % step == 0 and self.last % step == 0)
        if self.gaps < ENOUGH:
            return step / US, False
        if self.common > US == step:
            return self.common / US, False
        if self.gaps >= 0.5 * self.rows:
            return step / US, False
        gaps = np.concatenate(self.kept)
        usual = float(np.median(gaps))
        batched = usual > step and float(np.quantile(gaps, 0.01)) > 0.9 * usual
        return (usual if batched else step) / US, batched


def _common_step(gaps: np.ndarray, common: int) -> int:
    """Greatest common divisor; of a sample, then of what that leaves: one pass where the sample has said all."""
    common = int(np.gcd(common, np.gcd.reduce(gaps[:SAMPLE])))
    while common > 1 and len(rest := gaps[gaps % common > 0]):
        common = int(np.gcd(common, np.gcd.reduce(rest[:SAMPLE])))
    return common


def duplicates(trace: Path, columns: list[str]) -> int:
    """Rows of a sorted `trace` that repeat an earlier one in all `columns`."""
    repeats = Repeats(trace, columns)
    for rows in in_order(trace, ["arrival_s", *repeats.plain]):
        repeats.add(rows)
    return repeats.count()


class Repeats:
    """Rows of a sorted trace that repeat an earlier one in all of some columns, `plain` and lists.

    Only rows that share their time can; and only of those that are alike in the plain columns are the lists read.
    """

    def __init__(self, trace: Path, columns: list[str]) -> None:
        self.trace = trace
        self.lists = [name for name in columns if isinstance(SCHEMA[name], pl.List)]
        self.plain = [name for name in columns if name not in self.lists and name != "arrival_s"]
        self.rows = 0
        self.found = 0
        self.alike: list[np.ndarray] = []  # rows whose lists are to be compared
        self.open = pl.DataFrame()  # those of the last time: more may follow

    def add(self, rows: pl.DataFrame) -> None:
        """The next rows in order of arrival."""
        rows = rows.with_columns(pl.int_range(self.rows, self.rows + rows.height, dtype=pl.Int64).alias("row"))
        self.rows += rows.height
        rows = pl.concat([self.open, rows]) if self.open.height else rows
        times = rows["arrival_s"].to_numpy()
        first_of_last = int(np.searchsorted(times, times[-1]))
        self.open = rows[first_of_last:]
        self._compare(rows[:first_of_last])

    def count(self) -> int:
        """Of all rows added."""
        self._compare(self.open)
        if not self.alike:
            return self.found
        wanted = pl.LazyFrame({"row": np.concatenate(self.alike)}, schema={"row": pl.Int64()})
        rows = pl.scan_parquet(self.trace, glob=False, row_index_name="row").cast({"row": pl.Int64()})
        same = pl.struct("arrival_s", *self.plain, *self.lists).hash().alias("hash")
        hashes = rows.join(wanted, on="row", how="semi").select(same)
        return int(hashes.select(pl.len() - pl.col("hash").n_unique()).collect(engine="streaming").item())

    def _compare(self, rows: pl.DataFrame) -> None:
        times = rows["arrival_s"].to_numpy() if rows.height else np.empty(0)
        same = times[1:] == times[:-1]
        if not same.any():
            return
        tied = np.r_[same, False] | np.r_[False, same]
        rows = rows.filter(pl.Series(tied)).select("row", pl.struct("arrival_s", *self.plain).hash().alias("hash"))
        if not self.lists:
            self.found += rows.height - rows["hash"].n_unique()
        elif (twice := rows.filter(pl.col("hash").is_duplicated())).height:
            self.alike.append(twice["row"].to_numpy())

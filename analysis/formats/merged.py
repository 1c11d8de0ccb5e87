"""Several files as one source: their rows one after another, columns that a file does not have null."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from os.path import commonpath
from pathlib import Path
from typing import Any

import polars as pl

from lmaas.analysis.errors import UserError

from .base import Reading
from .careful import MALFORMED, scan_carefully
from .fastjson import scan_fast
from .source import RESERVED, Source, shown

FILE = f"{RESERVED}file"  # column of a merged source: which file a row is from
STEM = f"{RESERVED}stem"  # that file's name without its endings, for `--service-per-file`
OWN: dict[str, pl.DataType] = {FILE: pl.String(), STEM: pl.String()}
NAMED = 6  # files that a sentence names
APART_NS = 285 * 365 * 86_400 * 10**9  # what a Float64 of seconds can still tell to the microsecond

Scan = Callable[[Source, Sequence[str], str, str | None], pl.LazyFrame]


@dataclass(frozen=True)
class Merged(Source):
    """Files of one format and kind, in order; `labels` tell them apart, `columns` are those of any of them."""

    files: tuple[Source, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def by_line(self) -> bool:
        """Whether one of them is."""
        return any(file.by_line for file in self.files)

    @property
    def marked(self) -> bool:
        """Whether lines of one of them may be."""
        return any(file.marked for file in self.files)

    def lines(self) -> Iterator[list[str]]:
        """The lines of each file in turn."""
        for file in self.files:
            yield from file.lines()

    def texts(self) -> Iterator[list[Any]]:
        """What each row was read from, file by file."""
        for file in self.files:
            yield from file.texts()

    def scan(self, columns: Sequence[str], row: str, hashes: str | None = None) -> pl.LazyFrame:
        """As of one file, with FILE and STEM; rows are numbered through."""
        return self.together(columns, row, hashes, lambda file, here, number, key: file.scan(here, number, key))

    def together(self, columns: Sequence[str], row: str, hashes: str | None, scan: Scan) -> pl.LazyFrame:
        """The files' rows as `scan` reads them, one after another."""
        wanted = [name for name in columns if name not in OWN]
        frames = []
        for file, label in zip(self.files, self.labels, strict=True):
            here = [name for name in wanted if name in file.columns]
            frame = scan(file, here, row, hashes if hashes in here else None)
            extra = [MALFORMED] if MALFORMED in frame.collect_schema() else []
            given = [pl.col(name).cast(self._dtype(name, hashes)) for name in here]
            absent = [pl.lit(None, self._dtype(name, hashes)).alias(name) for name in wanted if name not in here]
            own = [pl.lit(label).alias(FILE), pl.lit(stem(file.path)).alias(STEM)]
            frames.append(frame.select(*given, *absent, *extra, *own).select(*wanted, *extra, *OWN))
        return pl.concat(frames).with_row_index(row)

    def at_fault(self, columns: Sequence[str], row: str) -> Source:
        """The first file that cannot be read to its end; the whole if all can."""
        for file in self.files:
            try:
                here = [name for name in columns if name in file.columns]
                rows = scan_carefully(file, here, row) if file.kind != "parquet" else file.scan(here, row)
                rows.select(pl.all().count()).collect(engine="streaming")
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                return file
        return self

    def _dtype(self, name: str, hashes: str | None) -> pl.DataType:
        return self.dtypes.get(name, pl.List(pl.UInt64()) if name == hashes else pl.String())


def fast(source: Source, columns: Sequence[str], row: str, hashes: str | None = None) -> pl.LazyFrame:
    """`scan_fast` of a source, or of each of its files."""
    if isinstance(source, Merged):
        return source.together(columns, row, hashes, scan_fast)
    return scan_fast(source, columns, row, hashes)


def carefully(source: Source, columns: Sequence[str], row: str, hashes: str | None = None) -> pl.LazyFrame:
    """`scan_carefully` of a source, or of each of its files."""
    if isinstance(source, Merged):
        return source.together(columns, row, hashes, scan_carefully)
    return scan_carefully(source, columns, row, hashes)


def stem(path: Path) -> str:
    """'day1/conv.csv.gz' -> 'conv'."""
    return path.name.split(".")[0] or path.name


def merge(
    files: Sequence[tuple[str, Source, Reading]], service_per_file: bool, bare_names: bool = False
) -> tuple[str, Source, Reading]:
    """Files of one format (its name, rows and reading each) as one; UserError where they do not go together.

    `bare_names`: the files' labels say nothing of the folders they lie in.
    """
    name, sources = files[0][0], tuple(source for _, source, _ in files)
    _refuse_several([format for format, _, _ in files], sources, "formats")
    _refuse_several([source.kind for source in sources], sources, "kinds of file")
    absolute = [source.path.absolute() for source in sources]
    home = Path(commonpath([path.parent for path in absolute]))
    labels = tuple(str(path.relative_to(home)) for path in absolute)
    if bare_names:
        names = [path.name for path in absolute]
        labels = tuple(n if names.count(n) == 1 else f"{k}/{n}" for k, n in enumerate(names, start=1))
    more = f" and {len(files) - 1} more file{'s' if len(files) > 2 else ''}" if len(files) > 1 else ""
    merged = Merged(
        home / f"{labels[0]}{more}",
        sources[0].kind,
        tuple(dict.fromkeys(column for source in sources for column in source.columns)),
        _dtypes(sources),
        delimiter=sources[0].delimiter,
        compression=next((source.compression for source in sources if source.compression), None),
        files=sources,
        labels=labels,
    )
    readings = [reading for _, _, reading in files]
    if service_per_file:
        readings = [replace(reading, columns={"service": STEM, **reading.columns}) for reading in readings]
    return name, merged, _reading(merged, readings)


def _refuse_several(found: Sequence[str], sources: Sequence[Source], what: str) -> None:
    if len(set(found)) == 1:
        return
    of = {each: [s.name for s, f in zip(sources, found, strict=True) if f == each] for each in dict.fromkeys(found)}
    told = "; ".join(f"{each}: {listed(names)}" for each, names in of.items())
    raise UserError(f"files of different {what} make no one trace ({told}); ingest each of them by itself")


def listed(names: Sequence[str]) -> str:
    """The first of many names, as they may be printed."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(shown(name) for name in names[:NAMED]) + more


def _dtypes(sources: Sequence[Source]) -> Mapping[str, pl.DataType]:
    """The types that hold each column of all the Parquet files; empty for text."""
    types: dict[str, pl.DataType] = {}
    for source in sources:
        for name, dtype in source.dtypes.items():
            both = [pl.DataFrame(schema={name: types.get(name, dtype)}), pl.DataFrame(schema={name: dtype})]
            try:
                types[name] = pl.concat(both, how="vertical_relaxed").schema[name]
            except pl.exceptions.PolarsError:
                told = f"column {shown(name)} is {dtype}, and {types[name]} in the files before it"
                raise UserError(f"{source.name}: {told}; ingest them apart") from None
    return types


def _reading(merged: Merged, readings: Sequence[Reading]) -> Reading:
    """One reading for all rows, each column as the row's own file has it."""
    first = readings[0]
    for source, reading in zip(merged.files, readings, strict=True):
        if reading.unit != first.unit or (reading.epoch is None) != (first.epoch is None):
            told = f"times in {_clock(reading)}, but {merged.files[0].name} in {_clock(first)}"
            raise UserError(f"{source.name}: {told}: no common clock; ingest them apart")
    epoch, later_ns = _epochs(merged, readings)
    sizes = {reading.block_size for reading in readings if reading.block_size is not None}
    if len(sizes) > 1:
        raise UserError(f"{merged.name}: hash blocks of different sizes ({sizes}); ingest the files apart")
    names = dict.fromkeys(name for reading in readings for name in reading.columns)
    notes = list(dict.fromkeys(note for reading in readings for note in reading.notes))
    if not first.dated and first.epoch is None and len(readings) > 1:
        notes.append(f"times are relative: each of the {len(readings):,} files counts from a zero of its own")
    if later_ns:
        notes.append(f"files count from epochs of their own: all moved to the earliest, {epoch:%Y-%m-%d %H:%M:%S} UTC")
    return Reading(
        _joined(merged, [reading.arrival for reading in readings]),
        first.unit,
        {name: _column(name, merged, readings) for name in names},
        block_size=next(iter(sizes), None),
        asides={
            reason: _expression(_joined(merged, [reading.asides.get(reason) for reading in readings]))
            for reason in dict.fromkeys(reason for reading in readings for reason in reading.asides)
        },
        checks={reason: check for reading in readings for reason, check in reading.checks.items()},
        epoch=epoch,
        later_ns=later_ns,
        notes=tuple(notes),
        ids_repeat=any(reading.ids_repeat for reading in readings),
    )


def _expression(how: str | pl.Expr) -> pl.Expr:
    return pl.col(how) if isinstance(how, str) else how


def _clock(reading: Reading) -> str:
    if reading.dated:
        return "dates" if reading.unit == "datetime" else reading.unit
    return f"{reading.unit} since {reading.epoch}" if reading.epoch else f"{reading.unit} from an unknown start"


def _epochs(merged: Merged, readings: Sequence[Reading]) -> tuple[datetime | None, dict[str, int]]:
    """The earliest epoch that files state, and how many nanoseconds later others begin, by label."""
    stated = {label: r.epoch for label, r in zip(merged.labels, readings, strict=True) if r.epoch and not r.dated}
    epoch = min(stated.values(), default=None)
    if epoch is None:
        return readings[0].epoch, {}
    later_ns = {label: (own - epoch) // timedelta(microseconds=1) * 1000 for label, own in stated.items()}
    far = next((label for label, ns in later_ns.items() if ns > APART_NS), None)
    if far is not None:
        raise UserError(f"{shown(far)}: times since {stated[far]}, others since {epoch}: too far apart for one trace")
    return epoch, {label: ns for label, ns in later_ns.items() if ns}


def _column(name: str, merged: Merged, readings: Sequence[Reading]) -> str | pl.Expr:
    how = _joined(merged, [reading.columns.get(name) for reading in readings])
    if name == "block_hashes" and not isinstance(how, str) and merged.kind != "parquet":
        raise UserError(f"{merged.name}: block hashes stand in different columns; ingest the files apart")
    return how


def _joined(merged: Merged, found: Sequence[str | pl.Expr | None]) -> str | pl.Expr:
    """How a trace column is read: as all files have it, else as each of them has (None: it has none)."""
    ways: list[tuple[str | pl.Expr, list[str]]] = []
    for label, how in zip(merged.labels, found, strict=True):
        if how is None:
            continue
        files = next((files for way, files in ways if _same(way, how)), None)
        if files is None:
            ways.append((how, files := []))
        files.append(label)
    how, files = ways[0]
    # a column that a file lacks is null there; an expression may make something of nothing
    if len(ways) == 1 and (isinstance(how, str) or len(files) == len(found)):
        return how
    parts = [pl.when(pl.col(FILE).is_in(files)).then(_expression(w)) for w, files in ways]
    return pl.coalesce(*parts)


def _same(one: str | pl.Expr, other: str | pl.Expr) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and one == other
    return one.meta.eq(other)

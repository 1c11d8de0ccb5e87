"""A file as rows: what it is, by its content, and its columns as they stand."""

import functools
import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import polars as pl

from lmaas.analysis.errors import UserError

from . import aggregates, jsontext
from .header import csv_header
from .packed import (
    LINE_LIMIT,
    Compression,
    compression_of,
    damaged,
    first_lines,
    is_skippable,
    open_bytes,
    refuse_binary,
)
from .shown import pasted
from .shown import shown as shown

Kind = Literal["csv", "jsonl", "parquet"]

RESERVED = "lmaas:"  # column names that begin like this are the reader's own
BLOCK_BYTES = 1 << 23
DOCUMENT_LIMIT = 1 << 28  # bytes; JSON that is not one value a line is read whole, at some five times its size
DOCUMENT_LINES = 1000  # elements of an array handed on at a time
KEY_LINES = 100  # lines of JSON whose keys count as the file's columns

WORDS = {  # for hints only: how others call what is needed
    "arrival_s": ("arriv", "timestamp", "time", "start", "created", "date", "when", "ts"),
    "input_tokens": ("input", "prompt", "context", "prefill", "request", "isl", "in"),
    "output_tokens": ("output", "completion", "generat", "decode", "response", "osl", "out"),
}


@dataclass(frozen=True)
class Source:
    """A readable file: `columns` as named in it (JSONL: the keys of its first lines), `dtypes` for Parquet only.

    A JSON array, and JSON written over several lines, counts as JSONL: a line for each element or object.
    """

    path: Path
    kind: Kind
    columns: tuple[str, ...]
    dtypes: Mapping[str, pl.DataType] = field(default_factory=dict)
    compression: Compression | None = None
    delimiter: str = ","
    skipped: int = 1  # lines of a CSV before its first row
    samples: tuple[Mapping[str, Any], ...] = ()  # of JSONL: the first objects, by which nested formats are told
    document: bool = False  # JSON that is not one object a line
    skippable: bool = False  # zstd that Polars cannot unpack

    def __post_init__(self) -> None:
        for column in self.columns:
            if column.startswith(RESERVED):
                raise UserError(f"{self.name}: column names may not begin with '{RESERVED}'; rename {shown(column)}")

    @classmethod
    def open(cls, path: Path) -> "Source":
        """Tell by content what `path` is; UserError (exit 4) where it is nothing that could be a trace."""
        name = shown(path.name)
        if not _is_utf8(str(path.absolute())):
            raise UserError(f"{name}: its name is no UTF-8, which the readers need; rename it")
        if path.is_dir():
            raise UserError(f"{name}: is a folder; give one file of it")
        if not path.is_file():
            raise UserError(f"{name}: no such file" if not path.exists() else f"{name}: is not a regular file")
        packed: Compression | None = None
        try:
            with path.open("rb") as file:
                magic = file.read(8)
            if magic[:4] == b"PAR1":
                return cls(path, "parquet", *_parquet_columns(path))
            packed = compression_of(magic)
            with open_bytes(path, packed) as stream:
                head = first_lines(stream)
        except OSError as error:
            why = error.strerror or (damaged(packed) if packed else shown(str(error)))
            raise UserError(f"{name}: cannot be read: {why}") from None
        return replace(cls._of_text(path, packed, head), skippable=is_skippable(magic))

    @classmethod
    def _of_text(cls, path: Path, packed: Compression | None, head: bytes) -> "Source":
        name = shown(path.name)
        refuse_binary(name, head)
        text = head.removeprefix(b"\xef\xbb\xbf").decode(errors="backslashreplace")
        if not text.strip():
            raise UserError(f"{name}: is empty; expected a trace as CSV, JSONL or Parquet")
        if text.lstrip()[0] in "{[":
            lines = text.lstrip().split("\n")[:KEY_LINES]
            samples = () if lines[0].startswith("[") else jsontext.objects(lines)
            document = not (samples and jsontext.objects(lines[:1]))
            if document:
                try:  # its lines may hold whole objects, too: those of a list within it
                    samples = tuple(v for v in _document(path, packed)[:KEY_LINES] if isinstance(v, dict))
                except UserError:
                    if not samples:
                        raise
                    document = False  # one object a line, the first of them broken
            if not samples:
                what = "no JSON object in it" if document else "no JSON object in its first lines"
                raise UserError(f"{name}: {what}; expected one object a line: jq -c . {pasted(path.name)}")
            return cls(path, "jsonl", jsontext.keys(samples), compression=packed, samples=samples, document=document)
        aggregates.refuse_text(name, text)
        header = csv_header(name, text)
        return cls(path, "csv", header.columns, compression=packed, delimiter=header.delimiter, skipped=header.skipped)

    @property
    def by_line(self) -> bool:
        """Whether it is read line by line (`lines`), since no reader takes it as it lies."""
        return self.document or self.skippable

    @property
    def marked(self) -> bool:
        """Whether its lines may say that they are no request (`unfold`)."""
        return False

    def texts(self) -> Iterator[list[Any]]:
        """What each row was read from, in batches: its line, or the part of it that a format unfolded."""
        return self.lines()

    def frames(self, columns: Sequence[str], hashes: str | None) -> Iterator[pl.DataFrame] | None:
        """Its rows, where they are not read from lines."""
        return None

    @property
    def name(self) -> str:
        """The file's name as it may be printed."""
        return shown(self.path.name)

    def scan(self, columns: Sequence[str], row: str, hashes: str | None = None) -> pl.LazyFrame:
        """`columns` with the row number as `row`: text in CSV and JSONL (`hashes`: List(UInt64)), own types in Parquet.

        The fast way: a malformed line fails the whole read with a PolarsError (see `careful`).
        """
        if self.kind == "parquet":
            frame = pl.scan_parquet(self.path, row_index_name=row, glob=False)
            frame = frame.with_columns(pl.selectors.array().arr.to_list())
        elif self.kind == "jsonl":
            schema = {name: _json_dtype(name == hashes) for name in columns}
            frame = pl.scan_ndjson(literal(self.path), schema=schema, row_index_name=row)
            return frame.select(row, *columns).map_batches(_without_nul, streamable=True)
        else:
            frame = pl.scan_csv(
                self.path,
                separator=self.delimiter,
                has_header=False,  # a quote in it would make it swallow rows: it is skipped as the line that it is
                skip_lines=self.skipped,
                schema=dict.fromkeys(self.columns, pl.String()),
                row_index_name=row,
                glob=False,
            )
            if len(columns) < len(self.columns):
                return _taking(frame, row, columns)
        return frame.select(row, *columns)

    def lines(self) -> Iterator[list[str]]:
        """The data lines in batches, bytes that are no UTF-8 escaped; a CSV's header and JSONL's blank lines left out.

        Line k is row k of `scan`, except in a CSV where quoted fields span lines.
        """
        if self.document:
            values = [json.dumps(value) for value in _document(self.path, self.compression)]
            yield from (values[at : at + DOCUMENT_LINES] for at in range(0, len(values), DOCUMENT_LINES))
            return
        first, rest, before = True, b"", self.skipped if self.kind == "csv" else 0
        with open_bytes(self.path, self.compression) as stream:
            while True:
                block = stream.read(BLOCK_BYTES)
                whole, newline, rest = (rest + block).rpartition(b"\n") if block else (rest, b"", b"")
                if len(rest) > LINE_LIMIT:
                    raise UserError(f"{self.name}: has a line of more than {LINE_LIMIT >> 20} MB; not a trace")
                if whole or newline:
                    batch = whole.removeprefix(b"\xef\xbb\xbf") if first else whole
                    lines = [line.removesuffix("\r") for line in batch.decode(errors="backslashreplace").split("\n")]
                    if self.kind == "jsonl":
                        lines = [line for line in lines if line.strip()]
                    yield lines[before:]
                    first, before = False, max(before - len(lines), 0)
                if not block:
                    return


def _taking(frame: pl.LazyFrame, row: str, columns: Sequence[str]) -> pl.LazyFrame:
    """Some columns of a CSV of which all are read: of fewer, Polars does not tell that a row has too many fields."""
    schema: dict[str, pl.DataType] = {row: pl.UInt64(), **dict.fromkeys(columns, pl.String())}
    return frame.with_columns(pl.col(row).cast(pl.UInt64)).map_batches(
        lambda batch: batch.select(row, *columns), schema=schema, projection_pushdown=False, streamable=True
    )


def _without_nul(batch: pl.DataFrame) -> pl.DataFrame:
    if jsontext.holds_nul(batch):
        raise pl.exceptions.ComputeError("a text with NUL, or a lone surrogate")
    return batch


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def literal(path: Path) -> str:
    """`path` for readers that would take a `[` or `*` in it for a pattern."""
    return glob.escape(str(path))


def missing_columns(source: Source, missing: Sequence[str], mapping: Mapping[str, str] | None = None) -> UserError:
    """The error for columns that a format needs and `source` does not have: what is there, what is near, how to map."""
    there = ", ".join(shown(column, 40) for column in source.columns[:12]) or "none"
    found = there + (", …" if len(source.columns) > 12 else "")
    near = [match for name in missing for match in get_close_matches(name, source.columns, n=1, cutoff=0.7)]
    meant = f" (is {', '.join(shown(name, 40) for name in near)} meant?)" if near else ""
    right = {name: column for name, column in (mapping or {}).items() if column in source.columns}
    guessed = {name: _guess(name, source.columns) for name in WORDS} | right
    maps = " ".join("--map " + pasted(f"{name}={column or 'COLUMN'}") for name, column in guessed.items())
    plural = "s" if len(missing) > 1 else ""
    return UserError(
        f"{source.name}: missing column{plural} {', '.join(shown(name, 40) for name in missing)}{meant}; "
        f"found {found}. Map them: {maps} --time-unit s|ms|us|ns|datetime"
    )


def _guess(name: str, columns: Sequence[str]) -> str | None:
    if name in columns:
        return name
    lowered = {column: column.lower() for column in columns}
    for word in WORDS[name]:
        for column, low in lowered.items():
            # short words only as the whole name: "in" is part of everything
            if low == word or (len(word) > 3 and word in low):
                return column
    return None


def _json_dtype(is_hashes: bool) -> pl.DataType:
    return pl.List(pl.UInt64()) if is_hashes else pl.String()


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], dict[str, pl.DataType]]:
    try:
        schema = pl.read_parquet_schema(literal(path))
    except pl.exceptions.PolarsError as error:
        why = shown(str(error).splitlines()[0].removeprefix("parquet: "), 120)
        raise UserError(
            f"{shown(path.name)}: Parquet, but damaged or cut short ({why}); copy or export it again"
        ) from None
    if not schema:
        raise UserError(f"{shown(path.name)}: Parquet without columns")
    return tuple(schema), {
        name: pl.List(dtype.inner) if isinstance(dtype, pl.Array) else dtype for name, dtype in schema.items()
    }


@functools.lru_cache(maxsize=1)
def _document(path: Path, compression: Compression | None) -> list[Any]:
    """The elements of a JSON array, or the JSON values that follow each other; UserError where it is neither."""
    name = shown(path.name)
    with open_bytes(path, compression) as stream:
        whole = stream.read(DOCUMENT_LIMIT + 1)
    if len(whole) > DOCUMENT_LIMIT:
        raise UserError(f"{name}: JSON of more than {DOCUMENT_LIMIT >> 20} MB that is not one object a line: jq -c")
    try:
        return jsontext.values(whole.removeprefix(b"\xef\xbb\xbf").decode(errors="backslashreplace"))
    except (ValueError, RecursionError) as error:
        why = shown(str(error), 120)
        raise UserError(f"{name}: begins like JSON, but cannot be read ({why}); is it complete?") from None

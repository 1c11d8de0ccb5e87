"""Files made ready to be ingested: found, recognised and given the id of their trace; then read to a trace."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from .anonymise import LIMITS, Anonymiser
from .errors import Exit, UserError
from .formats.base import Reading
from .formats.merged import Merged
from .formats.source import Source, shown
from .grams import VERSION
from .ingest_facts import describe
from .ingest_write import write_rows
from .progress import Tell, part, rising, silent
from .recognition import recognise_all
from .sources import common_name, expand
from .trace import TraceMeta

READER = "4"  # part of every trace's id: raised when the same bytes are read to different rows
CHUNK = 1 << 20
SEGMENT = 64 << 20  # hashed by one thread
HASHERS = 4
ID_DIGITS = 16
TEXT_KEPT = "rows set aside are stored with prompts, answers and free text, as asked (--keep-text)"
# shares of the time of CSV, JSONL and Parquet, measured: files recognised 1, 8, 0 %, hashed 7, 4, 2 %, rows read and
# written 83, 66, 80 %, then read again 9, 22, 18 %
RECOGNISED, HASHED, WRITTEN = 0.03, 0.08, 0.84
Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Print `line` where it does not disturb data on stdout."""
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Prepared:
    """Files that are recognised, and not yet read to their end."""

    files: tuple[Path, ...]
    stamps: tuple[tuple[int, int], ...]  # size and time of change of each, when it was hashed
    source: Source
    reading: Reading
    format: str
    name: str
    trace_id: str
    anonymiser: Anonymiser | None = None
    keep_text: bool = False
    tell: Tell = silent

    def build(self, folder: Path, name: str | None = None) -> TraceMeta:
        """Write the trace into `folder`; UserError where a file is no trace, or has changed since it was prepared."""
        written = write_rows(
            self.source,
            self.reading,
            folder,
            self.anonymiser,
            keep_text=self.keep_text,
            tell=part(self.tell, HASHED, WRITTEN),
        )
        for path, stamp in zip(self.files, self.stamps, strict=True):
            if _stamp(path) != stamp:
                raise UserError(f"{shown(path.name)}: changed while it was read; try again when it is complete")
        known = {"trace_id": self.trace_id, "name": name or self.name, "format": self.format}
        meta = describe(self.source, self.reading, written, folder, known, part(self.tell, WRITTEN, 1.0))
        if self.keep_text and meta.rows_set_aside:
            meta = meta.model_copy(update={"notes": [*meta.notes, TEXT_KEPT]})
        if self.anonymiser is None:
            return meta
        bare = {"source": Path(meta.source).name, "anonymised": True, "notes": [*meta.notes, LIMITS]}
        return meta.model_copy(update=bare)


def prepare(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    service_per_file: bool = False,
    anonymiser: Anonymiser | None = None,
    keep_text: bool = False,
    say: Say = to_stderr,
    progress: Tell = silent,
) -> Prepared:
    """Find and recognise what `ingest` would read; `progress` is told up to HASHED, and the rest by `build`."""
    if keep_text and anonymiser is not None:
        raise UserError("--keep-text keeps what --anonymize drops: choose one of them", Exit.USAGE)
    arguments = [paths] if isinstance(paths, str | Path) else list(paths)
    files = expand(arguments, say)
    size = sum(path.stat().st_size for path in files if path.is_file())
    tell = rising(progress, size / 1e6, "MB")
    format = None if format == "auto" else format
    format_name, source, reading = recognise_all(
        files, format, mapping or {}, time_unit, service_per_file, anonymiser is not None, part(tell, 0.0, RECOGNISED)
    )
    if anonymiser is not None:  # whoever has a guess at a prompt could test it by them
        reading = replace(reading, columns={n: c for n, c in reading.columns.items() if n != "prompt_grams"})
    stamps = tuple(map(_stamp, files))
    how = [READER, format_name, reading.unit, *(f"{k}={v}" for k, v in sorted((mapping or {}).items()))]
    how += [VERSION] if "prompt_grams" in reading.columns else []
    if isinstance(source, Merged):
        how += ["merged", *(source.labels if service_per_file else ())]
    if anonymiser is not None:
        how.append(anonymiser.mark)
    how += ["text kept"] if keep_text else []
    trace_id = _identify(files, how, part(tell, RECOGNISED, HASHED))
    name = common_name(arguments, files, bare=anonymiser is not None)
    return Prepared(tuple(files), stamps, source, reading, format_name, name, trace_id, anonymiser, keep_text, tell)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _identify(files: Sequence[Path], how: list[str], tell: Tell) -> str:
    """The trace's id: a hash of the files' bytes, in order, and of how they are read."""
    digest = sha256()  # processors have instructions for it: twice as fast as blake2b, measured
    for setting in how:
        digest.update(f"{len(setting)}:{setting}".encode(errors="replace"))
    every = sum(path.stat().st_size for path in files)
    done = 0
    with ThreadPoolExecutor(HASHERS) as hashers:
        for path in files:
            try:
                size = path.stat().st_size
                digest.update(f"{size}:".encode())  # a|bc and ab|c are not the same
                for segment in hashers.map(partial(_segment, path), range(0, size, SEGMENT)):
                    digest.update(segment)
                    done += SEGMENT
                    tell(done / every)
            except OSError as error:
                raise UserError(f"{shown(path.name)}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:ID_DIGITS]


def _segment(path: Path, start: int) -> bytes:
    """The hash of up to SEGMENT bytes of the file."""
    digest, left = sha256(), SEGMENT
    with path.open("rb") as file:
        file.seek(start)
        while left and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()

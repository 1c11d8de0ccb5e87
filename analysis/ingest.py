"""Any readable file to a stored trace: recognised, checked, sorted, written once, every row accounted for."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from .anonymise import LIMITS, Anonymiser
from .errors import Exit, UserError
from .formats import FORMATS, aggregates
from .formats.base import Format, Reading
from .formats.late import with_late_keys
from .formats.mapped import KNOWN, check_fields, check_time_unit, mapped
from .formats.merged import Merged, merge
from .formats.source import Source, missing_columns, shown
from .formats.unfold import Nested, unfolded
from .grams import VERSION
from .ingest_facts import describe
from .ingest_write import write_rows
from .progress import Tell, part, rising, silent, steps
from .sources import common_name, expand, is_pattern
from .trace import Trace, TraceMeta
from .workspace import Workspace

READER = "4"  # part of every trace's id: raised when the same bytes are read to different rows
CHUNK = 1 << 20
SEGMENT = 64 << 20  # hashed by one thread
HASHERS = 4
ID_DIGITS = 16
TRIED = 3  # files by which an error tells what those beside a stranger are
TEXT_KEPT = "rows set aside are stored with prompts, answers and free text, as asked (--keep-text)"
NEAR = 0.5  # of a format's columns: with so many of them it is what the user means
# shares of the time of CSV, JSONL and Parquet, measured: files recognised 1, 8, 0 %, hashed 7, 4, 2 %, rows read and
# written 83, 66, 80 %, then read again 9, 22, 18 %
RECOGNISED, HASHED, WRITTEN = 0.03, 0.08, 0.84
Say = Callable[[str], None]


class Unrecognised(UserError):
    """A source that resembles no format."""


def to_stderr(line: str) -> None:
    """Print `line` where it does not disturb data on stdout."""
    print(line, file=sys.stderr)


def open_trace(
    argument: str | None,
    workspace: Workspace,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    name: str | None = None,
    say: Say = to_stderr,
    progress: Tell = silent,
) -> Trace:
    """The trace a command is about; it becomes the current one.

    A file is ingested, unless the same content and mapping is stored already; else `argument` is the id or name of
    a stored trace, or a folder or pattern whose files are ingested as one; None is the current trace, and in an empty
    workspace the bundled sample. `name`: what to call an ingested trace. `progress`: as of `ingest`.
    UserError (exit 2 for the options, 4 for the input, 8 for the workspace).
    """
    if argument is None:
        return _current_or_sample(workspace, say)
    path = Path(argument)

    def read() -> Trace:
        how: dict[str, Any] = {"format": format, "mapping": mapping, "time_unit": time_unit, "name": name}
        return ingest(argument, workspace, **how, say=say, progress=progress)

    if path.is_file():
        return read()
    try:
        return workspace.use(workspace.trace(argument))
    except UserError:
        if path.is_dir() or is_pattern(argument):
            return read()
        if path.exists():
            Source.open(path)  # says what it is instead
        raise


def ingest(
    paths: str | Path | Sequence[str | Path],
    workspace: Workspace,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    name: str | None = None,
    service_per_file: bool = False,
    anonymiser: Anonymiser | None = None,
    keep_text: bool = False,
    say: Say = to_stderr,
    progress: Tell = silent,
) -> Trace:
    """Store the trace in `paths` (files, folders, patterns: one trace) under `name` (default: theirs), or find it.

    `format`: a name of FORMATS; None or 'auto' tells by the content. `mapping`: trace column -> source column, with
    `time_unit`. `service_per_file`: where the format has no service, it is the file's name.
    `anonymiser`: what may not be stored as it is. `keep_text`: rows set aside keep prompts, answers and free text.
    `progress` is told the share of the time that is done, a `Share` of the files' MB. UserError as `open_trace`.
    """
    asked = prepare(
        paths,
        format=format,
        mapping=mapping,
        time_unit=time_unit,
        service_per_file=service_per_file,
        anonymiser=anonymiser,
        keep_text=keep_text,
        say=say,
        progress=progress,
    )
    stored = workspace.find(asked.trace_id)
    if stored is not None:
        stored = workspace.use(stored, name)
        say(f"{asked.source.name}: stored already as {shown(stored.meta.name)} ({asked.trace_id})")
        return stored
    trace = workspace.add_trace(asked.trace_id, lambda folder: asked.build(folder, name))
    for line in summary(trace):
        say(line)
    return trace


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
    format_name, source, reading = _recognise_all(
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


def _recognise_all(
    files: Sequence[Path],
    format: str | None,
    mapping: Mapping[str, str],
    time_unit: str | None,
    service_per_file: bool,
    bare_names: bool,
    tell: Tell,
) -> tuple[str, Source, Reading]:
    """As `recognise`, of several files as one."""
    found: list[tuple[str, Source, Reading]] = []
    for _, path in zip(steps(tell, [1.0] * len(files)), files, strict=True):
        try:
            found.append(recognise(Source.open(path), format, mapping, time_unit))
        except UserError as error:
            if len(files) == 1 or error.code != Exit.INPUT:
                raise
            raise _misplaced(path, files, error) from None
    return found[0] if len(found) == 1 and not service_per_file else merge(found, service_per_file, bare_names)


def _misplaced(path: Path, files: Sequence[Path], error: UserError) -> UserError:
    """The error for one of several files that is no trace: what the others are, and how to name them alone."""
    others = [other for other in files if other != path]
    if isinstance(error, Unrecognised):
        known = next((format for other in others[:TRIED] if (format := _format_of(other))), None)
        are = "is" if len(others) == 1 else "and others are"
        beside = f" ({shown(others[0].name)} {are} {known})" if known else ""
        error = UserError(f"{shown(path.name)}: in no format of traces, nor has it columns of any{beside}")
    endings = {other.suffix for other in others}
    apart = len(endings) == 1 and path.suffix not in endings
    pattern = f"by a pattern: '*{shown(endings.pop())}'" if apart else "or move it elsewhere"
    return UserError(f"{error}. Of {len(files):,} files, none is ingested; name those that are meant, {pattern}")


def _format_of(path: Path) -> str | None:
    try:
        return recognise(Source.open(path), None, {}, None)[0]
    except UserError:
        return None


def summary(trace: Trace) -> list[str]:
    """What an ingest tells its user at once: format, time unit and the account of the rows."""
    meta = trace.meta
    unit = "dates" if meta.time_unit == "datetime" else meta.time_unit
    lines = [f"{shown(Path(meta.source).name)}: format {meta.format}, times in {unit}, trace {meta.trace_id}"]
    account = (
        f"  {meta.rows_read:,} rows read = {meta.rows_kept:,} kept + {sum(meta.rows_set_aside.values()):,} set aside"
    )
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in meta.rows_set_aside.items())
    lines.append(f"{account}: {reasons}" if reasons else account)
    if reasons:
        what = "the reasons, without text," if meta.anonymised else "set aside with their text"
        lines.append(f"  {what} in {trace.path.with_name('rejects.parquet')}")
    return lines


def recognise(
    source: Source, format: str | None, mapping: Mapping[str, str], time_unit: str | None
) -> tuple[str, Source, Reading]:
    """The name of the format of `source`, its rows (a nested format's unfolded) and their reading.

    UserError where there is none, or two (exit 4), or the options do not go together (exit 2).
    """
    unit = check_time_unit(time_unit)
    check_fields(mapping)
    if mapping:
        if format is not None:
            raise UserError(f"--map names the columns itself; leave out --format {shown(format)}", Exit.USAGE)
        source = with_late_keys(source, (*mapping.values(), *KNOWN))
        return "mapped", source, mapped(source, mapping, unit)
    found = _format(source, format)
    known = getattr(found, "optional", ())
    source = unfolded(source, found) if isinstance(found, Nested) else with_late_keys(source, known)
    reading = found.read(source)
    if unit is not None and unit != reading.unit:
        told = f"format {found.name} has its times in {reading.unit}, not {unit}"
        raise UserError(f"{source.name}: {told}; --time-unit goes with --map arrival_s=COLUMN", Exit.USAGE)
    return found.name, source, reading


def _format(source: Source, name: str | None) -> Format:
    if name is not None:
        chosen: Format = FORMATS.load(name)()
        if source.kind not in chosen.kinds:
            raise UserError(f"{source.name}: is {source.kind}; format {name} is {' or '.join(chosen.kinds)}")
        missing = [column for column in chosen.required if column not in source.columns]
        if missing:
            raise missing_columns(source, missing)
        return chosen
    formats: list[Format] = [FORMATS.load(known)() for known in FORMATS]
    fitting = [known for known in formats if source.kind in known.kinds]
    found = [known for known in fitting if known.recognises(source)]
    if len(found) > 1:
        names = ", ".join(known.name for known in found)
        raise UserError(f"{source.name}: could be {names}; say which with --format")
    if found:
        return found[0]
    aggregates.refuse(source.name, source.columns, source.samples)
    # the format with most of its columns there is what the user means; if none has any, the trace table's own
    shares = {known: _share(known, source) for known in fitting}
    nearest = max(fitting, key=lambda known: shares[known] or 0.01 * (known.name == "canonical"))
    if shares[nearest] < NEAR:  # a `model` is in many formats, and in much that is no trace
        nearest = next(known for known in fitting if known.name == "canonical")
    missing = [column for column in nearest.required if column not in source.columns]
    if not missing:
        ways = f"say --format {nearest.name} if it is that, or name its columns with --map and --time-unit"
        raise UserError(f"{source.name}: has the columns that {nearest.name} needs, but none that tells it; {ways}")
    error = missing_columns(source, missing)
    raise error if max(shares.values()) >= NEAR else Unrecognised(str(error), error.code)


def _share(known: Format, source: Source) -> float:
    return sum(column in source.columns for column in known.required) / max(len(known.required), 1)


def _current_or_sample(workspace: Workspace, say: Say) -> Trace:
    current = workspace.current()
    if current is not None:
        say(f"current trace: {shown(current.meta.name)} ({current.meta.trace_id})")
        return current
    say("no trace given and none stored yet: using the bundled sample")
    with resources.as_file(resources.files("lmaas.sample_traces").joinpath("sample.parquet")) as path:
        return ingest(path, workspace, name="sample", say=say)


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

"""Any readable file to a stored trace: recognised, checked, sorted, written once, every row accounted for."""

import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from importlib import resources
from pathlib import Path

from .errors import Exit, UserError
from .formats import FORMATS
from .formats.base import Format, Reading
from .formats.mapped import check_fields, check_time_unit, mapped
from .formats.source import Source, missing_columns, shown
from .formats.unfold import Nested, unfolded
from .ingest_facts import describe
from .ingest_write import write_rows
from .trace import Trace, TraceMeta
from .workspace import Workspace

READER = "1"  # part of every trace's id: raised when the same bytes are read to different rows
CHUNK = 1 << 20
Say = Callable[[str], None]


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
) -> Trace:
    """The trace a command is about; it becomes the current one.

    A path is ingested, unless the same content and mapping is stored already; else `argument` is the id or name of
    a stored trace; None is the current trace, and in an empty workspace the bundled sample. `name`: what to call an
    ingested trace. UserError (exit 2 for the options, 4 for the input, 8 for the workspace).
    """
    if argument is None:
        return _current_or_sample(workspace, say)
    path = Path(argument)
    if path.is_file():
        return ingest(path, workspace, format=format, mapping=mapping, time_unit=time_unit, name=name, say=say)
    try:
        return workspace.use(workspace.trace(argument))
    except UserError:
        if path.exists():
            Source.open(path)  # says what it is instead
        raise


def ingest(
    path: Path,
    workspace: Workspace,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    name: str | None = None,
    say: Say = to_stderr,
) -> Trace:
    """Store the trace in `path` under `name` (default: the file's), or find it stored already.

    `format`: a name of FORMATS; None or 'auto' tells by the content. `mapping`: trace column -> source column, with
    `time_unit`. UserError as `open_trace`.
    """
    source = Source.open(path)
    format = None if format == "auto" else format
    format_name, source, reading = recognise(source, format, mapping or {}, time_unit)
    before = path.stat()
    trace_id = _identify(
        path, [READER, format_name, reading.unit, *(f"{k}={v}" for k, v in sorted((mapping or {}).items()))]
    )
    stored = workspace.find(trace_id)
    if stored is not None:
        stored = workspace.use(stored, name)
        say(f"{source.name}: stored already as {shown(stored.meta.name)} ({trace_id})")
        return stored

    def build(folder: Path) -> TraceMeta:
        written = write_rows(source, reading, folder)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UserError(f"{source.name}: changed while it was read; try again when it is complete")
        known = {"trace_id": trace_id, "name": name or path.name.split(".")[0], "format": format_name}
        return describe(source, reading, written, folder, known)

    trace = workspace.add_trace(trace_id, build)
    for line in summary(trace):
        say(line)
    return trace


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
        lines.append(f"  set aside with their text in {trace.path.with_name('rejects.parquet')}")
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
        return "mapped", source, mapped(source, mapping, unit)
    found = _format(source, format)
    source = unfolded(source, found) if isinstance(found, Nested) else source
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
    # the format with most of its columns there is what the user means; if none has any, the trace table's own
    nearest = max(fitting, key=lambda known: _share(known, source) or 0.01 * (known.name == "canonical"))
    missing = [column for column in nearest.required if column not in source.columns]
    raise missing_columns(source, missing or list(nearest.required))


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


def _identify(path: Path, how: list[str]) -> str:
    """The trace's id: a hash of the file's bytes and of how they are read."""
    digest = blake2b(digest_size=8)
    for part in how:
        digest.update(f"{len(part)}:{part}".encode(errors="replace"))
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"{shown(path.name)}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()

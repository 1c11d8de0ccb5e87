"""Any readable file to a stored trace: recognised, checked, sorted, written once, every row accounted for."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from .anonymise import Anonymiser
from .errors import UserError
from .formats.source import Source, shown
from .prepared import Say, prepare, to_stderr
from .progress import Tell, silent
from .sources import is_pattern
from .trace import Trace
from .workspace import Workspace


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


def _current_or_sample(workspace: Workspace, say: Say) -> Trace:
    current = workspace.current()
    if current is not None:
        say(f"current trace: {shown(current.meta.name)} ({current.meta.trace_id})")
        return current
    say("no trace given and none stored yet: using the bundled sample")
    with resources.as_file(resources.files("lmaas.sample_traces").joinpath("sample.parquet")) as path:
        return ingest(path, workspace, name="sample", say=say)

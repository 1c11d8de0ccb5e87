"""`validate`: how far a source can be trusted and what to do about it, without keeping it."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import Exit, UserError
from .formats.source import shown
from .ingest import Say, prepare, to_stderr
from .ingest_write import TRACE
from .quality import Quality, assess, judged
from .quality_source import source_findings
from .trace import Trace, TraceMeta
from .workspace import Workspace


@dataclass(frozen=True)
class Validation:
    """What a source would become, and how good that is."""

    trace: TraceMeta
    quality: Quality
    stored: bool  # whether the workspace has this very trace

    @property
    def usable(self) -> bool:
        """Whether conclusions may rest on it; a verdict of POOR says no."""
        return self.quality.verdict != "POOR"


def validate(
    paths: str | Path | Sequence[str | Path],
    workspace: Workspace,
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    say: Say = to_stderr,
) -> Validation:
    """Judge what `ingest` would make of `paths`, or a stored trace by its name or id; the workspace stays as it is.

    Reads the whole source, by way of a temporary folder (TMPDIR). UserError (exit 4) where it is no trace at all.
    """
    named = _stored(paths, workspace)
    if named is not None:
        return Validation(named.meta, quality(named), stored=True)
    asked = prepare(paths, format=format, mapping=mapping, time_unit=time_unit, say=say)
    stored = workspace.find(asked.trace_id)
    if stored is not None:
        return Validation(stored.meta, quality(stored), stored=True)
    try:
        with tempfile.TemporaryDirectory(prefix="lmaas-") as name:
            meta = asked.build(Path(name))
            return Validation(meta, quality(Trace(meta, Path(name) / TRACE)), stored=False)
    except OSError as error:
        why = error.strerror or shown(str(error))
        folder = tempfile.gettempdir()
        raise UserError(
            f"{folder}: cannot be written ({why}); set TMPDIR to a folder that can", Exit.ENVIRONMENT
        ) from None


def quality(trace: Trace) -> Quality:
    """The verdict on a trace, with what can be seen of how it was written."""
    return judged([*assess(trace).details, *source_findings(trace)])


def _stored(paths: str | Path | Sequence[str | Path], workspace: Workspace) -> Trace | None:
    """The stored trace of this name, where there is no such file."""
    one = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(one) != 1 or Path(one[0]).exists():
        return None
    try:
        return workspace.trace(str(one[0]))
    except UserError:
        return None

"""`validate`: how far a source can be trusted and what to do about it, without keeping it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .ingest_write import TRACE
from .prepared import Say, prepare, to_stderr
from .progress import Tell, part, rising, silent
from .quality import Quality, assess, judged
from .quality_source import source_findings
from .trace import Trace, TraceMeta
from .workspace import Workspace

# words of a trace's note -> of the finding that says as much
SAID = {
    "carry no time zone: read as UTC": "times carry no zone",
    "not in order of arrival": "earlier than the one before",
    "repeat another in every column": "another in every column but the id",
    "times are whole multiples of": "times come in steps of",
}
# shares of the time, measured: 74 % to read and write what is then judged, of which 17 % by `assess`
BUILT, ASSESSED = 0.74, 0.17


@dataclass(frozen=True)
class Validation:
    """What a source would become, and how good that is."""

    trace: TraceMeta
    quality: Quality
    stored: bool  # whether the workspace has this very trace

    @property
    def notes(self) -> tuple[str, ...]:
        """The trace's notes that no finding tells as well."""
        told = [note for note, finding in SAID.items() if any(finding in text for text in self.quality.findings)]
        return tuple(note for note in self.trace.notes if not any(words in note for words in told))

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
    progress: Tell = silent,
) -> Validation:
    """Judge what `ingest` would make of `paths`, or a stored trace by its name or id; the workspace stays as it is.

    Reads the whole source, by way of a folder in the workspace that is gone afterwards. UserError (exit 4) where it is
    no trace at all. `progress` is told the share of the time that is done, a `Share` of the MB or the requests.
    """
    named = _stored(paths, workspace)
    if named is not None:
        tell = rising(progress, named.meta.rows_kept, "requests")
        return Validation(named.meta, quality(named, tell), stored=True)
    asked = prepare(
        paths, format=format, mapping=mapping, time_unit=time_unit, say=say, progress=part(progress, 0.0, BUILT)
    )
    judging = part(progress, BUILT, 1.0)
    stored = workspace.find(asked.trace_id)
    if stored is not None:
        return Validation(stored.meta, quality(stored, judging), stored=True)
    with workspace.scratch() as folder:
        meta = asked.build(folder)
        return Validation(meta, quality(Trace(meta, folder / TRACE), judging), stored=False)


def quality(trace: Trace, tell: Tell = silent) -> Quality:
    """The verdict on a trace, with what can be seen of how it was written."""
    details = assess(trace).details
    tell(ASSESSED)
    return judged([*details, *source_findings(trace, part(tell, ASSESSED, 1.0))])


def _stored(paths: str | Path | Sequence[str | Path], workspace: Workspace) -> Trace | None:
    """The stored trace of this name, where there is no such file."""
    one = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(one) != 1 or Path(one[0]).exists():
        return None
    try:
        return workspace.trace(str(one[0]))
    except UserError:
        return None

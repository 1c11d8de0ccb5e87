"""The trace that a command is about: found, or read with a bar."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .options import mapping
from .screen import Screen

if TYPE_CHECKING:
    from lmaas.analysis.trace import Trace
    from lmaas.analysis.workspace import Workspace


def read_trace(
    screen: Screen,
    trace: str | None,
    workspace: "Workspace",
    *,
    format: str | None,
    map: list[str] | None,
    time_unit: str | None,
) -> "Trace":
    """As `open_trace`, of what was typed."""
    from lmaas.analysis.ingest import open_trace

    with screen.progress("read") as progress:
        return open_trace(
            trace,
            workspace,
            format=format,
            mapping=mapping(map),
            time_unit=time_unit,
            say=screen.say,
            progress=partial(progress, "the sample" if trace is None else first_of([trace])),
        )


def first_of(sources: Sequence[str]) -> str:
    """What a bar is called that reads them."""
    return Path(sources[0]).name + (f" and {len(sources) - 1:,} more" if len(sources) > 1 else "")

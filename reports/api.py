"""The verbs for notebooks and scripts: a trace in, an answer out that shows itself and can be saved as the report.

The verbs of the rooms below with their own options, where the trace may also be a file, a folder, a pattern, or the
name of a stored trace (None: the one last used, else the sample).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from lmaas import analysis, policies
from lmaas.analysis.ingest import open_trace
from lmaas.analysis.lengths import training
from lmaas.analysis.trace import Trace
from lmaas.analysis.workspace import Workspace

from .document import document
from .html import fragment, html
from .report import analysis_report, evaluation_report, forecast_report, lengths_report
from .section import Report

Source = str | Path | Trace | None
R = TypeVar("R")
P = ParamSpec("P")


@dataclass(frozen=True)
class Answer(Generic[R]):
    """What a verb found: `result` holds its tables, `report` says it; a notebook shows what the terminal would."""

    result: R
    report: Report

    def to_html(self) -> str:
        """The whole report: one page that opens offline."""
        return html(self.report)

    def to_json(self) -> dict[str, Any]:
        """What the report says, as plain data (`report.json`)."""
        return document(self.report)

    def save(self, path: str | Path) -> Path:
        """Write the page; `path` again. An existing file is replaced."""
        target = Path(path)
        target.write_text(self.to_html(), encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        return fragment(self.report)


def opened(source: Source) -> Trace:
    """`source` as a trace of the workspace (LMAAS_HOME, else ./.lmaas). UserError (exit 4) where it is none."""
    if isinstance(source, Trace):
        return source
    return open_trace(None if source is None else str(source), Workspace.open())


def _answering(
    verb: Callable[Concatenate[Trace, P], R], report: Callable[[R, Sequence[str]], Report]
) -> Callable[Concatenate[Source, P], Answer[R]]:
    """`verb` with any source of a trace, whose result comes with its report."""

    @wraps(verb)
    def answer(source: Source, /, *args: P.args, **options: P.kwargs) -> Answer[R]:
        result = verb(opened(source), *args, **options)
        shown = report(result, [])
        call = _call(verb.__name__, source, args, options)
        return Answer(result, replace(shown, sections=tuple(replace(s, code=call) if s.anchor == "reproduce" else s
                                                            for s in shown.sections)))  # fmt: skip

    return answer


def _call(verb: str, source: Source, args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The call as it can be typed again."""
    first = source.meta.name if isinstance(source, Trace) else None if source is None else str(source)
    said = [repr(first), *map(repr, args), *(f"{name}={value!r}" for name, value in options.items())]
    return f"from lmaas.reports import api\napi.{verb}({', '.join(said)})"


analyze = _answering(analysis.analyze, analysis_report)
forecast = _answering(analysis.forecast, forecast_report)
train = _answering(training.train, lengths_report)
evaluate = _answering(policies.evaluate, evaluation_report)

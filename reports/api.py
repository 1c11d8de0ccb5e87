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
from lmaas.analysis.lengths import predicting, training
from lmaas.analysis.lengths.modelfile import load
from lmaas.analysis.lengths.result import Lengths
from lmaas.analysis.progress import Tell, silent
from lmaas.analysis.stored import find_run
from lmaas.analysis.trace import Trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies.compare_runs import RunsCompared
from lmaas.policies.compare_runs import compare as runs_beside
from lmaas.replay.calibration.calibrate import Calibration, labelled
from lmaas.replay.calibration.calibrate import calibrate as calibration
from lmaas.replay.calibration.engine import Given
from lmaas.replay.calibration.log import read_log

from .calibration import calibration_told
from .document import document
from .format import text
from .html import fragment, html
from .report import analysis_report, evaluation_report, forecast_report, lengths_report, plain_report
from .runs_compared import runs_compared
from .section import Report

WATCHING = ("progress", "announce")  # options that change nothing of what is found
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
        return Answer(result, _reproducible(report(result, []), _call(verb.__name__, source, args, options)))

    return answer


def _reproducible(report: Report, call: str) -> Report:
    """The report with this call in place of a command."""
    found = (replace(s, code=call) if s.anchor == "reproduce" else s for s in report.sections)
    return replace(report, sections=tuple(found))


def _call(verb: str, source: Source, args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The call as it can be typed again."""
    first = source.meta.name if isinstance(source, Trace) else None if source is None else str(source)
    said = [repr(first), *map(repr, args), *(f"{n}={value!r}" for n, value in options.items() if n not in WATCHING)]
    return f"from lmaas.reports import api\napi.{verb}({', '.join(said)})"


def predict(
    source: Source, /, model: str | Path, *, generated: int | None = None, progress: Tell = silent
) -> Answer[Lengths]:
    """The output length of every request by a stored model (a file), as of its arrival; scored where it is known.

    generated: predict again what has generated so many tokens and goes on. `progress` is told the share that is done.
    UserError (exit 2, 4) for what is no model or no trace.
    """
    result = predicting.predict(opened(source), *load(Path(model)), generated=generated, progress=progress)
    asked = {} if generated is None else {"generated": generated}
    return Answer(result, _reproducible(lengths_report(result, []), _call("predict", source, (str(model),), asked)))


def calibrate(
    source: Source,
    /,
    *,
    service: str | None = None,
    fit_requests: int | None = None,
    model: str | None = None,
    gpu: str | None = None,
    tp: int = 1,
    progress: Tell = silent,
    **engine: Any,
) -> Answer[Calibration]:
    """A profile fitted to the first `fit_requests` (half) of a log with observed latencies, and judged by the rest.

    engine: what is known of it, of `replay.calibration.engine.Given`: max_seqs, max_batch_tokens, kv_tokens, replicas,
    block, router. model, gpu, tp: what it served and ran on. progress: told the share that
    is done. `replay.profilefile.write_profile(answer.result.profile, path)` keeps it. UserError (exit 2, 4).
    """
    trace = opened(source)
    found = calibration(read_log(trace, service), Given(**engine), trace.meta.name, fit_requests, progress)
    found = labelled(found, model, gpu, tp)
    title = f"The engine behind {text(trace.meta.name)}, calibrated"
    return Answer(found, plain_report("calibrate", title, calibration_told(found)))


def compare(before: str | Path, after: str | Path, fail_if: Sequence[str] = ()) -> Answer[RunsCompared]:
    """Two stored runs of evaluate, by name or folder: what changed, with intervals where both replayed the same.

    `answer.result.exit_code` is 3 where a condition of `fail_if` failed. UserError (exit 2, 4).
    """
    workspace = Workspace.open()
    found = runs_beside(find_run(str(before), workspace), find_run(str(after), workspace), fail_if)
    return Answer(
        found, plain_report("compare", f"{text(found.after)} against {text(found.before)}", runs_compared(found))
    )


analyze = _answering(analysis.analyze, analysis_report)
forecast = _answering(analysis.forecast, forecast_report)
train = _answering(training.train, lengths_report)
evaluate = _answering(policies.evaluate, evaluation_report)

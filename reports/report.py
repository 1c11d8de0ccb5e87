"""A result and the command that made it -> the report about it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from lmaas.analysis.trace import TraceMeta

from .figures import Clock
from .format import many, span, text
from .section import Column, Report, Section, Tone
from .sections import ANALYZE, EVALUATE, FORECAST, LENGTHS, sections

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis
    from lmaas.analysis.forecasting.study import Forecasted
    from lmaas.analysis.lengths.result import Lengths
    from lmaas.analysis.quality import Quality
    from lmaas.policies.results import Evaluation

OUT = ("--out", "--output-dir")
TONES: dict[str, Tone] = {"GOOD": "good", "FAIR": "plain", "POOR": "bad"}


def analysis_report(result: Analysis, argv: Sequence[str], run: str = "") -> Report:
    """The report of `lmaas analyze`; `run` is the run's id."""
    return Report(
        "analyze",
        f"The workload of {text(result.trace.name)}",
        (*trace_facts(result.trace), *run_facts(run)),
        (*sections(ANALYZE, result), reproduce(argv, result.trace)),
        (result.quality.verdict, TONES[result.quality.verdict]),
    )


def evaluation_report(result: Evaluation, argv: Sequence[str], run: str = "", quality: Quality | None = None) -> Report:
    """The report of `lmaas evaluate`; quality: of the trace, where it was judged."""
    settings = result.settings
    clock = Clock(result.trace.epoch, settings["end_s"])
    window = f"{clock.write(settings['cut_s'])} to {clock.write(settings['end_s'])}"
    return Report(
        "evaluate",
        f"Policies on {text(result.trace.name)}",
        (*trace_facts(result.trace), ("Evaluated", window), *run_facts(run), *_oddity(quality)),
        (*sections(EVALUATE, result), reproduce(argv, result.trace)),
        None if quality is None else (quality.verdict, TONES[quality.verdict]),
    )


def _oddity(quality: Quality | None) -> tuple[tuple[str, str], ...]:
    """What the data's verdict is for, where it is not GOOD."""
    return () if quality is None or quality.verdict == "GOOD" else (("The data", text(quality.findings[0])),)


def lengths_report(result: Lengths, argv: Sequence[str], run: str = "") -> Report:
    """The report of `lmaas train` and `lmaas predict`."""
    facts = result.facts
    of = f"{many(facts.rows, 'request')} of {text(facts.trace_name)} ({text(facts.trace_id[:12])})"
    trained = f"{text(facts.kind)}, on {of}"
    return Report(
        result.verb,
        f"Output lengths of {text(result.trace.name)}",
        (*trace_facts(result.trace), ("Trained", trained), *run_facts(run)),
        (*sections(LENGTHS, result), reproduce(argv, result.trace)),
    )


def forecast_report(result: Forecasted, argv: Sequence[str], run: str = "") -> Report:
    """The report of `lmaas forecast`."""
    settings = result.settings
    clock = Clock(result.trace.epoch, settings["end_s"])
    period = f"{clock.write(settings['cut_s'])} to {clock.write(settings['end_s'])}"
    return Report(
        "forecast",
        f"The demand of {text(result.trace.name)}, forecast",
        (
            *trace_facts(result.trace),
            ("Forecast", period),
            ("Windows", span(settings["window_s"])),
            *run_facts(run),
        ),
        (*sections(FORECAST, result), reproduce(argv, result.trace)),
    )


def plain_report(kind: Literal["calibrate", "compare"], title: str, found: Sequence[Section]) -> Report:
    """Sections that stand without a run, every row and column of theirs, as a report."""
    whole = [
        replace(s, brief=True, tables=tuple(replace(t, columns=_brief(t.columns)) for t in s.tables)) for s in found
    ]
    return Report(kind, title, (("lmaas", version("lmaas")),), tuple(whole))


def _brief(columns: Sequence[Column]) -> tuple[Column, ...]:
    return tuple(replace(column, brief=True) for column in columns)


def trace_facts(trace: TraceMeta) -> tuple[tuple[str, str], ...]:
    """What identifies the trace."""
    clock = {"known": "UTC", "assumed": "UTC assumed: the source has no zone", "relative": "relative"}[trace.epoch_kind]
    return (
        ("Trace", f"{text(trace.name)} ({trace.trace_id[:12]})"),
        ("Requests", f"{trace.rows_kept:,}"),
        *selection_facts(trace),
        ("Span", span(trace.span_s)),
        ("Times", clock),
    )


def selection_facts(trace: TraceMeta) -> tuple[tuple[str, str], ...]:
    """Which part of the trace it is, where it is one."""
    part = trace.selection
    return (("Analysed", f"{trace.rows_kept:,} of {part.rows:,} requests, {text(part.said)}"),) if part else ()


def run_facts(run: str) -> tuple[tuple[str, str], ...]:
    """What identifies the run."""
    return (*((("Run", run),) if run else ()), ("lmaas", version("lmaas")))


def reproduce(argv: Sequence[str], trace: TraceMeta) -> Section:
    """The command again, without a folder that is taken now, and what must be the same for the same numbers."""
    mapped = "; ingested with the same --map and --time-unit it has the same id" if trace.format == "mapped" else ""
    return Section(
        "reproduce",
        "How to reproduce",
        "The same command on the same trace gives the same numbers, whatever the number of workers.",
        code=shlex.join(["lmaas", *_without_out(argv)]),
        notes=(
            f"Trace {trace.trace_id}, read as {text(trace.format)} from {text(trace.source)}{mapped}.",
            "Beside this file: manifest.json (configuration, versions, host) and metrics.json (results, unrounded).",
        ),
    )


def _without_out(argv: Sequence[str]) -> list[str]:
    """The command but for where its run was put: a run never overwrites, so that it would be refused there."""
    left, words = [], iter(argv)
    for word in words:
        if word in OUT:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in OUT)):
            left.append(word)
    return left

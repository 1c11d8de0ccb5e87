"""Reports of made-up evaluations and of small real analyses, and what is drawn in them."""

from pathlib import Path
from typing import Any

import polars as pl

from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace
from lmaas.reports import palette
from lmaas.reports.report import evaluation_report
from lmaas.reports.section import Report, Section


def report_of(result: Any) -> Report:
    return evaluation_report(result, ["evaluate", "week.parquet", "--policy", "preserve"], "run-1")


def section_of(result: Any, anchor: str) -> Section:
    return next(s for s in report_of(result).sections if s.anchor == anchor)


def trace_of(tmp_path: Path, rows: int, **columns: list[Any]) -> Any:
    source = tmp_path / "trace.parquet"
    pl.DataFrame(
        {
            "arrival_s": [float(60 * i) for i in range(rows)],
            "input_tokens": [100 + i % 50 for i in range(rows)],
            "output_tokens": [10 + i % 7 for i in range(rows)],
            **columns,
        }
    ).write_parquet(source)
    return ingest(source, Workspace(tmp_path / "workspace"), say=lambda line: None)


def figures_of(report: Report) -> list[Any]:
    return [figure for section in report.sections for figure in section.figures]


def resolved(value: Any, theme: int) -> Any:
    if isinstance(value, str):
        return palette.TOKENS[value][theme] if value in palette.TOKENS else value
    if isinstance(value, list | tuple):
        return [resolved(v, theme) for v in value]
    return {k: resolved(v, theme) for k, v in value.items()} if isinstance(value, dict) else value

"""A result into its run directory: tables, metrics, report; and where it may go."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from lmaas.analysis.disk import environment_errors
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.rundir import RunDir, plain
from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.workspace import Workspace

from .document import document, dumps
from .html import html
from .marks import NO_MARKS, Marks
from .report import analysis_report, evaluation_report, forecast_report
from .section import Report
from .spreadsheet import write_csv

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis
    from lmaas.analysis.forecasting.study import Forecasted
    from lmaas.analysis.quality import Quality
    from lmaas.policies.results import Evaluation

TABLES = ("scores", "groups", "timeline", "forecasts", "histogram", "gates")
FORECAST_TABLES = ("windows", "scores", "series", "weights", "notes")
FULL = (  # where there is one
    "matched", "worth", "equal", "differences", "worst", "misses", "backtest", "spare", "commitment", "spot", "blocks",
    "causes", "worst_hours", "seeds", "sensitivity", "break_even",
)  # fmt: skip
REQUESTS = (
    "request_id", "status", "pool", "replica", "arrival_s", "network_s", "hold_s", "queue_s",
    "ttft_s", "tpot_s", "e2e_s", "preemptions",
)  # fmt: skip
HANDED_OVER = ("transfer_s", "prefill_pool", "prefill_replica")  # where the fleet has lanes
WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".parquet": lambda rows, path: rows.write_parquet(path),
    ".csv": write_csv,
    ".jsonl": lambda rows, path: rows.write_ndjson(path),
}


@dataclass(frozen=True)
class Written:
    """A finished run: its folder, what it says, what it measured and how it ends."""

    run: Path
    report: Report
    metrics: Mapping[str, Any]
    exit_code: int

    @property
    def html(self) -> Path:
        """The file to share."""
        return self.run / "report.html"

    def facts(self) -> dict[str, Any]:
        """Where things are, for `--json`."""
        return {"run": str(self.run), "report": str(self.html)}


@dataclass(frozen=True)
class Recording:
    """A run that is under way."""

    run: RunDir
    out: Path | None
    argv: Sequence[str]
    began: float  # time.perf_counter()
    marks: Marks = NO_MARKS

    def close(self, report: Report, metrics: Mapping[str, Any], trace: TraceMeta, exit_code: int) -> Written:
        """Write report and metrics, complete the manifest, move the folder to `out` where given."""
        run = self.run
        report = self.marks.on(report, _started(run))
        metrics = plain(metrics)  # the same in the file and on the screen
        run.write_json("metrics.json", metrics)
        run.write_text("report.json", dumps(document(report)))
        run.write_text("report.html", html(report))
        run.finish(exit_code, trace=trace, timings={"whole": time.perf_counter() - self.began})
        if self.out is not None:
            with environment_errors(self.out, out=True):
                self.out.parent.mkdir(parents=True, exist_ok=True)
                if self.out.exists():
                    self.out.rmdir()  # empty, as `recording` has checked
                shutil.move(run.path, self.out)
        return Written(self.out or run.path, report, metrics, exit_code)


def _started(run: RunDir) -> str:
    """When, as its manifest says: the report goes by what is stored."""
    return str(json.loads((run.path / "manifest.json").read_bytes())["started"])


@contextmanager
def recording(
    workspace: Workspace,
    verb: str,
    label: str,
    argv: Sequence[str],
    asked: Mapping[str, Any],
    out: Path | None,
    marks: Marks = NO_MARKS,
) -> Iterator[Recording]:
    """A run directory for what is computed inside; gone again where the user's input ends it.

    A crash or an interrupt leaves it, with `exit_code: null` in its manifest. UserError (exit 2) for an `out` that
    is not empty, and for marks that cannot be.
    """
    _check_out(out)
    marks.check()
    began = time.perf_counter()
    run = RunDir.create(workspace, verb, label, argv, asked)
    try:
        yield Recording(run, out, argv, began, marks)
    except UserError:
        shutil.rmtree(run.path, ignore_errors=True)
        raise


def _check_out(out: Path | None) -> None:
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "a folder that is not empty" if out.is_dir() else "a file"
        raise UserError(f"--out {out}: is {what}; a run never overwrites, choose another folder", Exit.USAGE)


def write_analysis(result: Analysis, recorded: Recording) -> Written:
    """The run of `lmaas analyze`: a Parquet file a table, metrics.json, report.json, report.html."""
    for name, rows in result.tables.items():
        recorded.run.write_table(f"{name}.parquet", rows)
    report = analysis_report(result, recorded.argv, recorded.run.path.name)
    return recorded.close(report, result.metrics(), result.trace, Exit.OK)


def write_forecasts(result: Forecasted, recorded: Recording, *, forecasts_out: Path | None = None) -> Written:
    """The run of `lmaas forecast`: FORECAST_TABLES as Parquet, metrics.json, report.json, report.html."""
    for name in FORECAST_TABLES:
        recorded.run.write_table(f"{name}.parquet", getattr(result, name))
    if forecasts_out is not None:
        write_rows(result.windows, forecasts_out)
    report = forecast_report(result, recorded.argv, recorded.run.path.name)
    return recorded.close(report, result.metrics(), result.trace, Exit.OK)


def write_evaluation(
    result: Evaluation,
    recorded: Recording,
    *,
    gate_mode: Literal["fail", "warn"] = "fail",
    requests_out: Path | None = None,
    quality: Quality | None = None,
) -> Written:
    """The run of `lmaas evaluate`: TABLES as Parquet, metrics.json, report.json, report.html, and `requests_out`.

    quality: of the trace, for the report.
    """
    for name in TABLES:
        recorded.run.write_table(f"{name}.parquet", getattr(result, name))
    for name in (name for name in FULL if getattr(result, name).width):
        recorded.run.write_table(f"{name}.parquet", getattr(result, name))
    if requests_out is not None:
        write_requests(result.requests, requests_out)
    report = evaluation_report(result, recorded.argv, recorded.run.path.name, quality)
    return recorded.close(report, result.metrics(), result.trace, ending(result.exit_code, gate_mode))


def ending(exit_code: int, gate_mode: Literal["fail", "warn"]) -> int:
    """The exit code of a run: a failed gate is none where gates only warn."""
    return Exit.OK if gate_mode == "warn" and exit_code == Exit.GATE else exit_code


def check_requests_out(path: Path | None, trace: str | None = None, fidelity: str = "request") -> None:
    """UserError (exit 2) before a long run where its rows could not be written, or would overwrite the trace."""
    if path is None:
        return
    if fidelity == "window":
        raise UserError(f"--requests-out {path}: windows have no requests to write; use --fidelity request", Exit.USAGE)
    check_rows_out(path, trace, "--requests-out")


def check_rows_out(path: Path | None, trace: str | None, option: str) -> None:
    """UserError (exit 2) before a long run where rows could not be written there, or would overwrite the trace."""
    if path is None:
        return
    if path.suffix not in WRITERS:
        raise UserError(f"{option} {path}: cannot write '{path.suffix}'; use {', '.join(WRITERS)}", Exit.USAGE)
    check_model_out(path, option)
    if trace is not None and path.exists() and Path(trace).exists() and path.samefile(trace):
        raise UserError(f"{option} {path}: this is the trace itself; name another file", Exit.USAGE)


def check_model_out(path: Path | None, option: str = "--out") -> None:
    """UserError (exit 2) where no file can be written there."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}", Exit.USAGE)
    if path.is_dir():
        raise UserError(f"{option} {path}: this is a folder; name a file in it", Exit.USAGE)


def write_requests(requests: Mapping[str, pl.DataFrame], path: Path) -> None:
    """One row a request, columns REQUESTS and, with lanes, HANDED_OVER; of several policies, a first column says whose;
    where prompts were cached, a last one how many of their tokens.
    """
    more = [name for name in HANDED_OVER if all(name in rows.columns for rows in requests.values())]
    more += ["cached_tokens"] if any(rows["cached_tokens"].count() for rows in requests.values()) else []
    several = len(requests) > 1
    whose = {policy: [pl.lit(policy).alias("policy")] if several else [] for policy in requests}
    parts = [rows.select(*whose[policy], *REQUESTS, *more) for policy, rows in requests.items()]
    write_rows(pl.concat(parts), path)


def write_rows(rows: pl.DataFrame, path: Path) -> None:
    """A table as a file of its name's kind, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with environment_errors(path, out=True):
        try:
            WRITERS[path.suffix](rows, unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

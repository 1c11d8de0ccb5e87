"""A run of `lmaas train` or `lmaas predict` into its run directory, and the files that were asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lmaas.analysis.disk import environment_errors
from lmaas.analysis.errors import Exit

from .report import lengths_report
from .write import WRITERS, Recording, Written

if TYPE_CHECKING:
    from lmaas.analysis.lengths.result import Lengths

MODEL = "model.json"


def write_training(result: Lengths, recorded: Recording, out: Path | None) -> tuple[Written, Path]:
    """(the run: tables, MODEL, metrics.json, report; where the model is: `out` where given)."""
    from lmaas.analysis.lengths.modelfile import save

    model = recorded.run.path / MODEL
    save(result.predictor, result.facts, model)
    if out is not None:
        with environment_errors(out, out=True):
            shutil.copyfile(model, out)
    return _close(result, recorded), out or model


def write_predictions(result: Lengths, recorded: Recording, out: Path | None) -> Written:
    """The run: tables, predictions.parquet, metrics.json, report; and `out`, in the form that its name says."""
    recorded.run.write_table("predictions.parquet", result.predictions)
    if out is not None:
        unfinished = out.with_name(f".{out.name}.{os.getpid()}")
        with environment_errors(out, out=True):
            try:
                WRITERS[out.suffix](result.predictions, unfinished)
                unfinished.replace(out)
            finally:
                unfinished.unlink(missing_ok=True)
    return _close(result, recorded)


def _close(result: Lengths, recorded: Recording) -> Written:
    for name, rows in result.tables.items():
        recorded.run.write_table(f"{name}.parquet", rows)
    report = lengths_report(result, recorded.argv, recorded.run.path.name)
    return recorded.close(report, result.metrics(), result.trace, Exit.OK)

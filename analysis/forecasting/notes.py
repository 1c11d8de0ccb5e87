"""What is said of a series that forecasts can know little of."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from lmaas.analysis.windows import Known

from ..workload.words import duration
from .forecaster import Task

# kind: what the note is one of, in words that go with several series; model: whether it is of the model or of history
NOTES = {
    "service": pl.String, "origin": pl.String, "metric": pl.String, "note": pl.String, "kind": pl.String,
    "model": pl.Boolean,
}  # fmt: skip
NEW = "had no window in the training part and are forecast from their first request on"
SHORT = "had under two days of history at the cut: of a day's pattern little is known"
EMPTY = "were empty in half of their training windows or more: their forecasts are averages over gaps"
CONSTANT = "were constant in the training part"
GAPPY = 0.5  # share of empty windows in the training part from which a series is said to be gappy


def notes(known: Known, task: Task) -> pl.DataFrame:
    """Columns NOTES (metric null: all), sorted: who is new, short, gappy or constant at the cut; models' fallbacks."""
    said = [(*key, None, note, kind, False) for key, note, kind in _of_history(known, task.day)]
    names = known.series.rows()
    said += [(*names[s], f"the model {what}", what, True) for what, series in task.fallbacks.items() for s in series]
    table = pl.DataFrame(said, schema=NOTES, orient="row")
    # one row where all metrics of a series say the same
    alike = table.group_by("service", "origin", "note", "kind", "model").agg(pl.col("metric").unique())
    every = known.series["metric"].n_unique()
    metric = (
        pl.when((pl.col("metric").list.len() == every) | (pl.col("metric").list.drop_nulls().list.len() == 0))
        .then(None)
        .otherwise(pl.col("metric").list.sort().list.join(", "))
    )
    return alike.with_columns(metric=metric).select(*NOTES).sort("service", "origin", "note", "metric")


def by_kind(notes: pl.DataFrame, model: str, window_s: float, series: int) -> set[str]:
    """Of the NOTES of one model a sentence a kind: of how many of so many `series` (service and origin) it is said."""
    counts = notes.group_by("kind", "model").agg(n=pl.struct("service", "origin").n_unique())
    said: set[str] = set()
    for kind, of_model, n in counts.iter_rows():
        said |= counted(model if of_model else "forecasts", window_s, {kind: n}, series)
    return said


def counted(who: str, window_s: float, what: Mapping[str, int], series: int) -> set[str]:
    """A sentence for each of `what`: of how many of so many series it is said."""
    return {f"{who}, {window_s:g} s windows: {n} of {series} series {said}" for said, n in what.items()}


def _of_history(known: Known, day: int) -> list[tuple[tuple[str, str], str, str]]:
    """(service and origin, note, kind), from the training windows' requests."""
    cut = max(-known.first, 0)
    said = []
    for s, (service, origin, metric) in enumerate(known.series.iter_rows()):
        if metric != "requests":
            continue
        key, born = (service, origin), int(known.born[s])
        of = known.value[-1, s, max(born, 0) : cut]
        if len(of) == 0:
            said.append((key, "has no window in the training part; forecast from its first request on", NEW))
            continue
        if len(of) < 2 * day:
            history = duration(len(of) * known.window_s)
            said.append((key, f"has {history} of history at the cut: of a day's pattern little is known", SHORT))
        if (empty := float((of == 0).mean())) >= GAPPY:
            note = f"is empty in {empty:.0%} of its training windows; its forecasts are averages over gaps"
            said.append((key, note, EMPTY))
        if len(of) > 1 and np.ptp(of) == 0:
            said.append((key, "is constant in the training part", CONSTANT))
    return said

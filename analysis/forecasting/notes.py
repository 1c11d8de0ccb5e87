"""What is said of a series that forecasts can know little of."""

import numpy as np
import polars as pl

from lmaas.analysis.windows import Known

from ..workload.words import duration
from .forecaster import Task

NOTES = {"service": pl.String, "origin": pl.String, "metric": pl.String, "note": pl.String}
GAPPY = 0.5  # share of empty windows in the training part from which a series is said to be gappy


def notes(known: Known, task: Task) -> pl.DataFrame:
    """Columns NOTES (metric null: all), sorted: who is new, short, gappy or constant at the cut; models' fallbacks."""
    said = [(*key, None, note) for key, note in _of_history(known, task.day)]
    names = known.series.rows()
    said += [(*names[s], f"the model {what}") for what, series in task.fallbacks.items() for s in series]
    table = pl.DataFrame(said, schema=NOTES, orient="row")
    # one row where all metrics of a series say the same
    alike = table.group_by("service", "origin", "note").agg(pl.col("metric").unique())
    every = known.series["metric"].n_unique()
    metric = (
        pl.when((pl.col("metric").list.len() == every) | (pl.col("metric").list.drop_nulls().list.len() == 0))
        .then(None)
        .otherwise(pl.col("metric").list.sort().list.join(", "))
    )
    return alike.select("service", "origin", metric.alias("metric"), "note").sort("service", "origin", "note", "metric")


def _of_history(known: Known, day: int) -> list[tuple[tuple[str, str], str]]:
    """By service and origin, from the training windows' requests."""
    cut = max(-known.first, 0)
    said = []
    for s, (service, origin, metric) in enumerate(known.series.iter_rows()):
        if metric != "requests":
            continue
        key, born = (service, origin), int(known.born[s])
        of = known.value[-1, s, max(born, 0) : cut]
        if len(of) == 0:
            said.append((key, "has no window in the training part; forecast from its first request on"))
            continue
        if len(of) < 2 * day:
            history = duration(len(of) * known.window_s)
            said.append((key, f"has {history} of history at the cut: of a day's pattern little is known"))
        if (empty := float((of == 0).mean())) >= GAPPY:
            said.append((key, f"is empty in {empty:.0%} of its training windows; its forecasts are averages over gaps"))
        if len(of) > 1 and np.ptp(of) == 0:
            said.append((key, "is constant in the training part"))
    return said

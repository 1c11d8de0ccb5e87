"""Forecasts of windows ahead, issued every so often: what policies ask for that plan by the hour, or by the minute."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import NamedTuple

import numpy as np
import polars as pl

from lmaas.analysis.forecasting.forecaster import FORECASTERS, SCHEMA, Forecaster, Task, labelled, or_last
from lmaas.analysis.forecasting.notes import counted
from lmaas.analysis.windows import DAY_S, DEFAULT_ORIGIN, count_windows, refuse_too_many, window_index

from .typed import Types

AMOUNTS = {"prompt_tokens": pl.col("input_tokens").cast(pl.Float64), "requests": pl.lit(1.0)}


@dataclass(frozen=True)
class Horizon:
    """A policy's attribute `horizon`: prompt tokens of these tiers in each of the next `windows` windows.

    Issued at the cut and every every_s after it, a multiple of window_s. Requests without tier count as scored.
    metric: or requests. types: by request type too (typed.typed, column `type`).
    """

    window_s: float = 60.0
    every_s: float = 3600.0
    windows: int = 60
    tiers: tuple[str, ...] = ("interactive-fast", "interactive-normal")
    metric: str = "prompt_tokens"
    types: Types | None = None

    @property
    def keys(self) -> list[str]:
        """What a series is of."""
        return ["service", "origin"] if self.types is None else ["service", "origin", "type"]


def of_horizon(requests: pl.DataFrame, horizon: Horizon) -> pl.DataFrame:
    """The requests that a horizon counts; column scored_tier."""
    return requests.filter(pl.col("scored_tier").is_in(list(horizon.tiers)))


def forecast_ahead(
    requests: pl.DataFrame, horizon: Horizon, *, cut_s: float, end_s: float, model: str | Forecaster,
    notes: set[str] | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Rows of SCHEMA (the horizon's metric), sorted by issued_s: at each issue one a window ahead, service and origin.

    requests: arrival_s, service, region, input_tokens, scored_tier (type), of training and evaluated part. What is
    issued at t is made of the windows that ended by t; all that is counted is known at arrival. Series without request
    by then have no row. Forecasters that remember their errors are asked at every window, others (`sparse`) at the
    issues alone. To notes is added for how many series the model did something else than its name says.
    """
    forecaster: Forecaster = FORECASTERS.load(model)() if isinstance(model, str) else model
    series, counts, first = _counts(of_horizon(requests, horizon), horizon, cut_s, end_s)
    window_s, step = horizon.window_s, round(horizon.every_s / horizon.window_s)
    if counts.size == 0:
        return pl.DataFrame(schema=SCHEMA)
    task = Task(series, max(round(DAY_S / window_s), 1), tuple(range(1, horizon.windows + 1)))
    state = forecaster.start(task)
    born = np.where(counts.any(axis=1), (counts > 0).argmax(axis=1), counts.shape[1])
    sparse = bool(getattr(forecaster, "sparse", False))
    parts = []
    for n in range(1, counts.shape[1] + 1):
        due = (n + first) % step == 0 and n + first >= 0
        if not due and (sparse or n < -first // 2):
            continue
        seen = counts[:, :n]
        issued = forecaster.issue(seen.copy(), state)
        if due and cut_s + (n + first) * window_s < end_s:
            value = or_last(issued, seen, task)
            known = np.flatnonzero(born < n)
            parts.append(_Issue(n + first, known, value[:, known]))
    if notes is not None:
        said = model if isinstance(model, str) else type(model).__name__
        fallen = {what: len(of) for what, of in task.fallbacks.items()}
        notes |= counted(said, horizon.window_s, fallen, series.height)
    return _rows(series, parts, cut_s, horizon) if parts else pl.DataFrame(schema=SCHEMA)


class _Issue(NamedTuple):
    """What one issue says: the first window ahead, numbers of the series, value f8[windows, series]."""

    window: int
    series: np.ndarray
    value: np.ndarray


def _counts(
    requests: pl.DataFrame, horizon: Horizon, cut_s: float, end_s: float
) -> tuple[pl.DataFrame, np.ndarray, int]:
    """(series, amounts f8[series, windows], number of the first window; the one from cut_s on is 0).

    Whole windows of the trace: one seen in part is no history.
    """
    window_s = horizon.window_s
    key = [
        pl.col("service").cast(pl.String),
        pl.col("region").cast(pl.String).fill_null(DEFAULT_ORIGIN).alias("origin"),
    ]
    key += [pl.col("type").cast(pl.String)] if horizon.types is not None else []
    amount = AMOUNTS[horizon.metric].alias("amount")
    rows = requests.filter(pl.col("arrival_s") < end_s).select(
        *key, window_index(window_s, cut_s), amount, pl.col("arrival_s")
    )
    series = rows.select(horizon.keys).unique().sort(horizon.keys)
    if not rows.height:
        return series, np.zeros((0, 0)), 0
    begins = float(rows["arrival_s"].min())  # type: ignore[arg-type]
    first = floor((begins - cut_s) / window_s) + (begins > cut_s + floor((begins - cut_s) / window_s) * window_s)
    windows = max(count_windows(window_s, cut_s, end_s) - first, 0)
    refuse_too_many(windows * series.height, window_s)
    placed = rows.join(series.with_row_index("series"), on=horizon.keys, how="left", maintain_order="left")
    cell = placed.filter(pl.col("window") >= first).select(
        "amount", at=pl.col("series").cast(pl.Int64) * windows + pl.col("window") - first
    )
    flat = np.bincount(cell["at"].to_numpy(), cell["amount"].to_numpy(), series.height * windows)
    labels = series.with_columns(metric=pl.lit(horizon.metric))
    return labels, flat.reshape(series.height, windows), first


def _rows(series: pl.DataFrame, issues: Sequence[_Issue], cut_s: float, horizon: Horizon) -> pl.DataFrame:
    """The rows of all issues, made at once: who asks every minute for two days has thousands of them."""
    ahead = np.arange(horizon.windows)
    number = np.concatenate([np.tile(issue.series, horizon.windows) for issue in issues])
    window = np.concatenate([np.repeat(issue.window + ahead, len(issue.series)) for issue in issues])
    issued = np.concatenate([np.full(issue.value.size, issue.window) for issue in issues])
    value = np.concatenate([issue.value.reshape(-1) for issue in issues])
    issued_s, start_s = cut_s + issued * horizon.window_s, cut_s + window * horizon.window_s
    return labelled(series[number], issued_s, start_s, horizon.window_s, value)

"""Demand forecasts with a rolling origin: a forecast issued at t is made from what was known at t."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.progress import rising
from lmaas.analysis.windows import DAY_S, KNOWN_METRICS, METRICS, Known, count_windows, demand, known_demand

from .forecaster import FORECASTERS, Forecaster, Task, as_issued, or_last
from .intervals import Intervals
from .notes import notes

WARM = (
    2  # a model begins with the first half of what is known at the first issue, and shows how wrong it is on the rest
)

WEIGHTS = {
    "horizon_s": pl.Float64,
    "service": pl.String,
    "origin": pl.String,
    "metric": pl.String,
    "member": pl.String,
    "weight": pl.Float64,
}


@dataclass(frozen=True)
class Issued:
    """What one model issued: rows of SCHEMA, and notes (notes.NOTES) on what it could not do.

    weights: of a model that weighs others, horizon_s, service, origin, metric, member, weight at the last issue.
    """

    rows: pl.DataFrame
    notes: pl.DataFrame
    weights: pl.DataFrame
    series: int  # services and origins


def forecast(
    requests: pl.DataFrame,
    *,
    window_s: float,
    cut_s: float,
    end_s: float,
    lead_s: float,
    model: str | Forecaster = "auto",
    quantiles: Sequence[float] = (),
) -> pl.DataFrame:
    """Forecasts of every window that starts in [cut_s, end_s): columns SCHEMA, sorted by start_s.

    `requests`: arrival_s, service, region, input_tokens, output_tokens, done_s, over training and evaluated
    part; done_s says when an output became known (arrival + observed or nominal duration). A window's row is
    issued at the last boundary cut_s + k * window_s not after start_s - lead_s, so the first ones before the
    cut. Values are for whole windows, also where end_s cuts the last one. A service and origin has rows from
    the first boundary after its first request on; windows without row had nothing to go by. total_tokens is
    the sum of the prompt and output forecasts. `quantiles` adds rows (intervals.py). UserError (exit 2) for an
    unknown model, a window or lead out of range.
    """
    return issue(
        requests, window_s=window_s, cut_s=cut_s, end_s=end_s, leads_s=[lead_s], model=model, quantiles=quantiles
    ).rows


def issue(
    requests: pl.DataFrame,
    *,
    window_s: float,
    cut_s: float,
    end_s: float,
    leads_s: Sequence[float],
    model: str | Forecaster = "auto",
    quantiles: Sequence[float] = (),
    progress: Callable[[float], None] = lambda done: None,
) -> Issued:
    """As `forecast`, for several leads of one model in one run: a window has a row for each.

    `progress` is told the share of the boundaries that are done, a `Share` of the windows.
    """
    for lead_s in leads_s:
        if not lead_s >= 0:
            raise UserError(f"a lead of {lead_s:g} s issues forecasts after the fact; give 0 s or more", Exit.USAGE)
    for quantile in quantiles:
        if not 0 < quantile < 1:
            raise UserError(f"a quantile of {quantile:g} is none; give numbers between 0 and 1", Exit.USAGE)
    window_s, cut_s, end_s = float(window_s), float(cut_s), float(end_s)
    forecaster: Forecaster = FORECASTERS.load(model)() if isinstance(model, str) else model
    known = known_demand(requests, window_s=window_s, cut_s=cut_s, end_s=end_s)
    # a lead of n windows is n windows, though the quotient may come out a hair above n
    behind = {lead_s: ceil(lead_s / window_s - 1e-9) for lead_s in leads_s}
    task = Task(known.series, max(round(DAY_S / window_s), 1), tuple(sorted({b + 1 for b in behind.values()})))
    targets = count_windows(window_s, cut_s, end_s)
    value, state = _issue_all(known, forecaster, task, targets, sorted(quantiles), progress)
    names = [None, *sorted(quantiles)]
    parts = [
        _rows(known, targets, b, lead_s, quantile, value[q, task.aheads.index(b + 1)])
        for lead_s, b in behind.items()
        for q, quantile in enumerate(names)
    ]
    keys = ["start_s", "service", "origin", "metric", "issued_s", "quantile"]
    table = pl.concat(parts).sort(keys, descending=[False] * 4 + [True, False], nulls_last=False)
    pairs = known.series.height // len(KNOWN_METRICS)
    return Issued(table, notes(known, task), _weights(state, task, window_s), pairs)


def truth(requests: pl.DataFrame, *, window_s: float, cut_s: float, end_s: float) -> pl.DataFrame:
    """Foresight: what will arrive, as forecasts that are never wrong; for bounds such as the oracle only.

    Columns as `forecast`, issued at minus infinity, for every service and origin of the evaluated part. length_s of
    a last window that end_s cuts is the part before end_s.
    """
    return demand(requests, window_s, cut_s, end_s).select(
        pl.lit(-np.inf).alias("issued_s"),  # known before any lead
        *(pl.col(c) for c in ("start_s", "length_s", "service", "origin")),
        *(pl.lit(None, dtype=pl.String).alias(c) for c in ("tier", "type")),
        "metric",
        pl.lit(None, dtype=pl.Float64).alias("quantile"),
        "value",
    )


def _issue_all(
    known: Known,
    forecaster: Forecaster,
    task: Task,
    targets: int,
    quantiles: Sequence[float],
    progress: Callable[[float], None],
) -> tuple[np.ndarray, Any]:
    """f8[1 + quantiles, aheads, targets, series and totals] >= 0, the point first; NaN where no request was seen.

    And the model's state after the last issue.

    The model runs from half of what is known at the first issue on. What it issues before that is never shown: it
    says how wrong the model is, which weights, rates and intervals are learned from.
    """
    state = forecaster.start(task)
    bands = Intervals(task.aheads, with_totals(known.series)["metric"].to_list(), task.day, quantiles)
    born = _totals(known.born, np.minimum)
    value = np.full((1 + len(quantiles), len(task.aheads), targets, len(born)), np.nan)
    first = -known.first - task.aheads[-1] + 1  # windows ended at the first issue whose target is shown
    # issue n (windows ended) is for window n + ahead - 1, target n + ahead - 1 + known.first
    boundaries = range(max(first - first // WARM, 1), targets - known.first - task.aheads[0] + 1)
    tell = rising(progress, len(boundaries), "windows")
    for done, n in enumerate(boundaries):
        tell(done / len(boundaries))
        seen = known.at(n)
        kept = _totals(seen, np.add) if quantiles else seen
        point = or_last(forecaster.issue(seen.copy(), state), seen, task)
        point = np.where(born < n, _totals(point.T, np.add).T, np.nan)
        made = bands.add(kept, point)
        for a, ahead in enumerate(task.aheads):
            if 0 <= n + ahead - 1 + known.first < targets:
                value[:, a, n + ahead - 1 + known.first] = made[:, a]
    tell(1.0)
    return value, state


def _weights(state: Any, task: Task, window_s: float) -> pl.DataFrame:
    weight = getattr(state, "weight", None)
    if weight is None:
        return pl.DataFrame(schema=WEIGHTS)
    parts = [
        task.series.with_columns(
            horizon_s=pl.lit(ahead * window_s), member=pl.lit(name), weight=pl.Series(weight[m, a])
        ).select(*WEIGHTS)
        for m, name in enumerate(state.names)
        for a, ahead in enumerate(task.aheads)
    ]
    return pl.concat(parts)


def with_totals(series: pl.DataFrame) -> pl.DataFrame:
    """`series` of Known with total_tokens after the other metrics of each service and origin."""
    keys = series.select("service", "origin").unique(maintain_order=True)
    return keys.join(pl.DataFrame({"metric": METRICS}), how="cross", maintain_order="left_right")


def _totals(value: np.ndarray, of: np.ufunc) -> np.ndarray:
    """[series, ...] with a row after each service and origin's: `of` its prompt and its output tokens."""
    by = value.reshape(-1, len(KNOWN_METRICS), *value.shape[1:])
    return np.concatenate([by, of(by[:, 1:2], by[:, 2:3])], axis=1).reshape(-1, *value.shape[1:])


def _rows(
    known: Known, targets: int, behind: int, lead_s: float, quantile: float | None, value: np.ndarray
) -> pl.DataFrame:
    """The table of SCHEMA from f8[targets, series and totals] of one lead and quantile; NaN: nothing was issued."""
    target = np.arange(targets)
    start = known.cut_s + target * known.window_s
    # exactly start - lead where that is a boundary, whatever the rounding: consumers compare these times
    issued = np.minimum(known.cut_s + (target - behind) * known.window_s, start - lead_s)
    series = with_totals(known.series)
    rows = as_issued(series, issued, start, known.window_s, value, quantile)
    return rows.filter(pl.col("value").is_not_nan())

"""Demand forecasts with a rolling origin: a forecast issued at t is made from what was known at t."""

from math import ceil

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.windows import DAY_S, Known, count_windows, demand, known_demand

from .forecaster import FORECASTERS, SCHEMA, Forecaster, Task


def forecast(
    requests: pl.DataFrame,
    *,
    window_s: float,
    cut_s: float,
    end_s: float,
    lead_s: float,
    model: str | Forecaster = "auto",
) -> pl.DataFrame:
    """Point forecasts of every window that starts in [cut_s, end_s): columns SCHEMA, sorted by start_s.

    `requests`: arrival_s, service, region, input_tokens, output_tokens, done_s, over training and evaluated
    part; done_s says when an output became known (arrival + observed or nominal duration). A window's row is
    issued at the last boundary cut_s + k * window_s not after start_s - lead_s, so the first ones before the
    cut. Values are for whole windows, also where end_s cuts the last one. A service and origin has rows from
    the first boundary after its first request on; windows without row had nothing to go by. total_tokens is
    the sum of the prompt and output forecasts. UserError (exit 2) for an unknown model, a window or lead out
    of range.
    """
    if not lead_s >= 0:
        raise UserError(f"a lead of {lead_s:g} s issues forecasts after the fact; give 0 s or more", Exit.USAGE)
    window_s, cut_s, end_s = float(window_s), float(cut_s), float(end_s)
    forecaster: Forecaster = FORECASTERS.load(model)() if isinstance(model, str) else model
    known = known_demand(requests, window_s=window_s, cut_s=cut_s, end_s=end_s)
    # a lead of n windows is n windows, though the quotient may come out a hair above n
    behind = ceil(lead_s / window_s - 1e-9)
    targets = np.arange(count_windows(window_s, cut_s, end_s))
    ended = targets - behind - known.first
    value = _issue_all(known, forecaster, ended, behind + 1)
    return _rows(known, targets, behind, lead_s, value)


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


def _issue_all(known: Known, forecaster: Forecaster, ended: np.ndarray, ahead: int) -> np.ndarray:
    """f8[targets, series] >= 0: each target from its first `ended` windows; NaN where no request was seen."""
    state = forecaster.start(Task(known.series, max(round(DAY_S / known.window_s), 1), ahead))
    value = np.full((len(ended), known.series.height), np.nan)
    for target in np.flatnonzero(ended >= 1):
        seen = known.at(int(ended[target]))
        last = seen[:, -1].copy()
        issued = np.asarray(forecaster.issue(seen, state), dtype=np.float64)
        point = np.maximum(np.where(np.isfinite(issued), issued, last), 0.0)
        value[target] = np.where(known.born < ended[target], point, np.nan)
    return value


def _rows(known: Known, targets: np.ndarray, behind: int, lead_s: float, value: np.ndarray) -> pl.DataFrame:
    """The table of SCHEMA from f8[targets, series]; NaN: nothing was issued."""
    start = known.cut_s + targets * known.window_s
    # exactly start - lead where that is a boundary, whatever the rounding: consumers compare these times
    issued = np.minimum(known.cut_s + (targets - behind) * known.window_s, start - lead_s)
    series = known.series.height
    every = pl.concat([known.series] * len(targets)) if len(targets) else known.series.clear()
    wide = every.with_columns(
        issued_s=np.repeat(issued, series),
        start_s=np.repeat(start, series),
        length_s=pl.lit(known.window_s),
        tier=pl.lit(None, dtype=pl.String),
        type=pl.lit(None, dtype=pl.String),
        quantile=pl.lit(None, dtype=pl.Float64),
        value=value.reshape(-1),
    ).filter(pl.col("value").is_not_nan())
    tokens = pl.col("metric").is_in(["prompt_tokens", "output_tokens"])
    same = [c for c in SCHEMA if c not in ("metric", "value")]
    total = wide.filter(tokens).group_by(same).agg(pl.sum("value"), metric=pl.lit("total_tokens"))
    table = pl.concat([wide.select(*SCHEMA), total.select(*SCHEMA)])
    return table.sort("start_s", "service", "origin", "metric")

"""What a demand forecaster is, what it is asked, and which there are."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl

from lmaas.analysis.registry import Registry

SCHEMA: dict[str, pl.DataType] = {
    "issued_s": pl.Float64(),  # a window boundary; made from what was known then
    "start_s": pl.Float64(),  # of the window that is forecast
    "length_s": pl.Float64(),
    "service": pl.String(),
    "origin": pl.String(),  # region the requests come from; `default` where unknown
    "tier": pl.String(),  # null: all tiers
    "type": pl.String(),  # null: all request types
    "metric": pl.String(),  # one of windows.METRICS
    "quantile": pl.Float64(),  # null: the point forecast
    "value": pl.Float64(),  # requests or tokens in the window
}


def as_issued(
    series: pl.DataFrame, issued_s: np.ndarray, start_s: np.ndarray, length_s: float, value: np.ndarray,
    quantile: float | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Rows of SCHEMA, of all tiers: every series of every window, window by window.

    series: service, origin, metric, and `type` where it is of one (else of all); issued_s, start_s f8[windows],
    seconds; value f8[windows, series], requests or tokens.
    """
    every = pl.concat([series] * len(start_s)) if len(start_s) else series.clear()
    issued_s, start_s = (np.repeat(times, series.height) for times in (issued_s, start_s))
    return labelled(every, issued_s, start_s, length_s, value.reshape(-1), quantile)


def labelled(
    series: pl.DataFrame, issued_s: np.ndarray, start_s: np.ndarray, length_s: float, value: np.ndarray,
    quantile: float | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Rows of SCHEMA, of all tiers: series as in `as_issued`, but one a row; issued_s, start_s, value f8[rows]."""
    return series.with_columns(
        issued_s=issued_s,
        start_s=start_s,
        length_s=pl.lit(length_s),
        tier=pl.lit(None, dtype=pl.String),
        type=pl.col("type") if "type" in series.columns else pl.lit(None, dtype=pl.String),
        quantile=pl.lit(quantile, dtype=pl.Float64),
        value=value,
    ).select(*SCHEMA)


FORECASTERS = Registry(
    "forecaster",
    group="lmaas.forecasters",
    builtin={
        "auto": "lmaas.analysis.forecasting.models.auto:Auto",
        "ensemble": "lmaas.analysis.forecasting.models.auto:Ensemble",
        "last-value": "lmaas.analysis.forecasting.models.naive:LastValue",
        "seasonal-naive": "lmaas.analysis.forecasting.models.naive:SeasonalNaive",
        "mean": "lmaas.analysis.forecasting.models.smoothing:Mean",
        "ses": "lmaas.analysis.forecasting.models.smoothing:Ses",
        "ets": "lmaas.analysis.forecasting.models.smoothing:Ets",
        "theta": "lmaas.analysis.forecasting.models.theta:Theta",
        "mstl": "lmaas.analysis.forecasting.models.seasonal:Mstl",
        "arima": "lmaas.analysis.forecasting.models.arima:Arima",
        "arima-312": "lmaas.analysis.forecasting.models.arima:Arima312",
        "trees": "lmaas.analysis.forecasting.models.trees:Trees",
    },
    listing="docs/forecasts.md",
)


@dataclass(frozen=True)
class Task:
    """What is to be forecast, the same at every issue."""

    series: pl.DataFrame  # service, origin, metric (one of KNOWN_METRICS): the rows of every array
    day: int  # windows a day
    aheads: tuple[int, ...]  # rising; the targets are the so-manieth windows after the last ended one
    fallbacks: dict[str, set[int]] = field(default_factory=dict)  # what else was done -> of which series

    def fell_back(self, what: str, series: int) -> None:
        """A model says that it could not do for a series what its name says, and what it did instead."""
        self.fallbacks.setdefault(what, set()).add(series)


class Forecaster(Protocol):
    """A frozen dataclass whose fields are its parameters; made without arguments from the registry."""

    def start(self, task: Task) -> Any:
        """What it remembers between issues."""

    def issue(self, seen: np.ndarray, state: Any) -> np.ndarray:
        """f8[aheads, series]: demand in the target windows, from seen, f8[series, ended windows >= 1].

        Called at one boundary after the other; `seen` is a fresh array of what is known there, so values of
        the last windows may differ from those at the issue before (Known).
        """


def or_last(issued: np.ndarray, seen: np.ndarray, task: Task) -> np.ndarray:
    """f8[aheads, series] >= 0: what a model issued, the last value where that is no number, which `task` is told.

    seen, f8[series, ended windows >= 1]: of a series without demand in it nothing is said.
    """
    value = np.asarray(issued, dtype=np.float64)
    lacking = ~np.isfinite(value)
    for s in np.flatnonzero(lacking.any(axis=0) & seen.any(axis=1)):
        task.fell_back("issued no number at times; the last value there", int(s))
    return np.maximum(np.where(lacking, seen[:, -1], value), 0.0)

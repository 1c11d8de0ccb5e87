"""Requests in windows, and which forecasters a test is for: of the tests of forecasts."""

import polars as pl
import pytest
from requests_data import table

from lmaas.analysis.forecasting.forecaster import FORECASTERS

SLOW = ("theta", "arima", "arima-312", "trees", "ensemble")  # half a second a series and more
quick_forecasters = pytest.mark.parametrize("model", [name for name in FORECASTERS if name not in SLOW])
every_forecaster = pytest.mark.parametrize("model", list(FORECASTERS))
KEY = ["issued_s", "start_s", "service", "origin", "metric", "quantile"]


def steady(*, windows, window_s=60.0, per_window=(5,), start=0):
    """As many requests in window k as per_window says (repeated), the first at its start, done on arrival."""
    counts = [(k, per_window[k % len(per_window)]) for k in range(start, windows)]
    arrival = [(k + i / n) * window_s for k, n in counts for i in range(n)]
    return table(arrival_s=arrival)


def series(rows, metric="requests"):
    return rows.filter(pl.col("metric") == metric).sort("start_s")["value"].to_numpy()

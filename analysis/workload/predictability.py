"""How well the load can be foretold: forecasts of the second half of the trace, each made of what came before."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.forecasting.forecaster import Task
from lmaas.analysis.forecasting.models.auto import Auto
from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.windows import DAY_S, HOUR_S

from .scales import WEEK_S
from .series import Series, regular
from .words import duration

F8 = npt.NDArray[np.float64]

MAX_WINDOWS = 2_100  # two weeks of ten minutes; the default forecaster takes 2 s for them
MIN_REQUESTS = 5.0  # per window on average
LEAST_S = 60.0  # of a window: no fleet follows a shorter forecast
RECENT = 12  # windows of the recent mean
NAIVE = ("last-value", "recent-mean")
BETTER = 0.95  # of the better naive forecast's error: a smaller gain is none

COLUMNS: dict[str, dict[str, str]] = {
    "predictability": {
        "metric": "requests or tokens (input and output of the requests that arrive)",
        "horizon_s": "what is forecast is the window that ends so long after the forecast is made: the next one, and "
        "that of an hour later",
        "window_s": "length of the windows: the shortest of a minute or more with at most 2,100 in all and 5 requests "
        "on average",
        "method": "last-value; recent-mean: of the last 12 windows, which noise alone makes better than the last one; "
        "day and week: the same window a day or a week before; auto: the default forecaster",
        "wape": "sum of absolute errors / sum of the truth over n windows, the second half of the trace",
        "to_last_value": "wape / that of last-value; below 1 is better",
        "best": "whether none is better",
        "noise": "the same error of the true rate, if arrivals were Poisson: no forecast of requests can be expected "
        "to do better; null for tokens",
        "n": "windows forecast",
    }
}


def predictability(finest: pl.DataFrame, base_s: float, first_s: float, last_s: float) -> pl.DataFrame | None:
    """Table `predictability`; None where the trace has too few requests or windows."""
    series = regular(finest, base_s, first_s, last_s, most=MAX_WINDOWS, requests=MIN_REQUESTS, least_s=LEAST_S)
    if series is None:
        return None
    values = np.stack([series.requests, series.input_tokens + series.output_tokens])
    horizons = {1: series.step_s}
    hour = round(HOUR_S / series.step_s)
    if hour > 1 and len(series) // 2 >= 2 * hour and abs(hour * series.step_s - HOUR_S) < 1e-6:
        horizons[hour] = HOUR_S
    rows = [row for ahead, horizon_s in horizons.items() for row in _horizon(series, values, ahead, horizon_s)]
    if not rows:
        return None
    return pl.DataFrame(rows).select(COLUMNS["predictability"].keys()).sort("horizon_s", "metric", "wape", "method")


def _horizon(series: Series, values: F8, ahead: int, horizon_s: float) -> Iterator[dict[str, object]]:
    targets = np.arange(len(series) // 2, len(series))
    truth = values[:, targets]
    errors = {name: np.abs(f - truth).sum(axis=1) for name, f in forecasts(values, series.step_s, targets, ahead)}
    noise = float(np.sqrt(2 * truth[0] / np.pi).sum())
    for k, metric in enumerate(("requests", "tokens")):
        total = float(truth[k].sum())
        if not total:
            continue
        floor = float(errors["last-value"][k])
        least = min(float(e[k]) for e in errors.values())
        for name, error in errors.items():
            yield {
                "metric": metric,
                "horizon_s": horizon_s,
                "window_s": series.step_s,
                "method": name,
                "wape": float(error[k]) / total,
                "to_last_value": float(error[k]) / floor if floor else None,
                "best": float(error[k]) == least,
                "noise": noise / total if metric == "requests" else None,
                "n": len(targets),
            }


def forecasts(values: F8, step_s: float, targets: npt.NDArray[np.int64], ahead: int) -> Iterator[tuple[str, F8]]:
    """f8[series, targets] by method, each target from the windows that ended `ahead` - 1 windows before it begins.

    A season back is the last known window of the same phase; absent where the first target has none.
    """
    yield "last-value", values[:, targets - ahead]
    running = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
    known = targets - ahead + 1
    first = np.maximum(known - RECENT, 0)
    yield "recent-mean", (running[:, known] - running[:, first]) / (known - first)
    for name, period_s in (("day", DAY_S), ("week", WEEK_S)):
        period = round(period_s / step_s)
        if abs(period * step_s - period_s) < 1e-6 and period > 1 and ahead <= period <= targets[0]:
            yield name, values[:, targets - period]
    keys = pl.DataFrame({"service": "all", "origin": "all", "metric": ["requests", "prompt_tokens"]})
    task, model = Task(keys, max(round(DAY_S / step_s), 1), (ahead,)), Auto()
    state = model.start(task)
    begin = int(targets[0]) - ahead + 1
    issued = [model.issue(values[:, :n].copy(), state)[0] for n in range(max(begin // 2, 1), begin + len(targets))]
    yield "auto", np.stack(issued[-len(targets) :], axis=1)


def gain(found: pl.DataFrame, metric: str) -> dict[str, Any] | None:
    """What the default forecaster gains over the better naive forecast, at the longest horizon; None where untested.

    horizon_s, n, wape (of auto), naive (the better one's name), naive_wape, gain (1 - wape / naive_wape). Auto chooses
    its method by what came before, so nothing here is picked in hindsight but the naive forecast.
    """
    of = found.filter(metric=metric)
    of = of.filter(pl.col("horizon_s") == pl.col("horizon_s").max())
    rows = {r["method"]: r for r in of.iter_rows(named=True)}
    if "auto" not in rows:
        return None
    auto, naive = rows["auto"], min((rows[n] for n in NAIVE if n in rows), key=lambda r: float(r["wape"]))
    if not naive["wape"]:
        return None
    facts = {c: auto[c] for c in ("horizon_s", "window_s", "n", "wape", "noise")}
    return facts | {"naive": naive["method"], "naive_wape": naive["wape"], "gain": 1 - auto["wape"] / naive["wape"]}


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """What a forecast of the requests gains over a naive one."""
    if "predictability" not in tables:
        return
    r = gain(tables["predictability"], "requests")
    if r is None:
        return
    window = duration(r["window_s"])
    what = f"of the next {window}" if r["horizon_s"] == r["window_s"] else f"in {window}, an hour ahead,"
    naive = {"last-value": "the last value", "recent-mean": "the mean of the last 12 windows"}[r["naive"]]
    if r["gain"] < 1 - BETTER:
        said = f"not clearly better than {naive} ({r['naive_wape']:.1%})"
    else:
        said = f"{naive} by {r['naive_wape']:.1%}"
    yield (
        f"Forecasts of the requests {what} are off by {r['wape']:.1%}, {said}; Poisson noise alone makes "
        f"{r['noise']:.1%} (n = {r['n']:,} windows)."
    )

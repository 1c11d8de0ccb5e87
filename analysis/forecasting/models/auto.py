"""The default forecaster: statsforecast models, weighted by a backtest, refitted daily, level carried between.

Between two fits the models' paths stand and only their level moves: each path is shifted by the exponentially
weighted mean of its errors since the fit, w(age) = c * (1 - c)^age, which for simple exponential smoothing
with parameter c is exactly its own update. So a fit a day costs little and the forecast still follows the
last window.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmaas.analysis.forecasting.forecaster import Task

Path = Callable[[np.ndarray, int, int], np.ndarray]  # (history, steps, windows a day) -> the next steps
CARRY = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 1.0])  # c above, chosen per series and model by the backtest


def smoothed_level(y: np.ndarray, steps: int, day: int) -> np.ndarray:
    """Simple exponential smoothing, its parameter fitted."""
    from statsforecast.models import SimpleExponentialSmoothingOptimized

    return _run(SimpleExponentialSmoothingOptimized(), y[-2 * day :], steps)


def window_mean(y: np.ndarray, steps: int, day: int) -> np.ndarray:
    """The mean of the last day."""
    from statsforecast.models import WindowAverage

    return _run(WindowAverage(window_size=min(len(y), day)), y, steps)


def daily(y: np.ndarray, steps: int, day: int) -> np.ndarray:
    """MSTL with a day's season (before two whole days: yesterday again), smoothed over an hour.

    The season is estimated window by window from a few days only; unsmoothed, its noise costs more than the
    season gains (measured on resampled production traces: WAPE 0.25 against 0.23).
    """
    from statsforecast.models import MSTL, SeasonalNaive, SimpleExponentialSmoothingOptimized

    if len(y) < day:
        return window_mean(y, steps, day)
    # LOESS at every tenth point of its span and interpolated between, as STL's authors advise: ten times
    # faster, the same forecasts to three digits
    jumps = {"seasonal_jump": 2, "trend_jump": max(day // 7, 1), "low_pass_jump": max(day // 10, 1)}
    stl = MSTL([day], trend_forecaster=SimpleExponentialSmoothingOptimized(), stl_kwargs=jumps)
    reach = day // 48
    path = _run(stl if len(y) >= 2 * day else SeasonalNaive(day), y, max(steps + reach, day))
    around = np.concatenate([path[day - reach : day], path[: steps + reach]])
    return np.convolve(around, np.full(2 * reach + 1, 1 / (2 * reach + 1)), mode="valid")


def last(y: np.ndarray, steps: int, day: int) -> np.ndarray:
    """The last window again; with its level carried at 1 the floor itself."""
    return np.full(steps, y[-1])


LEVEL_MODELS: dict[str, Path] = {"last": last, "mean": window_mean, "ses": smoothed_level}
DAILY_MODELS: dict[str, Path] = {"daily": daily}
MIN_DAY = 6  # windows a day below which there is no daily shape to learn
MIN_HISTORY = 8  # windows below which there is nothing to judge models by


@dataclass
class Fitted:
    """Memory between issues; arrays are models x series (x steps)."""

    task: Task
    chosen_at: int = 0  # windows seen when the models were last judged
    fitted_at: int = 0
    models: dict[str, Path] = field(default_factory=dict)
    weight: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    carry: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    paths: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)))


@dataclass(frozen=True)
class Auto:
    """Mean of statsforecast models, weighted per series by their error in a backtest on what is seen."""

    sharpness: float = 6.0  # weight = (backtest error)^-sharpness
    pooling: float = 0.5  # how much of a series' score is that of all series of its metric (geometric)

    def start(self, task: Task) -> Fitted:
        """Nothing is fitted yet."""
        return Fitted(task)

    def issue(self, seen: np.ndarray, state: Fitted) -> np.ndarray:
        """See Forecaster."""
        n, ahead = seen.shape[1], state.task.ahead
        if n >= 2 * state.chosen_at:
            self._choose(seen, state)
            state.chosen_at = n
            state.fitted_at = 0
        if not state.fitted_at or n - state.fitted_at >= refit_every(state.chosen_at, state.task.day):
            steps = refit_every(state.chosen_at, state.task.day) + ahead
            state.paths = fit(state.models, seen, steps, state.task.day)
            state.fitted_at = n
        since = n - state.fitted_at
        error = seen[:, state.fitted_at :] - state.paths[:, :, :since]
        level = carried(error, state.carry)
        point = np.maximum(state.paths[:, :, since + ahead - 1] + level, 0.0)
        return np.asarray((state.weight * point).sum(axis=0))

    def _choose(self, seen: np.ndarray, state: Fitted) -> None:
        """Models, their weights and carries per series, from forecasts of the last half of what is seen."""
        n, day = seen.shape[1], state.task.day
        # half of it: on one-hour traces a third is 16 windows and chooses by luck (over 29 cuts of the Azure
        # conversations the worst error was 1.80 times the last value's; by half 1.35)
        judged = min(n // 2, 2 * day)
        state.models = LEVEL_MODELS | (DAILY_MODELS if n - judged >= day >= MIN_DAY else {})
        if n < MIN_HISTORY:
            state.models = {"last": last}
            state.weight = state.carry = np.ones((1, len(seen)))
            return
        error = backtest(state.models, seen, judged, state.task)
        floor = error[0, -1]  # of the last value, carried at 1
        # where everything is constant every error is 0, and every model as good as the floor
        least = 1e-6 * seen.mean(axis=1) * judged + 1e-9
        own = (error + least) / (floor + least)
        pooled = _pooled(error + least, floor + least, state.task)
        score = (1 - self.pooling) * np.log(own) + self.pooling * np.log(pooled)
        best = score.argmin(axis=1)
        state.carry = CARRY[best]
        score = np.take_along_axis(score, best[:, None], axis=1)[:, 0]
        state.weight = np.exp(-self.sharpness * (score - score.min(axis=0)))
        state.weight /= state.weight.sum(axis=0)


def refit_every(chosen_at: int, day: int) -> int:
    """Windows between fits: a day, or an eighth of what the models were judged on where that is shorter."""
    return max(min(day, chosen_at // 8), 1)


def fit(models: dict[str, Path], seen: np.ndarray, steps: int, day: int) -> np.ndarray:
    """f8[models, series, steps] >= 0: each model's path over the steps after what is seen."""
    paths = np.zeros((len(models), len(seen), steps))
    born = np.where(seen.any(axis=1), (seen != 0).argmax(axis=1), seen.shape[1])
    for s, y in enumerate(seen):
        history = y[born[s] :]  # a series is no forecast zero for the time before it existed
        if not len(history):
            continue
        for m, model in enumerate(models.values()):
            paths[m, s] = model(history, steps, day)
    return np.maximum(paths, 0.0)


def carried(error: np.ndarray, carry: np.ndarray) -> np.ndarray:
    """Level shift, f8[models, series], from errors since the fit, f8[models, series, windows], oldest first."""
    age = np.arange(error.shape[2])[::-1]
    return np.asarray((error * carry[:, :, None] * (1.0 - carry[:, :, None]) ** age).sum(axis=2))


def backtest(models: dict[str, Path], seen: np.ndarray, judged: int, task: Task) -> np.ndarray:
    """f8[models, carries, series]: sum of |error| over the last `judged` windows, forecast as they will be."""
    n = seen.shape[1]
    error = np.zeros((len(models), len(CARRY), len(seen)))
    every = max(refit_every(n, task.day), -(-judged // 3))  # at most three fits: the fits are the cost
    for fitted in range(n - judged - task.ahead + 1, n - task.ahead + 1, every):
        if fitted < 1:
            continue
        paths = fit(models, seen[:, :fitted], every + task.ahead, task.day)
        for now in range(fitted, min(fitted + every, n - task.ahead + 1)):
            missed = seen[None, :, fitted:now] - paths[:, :, : now - fitted]
            for c, carry in enumerate(CARRY):
                level = carried(missed, np.full(missed.shape[:2], carry))
                point = np.maximum(paths[:, :, now - fitted + task.ahead - 1] + level, 0.0)
                error[:, c] += np.abs(point - seen[:, now + task.ahead - 1])
    return error


def _pooled(error: np.ndarray, floor: np.ndarray, task: Task) -> np.ndarray:
    """Error relative to the floor over all series of a metric: one series alone judges by luck."""
    metric = task.series["metric"].to_numpy()
    pooled = np.empty_like(error)
    for name in np.unique(metric):
        of = metric == name
        pooled[:, :, of] = (error[:, :, of].sum(axis=2) / floor[of].sum())[:, :, None]
    return pooled


def _run(model: Any, y: np.ndarray, steps: int) -> np.ndarray:
    """f8[steps] from a statsforecast model; the history's mean where the model has too little to fit."""
    try:
        path = np.asarray(model.forecast(y=y, h=steps)["mean"], dtype=np.float64)
    except Exception:  # statsforecast raises what its solvers raise on short or degenerate series
        return np.full(steps, y.mean())
    return np.where(np.isfinite(path), path, y.mean())

"""Base of models that are fitted once a day: between fits their path stands and its level follows the errors.

Each path is shifted by the exponentially weighted mean of its errors since the fit, w(age) = c * (1 - c)^age,
which for simple exponential smoothing with parameter c is exactly its own update. So a fit a day costs little
and the forecast still follows the last window. How fast it follows is learned: all of CARRY run side by side,
weighted for each series and ahead by how far off they were.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmaas.analysis.forecasting.errors_so_far import ErrorsSoFar
from lmaas.analysis.forecasting.forecaster import Task

CARRY = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0])  # c above
MEMORY_DAYS = 2


@dataclass
class Fitted:
    """Memory between issues."""

    task: Task
    errors: ErrorsSoFar
    at: int = 0  # windows seen when last fitted
    paths: np.ndarray | None = None  # f8[series, steps]


@dataclass(frozen=True)
class Carried:
    """A model that is a path; `sharpness` and `pooling` as ErrorsSoFar.weights has them."""

    sharpness: float = 6.0
    pooling: float = 0.5
    share: int = 8  # of the history seen after which it is fitted again, where that is shorter than a day

    def path(self, history: np.ndarray, steps: int, task: Task, series: int) -> np.ndarray:
        """f8[steps] after `history`, f8[windows since the series' first request >= 1]."""
        raise NotImplementedError

    def start(self, task: Task) -> Fitted:
        """Nothing is fitted yet."""
        return Fitted(task, ErrorsSoFar(task, MEMORY_DAYS * task.day))

    def issue(self, seen: np.ndarray, state: Fitted) -> np.ndarray:
        """See Forecaster."""
        n, task = seen.shape[1], state.task
        state.errors.learn(seen[:, -1])
        if state.paths is None or n - state.at >= refit_every(state.at, task.day, self.share):
            state.paths = self._fit(seen, refit_every(n, task.day, self.share) + task.aheads[-1], task)
            state.at = n
        since = n - state.at
        level = carried(seen[:, state.at :] - state.paths[:, :since])
        future = state.paths[:, since - 1 + np.array(task.aheads)].T
        point = np.maximum(future[None] + level[:, None], 0.0)
        weight = state.errors.weights(point, seen, self.pooling, self.sharpness)
        state.errors.issued(point)
        return np.asarray((weight * point).sum(axis=0))

    def _fit(self, seen: np.ndarray, steps: int, task: Task) -> np.ndarray:
        paths = np.zeros((len(seen), steps))
        born = np.where(seen.any(axis=1), (seen != 0).argmax(axis=1), seen.shape[1])
        for s in np.flatnonzero(born < seen.shape[1]):
            history = seen[s, born[s] :]  # a series is no forecast zero for the time before it existed
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of solvers that stop early: what they found is used
                paths[s] = self.path(history, steps, task, int(s))
        return np.maximum(paths, 0.0)


def refit_every(fitted_at: int, day: int, share: int = 8) -> int:
    """Windows between fits: a day, or a `share`-th of what was seen at the last one where that is shorter."""
    return max(min(day, fitted_at // share), 1)


def carried(error: np.ndarray) -> np.ndarray:
    """Level shift, f8[CARRY, series], from errors since the fit, f8[series, windows], oldest first."""
    age = np.arange(error.shape[1])[::-1]
    return np.asarray((CARRY[:, None] * (1.0 - CARRY[:, None]) ** age) @ error.T)


def run(model: Callable[[], Any], y: np.ndarray, steps: int, task: Task, series: int) -> np.ndarray:
    """f8[steps] from a statsforecast model; the history's mean, and said so, where it cannot fit."""
    try:
        path = np.asarray(model().forecast(y=np.ascontiguousarray(y), h=steps)["mean"], dtype=np.float64)
    except Exception:  # statsforecast raises what its solvers raise on short or degenerate series
        path = np.full(steps, np.nan)
    if not np.isfinite(path).all():
        task.fell_back("could not be fitted; the mean of its history instead", series)
        return np.full(steps, y.mean())
    return path

"""Levels and trends without a season: means and exponential smoothing."""

from dataclasses import dataclass

import numpy as np

from lmaas.analysis.forecasting.forecaster import Task

from .carried import Carried, run


@dataclass(frozen=True)
class Mean(Carried):
    """The mean of the last day."""

    def path(self, history: np.ndarray, steps: int, task: Task, series: int) -> np.ndarray:
        """See Carried."""
        return np.full(steps, history[-task.day :].mean())


@dataclass(frozen=True)
class Ses(Carried):
    """Simple exponential smoothing, its parameter fitted to the last two days."""

    def path(self, history: np.ndarray, steps: int, task: Task, series: int) -> np.ndarray:
        """See Carried."""
        from statsforecast.models import SimpleExponentialSmoothingOptimized

        return run(SimpleExponentialSmoothingOptimized, history[-2 * task.day :], steps, task, series)


@dataclass(frozen=True)
class Ets(Carried):
    """AutoETS: error and (damped) trend chosen by AICc; no season, which ETS cannot have beyond 24 windows."""

    def path(self, history: np.ndarray, steps: int, task: Task, series: int) -> np.ndarray:
        """See Carried."""
        from statsforecast.models import AutoETS

        return run(lambda: AutoETS(model="ZZN", damped=True), history, steps, task, series)

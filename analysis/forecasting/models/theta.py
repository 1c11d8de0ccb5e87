"""The theta method: half a linear trend, half exponential smoothing, on the series without its daily season."""

from dataclasses import dataclass

import numpy as np

from lmaas.analysis.forecasting.forecaster import Task

from .carried import Carried, run


@dataclass(frozen=True)
class Theta(Carried):
    """AutoTheta: the best of the four theta models by its error on the last week's windows."""

    share: int = 3  # half a second a series and week

    def path(self, history: np.ndarray, steps: int, task: Task, series: int) -> np.ndarray:
        """See Carried; before two whole days without a season."""
        from statsforecast.models import AutoTheta

        season = task.day if len(history) >= 2 * task.day and task.day > 1 else 1
        if season == 1:
            task.fell_back("had less than two days; fitted without a daily season until then", series)
        history = history[-7 * task.day :]
        return run(lambda: AutoTheta(season, decomposition_type="additive"), history, steps, task, series)

"""The theta method: half a linear trend, half exponential smoothing, on the series without its daily season."""

from dataclasses import dataclass

import numpy as np

from lmaas.analysis.forecasting.forecaster import Task

from .carried import Carried, run
from .seasonal import MIN_DAY


@dataclass(frozen=True)
class Theta(Carried):
    """AutoTheta, the best of the four theta models in its sample, on what MSTL leaves without the day's season.

    AutoTheta's own test for a season refuses series with a plain one (a sine of a day), so it is not asked.
    """

    share: int = 3

    def path(self, history: np.ndarray, steps: int, task: Task, series: int) -> np.ndarray:
        """See Carried; before two whole days without a season."""
        from statsforecast.models import MSTL, AutoTheta

        day = task.day
        history = history[-7 * day :]  # half a second a series and week
        if len(history) < 2 * day or day < MIN_DAY:
            task.fell_back("had less than two days; fitted without a daily season until then", series)
            return run(AutoTheta, history, steps, task, series)
        return run(lambda: MSTL([day], trend_forecaster=AutoTheta()), history, steps, task, series)

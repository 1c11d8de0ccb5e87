"""Forecasts that need no fit."""

from dataclasses import dataclass

import numpy as np

from lmaas.analysis.forecasting.forecaster import Task


@dataclass(frozen=True)
class LastValue:
    """The floor: the window that ended last, as known at issue."""

    def start(self, task: Task) -> Task:
        """Nothing to remember."""
        return task

    def issue(self, seen: np.ndarray, state: Task) -> np.ndarray:
        """See Forecaster."""
        return np.tile(seen[:, -1], (len(state.aheads), 1))


@dataclass(frozen=True)
class SeasonalNaive:
    """The same window of the day before, the newest that is known; before a whole day the last value."""

    def start(self, task: Task) -> Task:
        """Nothing to remember."""
        return task

    def issue(self, seen: np.ndarray, state: Task) -> np.ndarray:
        """See Forecaster."""
        n, day = seen.shape[1], state.day
        born = np.where(seen.any(axis=1), (seen != 0).argmax(axis=1), n)
        value = np.empty((len(state.aheads), len(seen)))
        for a, ahead in enumerate(state.aheads):
            at = n - 1 + ahead - day * -(-ahead // day)
            young = born > at
            value[a] = np.where(young, seen[:, -1], seen[:, max(at, 0)])
            for s in np.flatnonzero(young & (born < n)):
                state.fell_back("had less than a whole day; the last value until then", int(s))
        return value

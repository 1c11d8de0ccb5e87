"""The default: several models side by side, weighted per series and ahead by how far off each was so far."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmaas.analysis.forecasting.errors_so_far import ErrorsSoFar
from lmaas.analysis.forecasting.forecaster import FORECASTERS, Task

MEMORY_DAYS = 2


@dataclass
class Members:
    """Memory between issues."""

    names: tuple[str, ...]
    models: list[Any]
    states: list[Any]
    errors: ErrorsSoFar
    weight: np.ndarray | None = None  # f8[models, aheads, series], of the last issue


@dataclass(frozen=True)
class Auto:
    """Mean of models, weighted per series by the error of what they issued before."""

    members: tuple[str, ...] = ("last-value", "mean", "ses", "mstl")
    sharpness: float = 12.0  # weight = error^-sharpness
    pooling: float = 0.5  # how much of a series' error is that of all series of its metric

    def start(self, task: Task) -> Members:
        """Nothing is known of any model yet."""
        models = [FORECASTERS.load(name)() for name in self.members]
        states = [model.start(task) for model in models]
        return Members(self.members, models, states, ErrorsSoFar(task, MEMORY_DAYS * task.day))

    def issue(self, seen: np.ndarray, state: Members) -> np.ndarray:
        """See Forecaster."""
        state.errors.learn(seen[:, -1])
        value = np.stack([m.issue(seen, s) for m, s in zip(state.models, state.states, strict=True)])
        state.weight = state.errors.weights(value, seen, self.pooling, self.sharpness)
        state.errors.issued(value)
        return np.asarray((state.weight * value).sum(axis=0))


@dataclass(frozen=True)
class Ensemble(Auto):
    """The default's models with an ARIMA and trees: under one per cent better for six times the cost."""

    members: tuple[str, ...] = ("last-value", "mean", "ses", "mstl", "arima", "trees")

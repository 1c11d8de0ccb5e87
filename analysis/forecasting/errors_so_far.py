"""How far off candidates were so far, of forecasts that were issued and have come due, and weights by that."""

from collections import deque

import numpy as np

from .forecaster import Task


class ErrorsSoFar:
    """Mean absolute error of each candidate, ahead and series, over about the last `memory` windows.

    Mean over all windows at first, then exponentially forgetting. Nothing is judged in hindsight: a forecast
    counts once its window has ended, with what was known of it then.
    """

    def __init__(self, task: Task, memory: int) -> None:
        self.memory = memory
        self.due = [deque[np.ndarray](maxlen=ahead) for ahead in task.aheads]
        self.count = np.zeros(len(task.aheads))
        self.mean: np.ndarray | None = None  # f8[candidates, aheads, series]
        names = task.series["metric"].unique(maintain_order=True).to_list()
        self.metrics = [np.flatnonzero((task.series["metric"] == name).to_numpy()) for name in names]

    def learn(self, last: np.ndarray) -> None:
        """f8[series]: the window that ended last; scores what was issued for it."""
        for a, due in enumerate(self.due):
            if len(due) < (due.maxlen or 1):
                continue
            assert self.mean is not None
            self.count[a] += 1
            self.mean[:, a] += (np.abs(due[0] - last) - self.mean[:, a]) / min(self.count[a], self.memory)

    def issued(self, value: np.ndarray) -> None:
        """f8[candidates, aheads, series], after `learn`, at every boundary."""
        if self.mean is None:
            self.mean = np.zeros(value.shape)
        for a, due in enumerate(self.due):
            due.append(value[:, a])

    def weights(self, value: np.ndarray, seen: np.ndarray, pooling: float, sharpness: float) -> np.ndarray:
        """f8[candidates, aheads, series], sum 1 over candidates: error^-sharpness; equal where none is known.

        `pooling` is how much of a series' error is that of all series of its metric (geometric): one alone judges
        by luck. `value`: what is issued now, for its size; `seen`, f8[series, windows]: series without demand in it
        have no say, for they may be known only later.
        """
        if self.mean is None:
            return np.full(value.shape, 1 / len(value))
        # where everything is constant every error is 0, and every candidate as good as the next
        error = self.mean + 1e-6 * np.abs(value).mean(axis=0) + 1e-9
        own = error / error.mean(axis=0)
        score = np.log(own)
        if pooling:
            shared = np.zeros_like(own)
            alive = np.asarray(seen.any(axis=1))
            for of in self.metrics:
                if (some := of[alive[of]]).size:
                    shared[:, :, of] = np.log(own[:, :, some].mean(axis=2))[:, :, None]
            score = (1 - pooling) * score + pooling * shared
        weight = np.exp(-sharpness * (score - score.min(axis=0)))
        weight[:, self.count == 0] = 1.0
        return np.asarray(weight / weight.sum(axis=0))

"""Gradient-boosted trees on lags and the time of day, one model an ahead for all series together."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmaas.analysis.forecasting.forecaster import Task

from .carried import refit_every

SHARE = 3  # of the history seen after which it is fitted again, where that is shorter than a day
LAGS = 6  # windows
LEAST = 40  # training rows; below it the last value
MAX_ROWS = 60_000  # a fit; the newest


@dataclass
class Grown:
    """Memory between issues."""

    task: Task
    at: int = 0
    boosters: list[Any] = field(default_factory=list)  # by ahead; None: too little to learn from


@dataclass(frozen=True)
class Trees:
    """xgboost on ratios to the series' level, so that what one series teaches holds for all."""

    rounds: int = 100
    depth: int = 5
    eta: float = 0.08
    days: int = 14  # of history a fit looks at
    seed: int = 0

    def start(self, task: Task) -> Grown:
        """Nothing is learned yet."""
        return Grown(task)

    def issue(self, seen: np.ndarray, state: Grown) -> np.ndarray:
        """See Forecaster."""
        n, task = seen.shape[1], state.task
        sums = running(seen)
        if not state.at or n - state.at >= refit_every(state.at, task.day, SHARE):
            state.boosters = [self._fit(seen, sums, task, ahead) for ahead in task.aheads]
            state.at = n
        value = np.tile(seen[:, -1], (len(task.aheads), 1))
        now = np.array([n])
        level = level_at(sums, now, task.day)[:, 0]
        alive = level > 0
        for a, (ahead, booster) in enumerate(zip(task.aheads, state.boosters, strict=True)):
            if booster is not None and alive.any():
                rows = features(seen, sums, now, ahead, task)[:, 0]
                value[a, alive] = booster.inplace_predict(rows[alive]) * level[alive]
        return np.asarray(np.maximum(value, 0.0))

    def _fit(self, seen: np.ndarray, sums: np.ndarray, task: Task, ahead: int) -> Any:
        import xgboost

        n = seen.shape[1]
        first = max(n - self.days * task.day, min(task.day, n // 3), LAGS)
        now = np.arange(first, n - ahead + 1)  # windows known; the target is window now + ahead - 1, itself known
        if len(now) == 0:
            return self._none(task)
        level = level_at(sums, now, task.day)
        target = seen[:, now + ahead - 1] / np.where(level > 0, level, np.inf)
        use = level > 0
        use &= newest(use, MAX_ROWS)
        if use.sum() < LEAST:
            return self._none(task)
        rows = features(seen, sums, now, ahead, task)
        x, y = rows[use], np.minimum(target[use], 50.0)  # a burst after silence would be all that is learned
        data = xgboost.QuantileDMatrix(x, y, nthread=1, max_bin=64)
        asked = {
            "max_depth": self.depth, "eta": self.eta, "objective": "reg:squarederror", "min_child_weight": 20,
            "subsample": 0.7, "colsample_bytree": 0.7, "nthread": 1, "seed": self.seed, "tree_method": "hist",
            "max_bin": 64,
        }  # fmt: skip
        return xgboost.train(asked, data, num_boost_round=self.rounds)

    def _none(self, task: Task) -> None:
        for s in range(task.series.height):
            task.fell_back(f"had under {LEAST} windows to learn from; the last value until then", s)


def newest(use: np.ndarray, most: int) -> np.ndarray:
    """b1[now]: the last instants at which at most `most` of use, b1[series, now], hold in all."""
    return np.asarray(use.sum(axis=0)[::-1].cumsum()[::-1] <= most)


def running(seen: np.ndarray) -> np.ndarray:
    """f8[series, windows + 1]: sums of the first so many windows."""
    return np.concatenate([np.zeros((len(seen), 1)), seen.cumsum(axis=1)], axis=1)


def level_at(sums: np.ndarray, now: np.ndarray, day: int) -> np.ndarray:
    """f8[series, now]: mean of the last day before each of `now`, of a younger series since its first request."""
    born = np.where(sums.any(axis=1), (sums != 0).argmax(axis=1) - 1, sums.shape[1])
    first = np.minimum(np.maximum(np.maximum(now - day, 0), born[:, None]), now)
    total = sums[:, now] - np.take_along_axis(sums, first, axis=1)
    return np.asarray(total / np.maximum(now - first, 1))


def mean_of(sums: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """f8[series, n]: means over windows [first, last), what lies before the first window left out; NaN of none."""
    first, last = np.maximum(first, 0), np.maximum(last, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray((sums[:, last] - sums[:, first]) / np.where(last > first, last - first, np.nan))


def features(seen: np.ndarray, sums: np.ndarray, now: np.ndarray, ahead: int, task: Task) -> np.ndarray:
    """f4[series, now, features] of the windows before each of `now`; NaN where unknown.

    In units of the last day's mean: the last LAGS windows, means of an hour, six hours, the target's hour a day, two
    days and a week before, and of all days before; the target's time of day; the metric.
    """
    day, hour = task.day, max(task.day // 24, 1)
    target = now + ahead - 1
    level = level_at(sums, now, day)
    columns = [np.where(now > k, seen[:, np.maximum(now - 1 - k, 0)], np.nan) for k in range(LAGS)]
    columns += [mean_of(sums, now - span, now) for span in (hour, 6 * hour)]
    reach = max(day // 48, 0)
    back = -(-ahead // day)  # whole days until the target's time of day is known
    for days in (back, back + 1, 7 * -(-back // 7)):
        at = target - days * day
        # of the hour around, only what has ended
        columns.append(np.where(at >= 0, mean_of(sums, at - reach, np.minimum(at + reach + 1, now)), np.nan))
    ratios = np.stack(columns, axis=2) / np.where(level > 0, level, np.inf)[:, :, None]
    angle = 2 * np.pi * (target % day) / day
    codes = task.series["metric"].rank("dense").to_numpy().astype(float)
    shared = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    size = np.log1p(level)
    return np.concatenate(
        [
            ratios,
            np.broadcast_to(shared, (len(seen), *shared.shape)),
            np.broadcast_to(codes[:, None, None], (len(seen), len(now), 1)),
            size[:, :, None],
        ],
        axis=2,
    ).astype(np.float32)

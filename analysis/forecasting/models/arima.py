"""ARIMA: coefficients fitted once a day, the recursion carried on with every window in between."""

import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from lmaas.analysis.forecasting.forecaster import Task

from .carried import refit_every

Order = tuple[int, int, int]
SHARE = 3  # of the history seen after which it is fitted again, where that is shorter than a day
WEEK = 7  # days of history a fit looks at
LEAST = 20  # windows, or twice what the order needs: below it the last value


@dataclass
class Process:
    """(1 - phi(B)) ((1 - B)^d y - mean) = (1 + theta(B)) e, and what is added to its forecasts."""

    order: Order
    phi: np.ndarray
    theta: np.ndarray
    mean: float
    season: np.ndarray  # f8[day], by the window's place in the day, 0 without one; mean 0


@dataclass
class Fits:
    """Memory between issues."""

    task: Task
    at: int = 0
    chosen_at: int = 0
    orders: dict[int, Order] = field(default_factory=dict)
    of: dict[int, Process] = field(default_factory=dict)


@dataclass(frozen=True)
class Arima:
    """AutoARIMA without seasonal terms, on the series without its mean day (four harmonics) where it has two days.

    A seasonal ARIMA of 144 windows takes minutes a series. The order is chosen anew whenever history has doubled, the
    coefficients daily.
    """

    order: Order | None = None
    harmonics: int = 4

    sparse: ClassVar[bool] = True  # it remembers no errors, and may be asked at any boundary

    def start(self, task: Task) -> Fits:
        """Nothing is fitted yet."""
        return Fits(task)

    def issue(self, seen: np.ndarray, state: Fits) -> np.ndarray:
        """See Forecaster."""
        n, task = seen.shape[1], state.task
        if not state.at or n - state.at >= refit_every(state.at, task.day, SHARE):
            if n >= 2 * state.chosen_at:
                state.orders.clear()
                state.chosen_at = n
            self._fit(seen, state)
            state.at = n
        value = np.tile(seen[:, -1], (len(task.aheads), 1))
        for s, process in state.of.items():
            value[:, s] = foretell(process, seen[s, -2 * task.day :], n, task.aheads)
        return np.asarray(np.maximum(value, 0.0))

    def _fit(self, seen: np.ndarray, state: Fits) -> None:
        task, n = state.task, seen.shape[1]
        for s, y in enumerate(seen):
            if not y.any():
                continue
            history = y[int((y != 0).argmax()) :][-WEEK * task.day :]
            if len(history) < LEAST or np.ptp(history) == 0:
                state.of.pop(s, None)  # what was fitted to other history is not carried on
                task.fell_back(f"had under {LEAST} windows or did not change; the last value until then", s)
                continue
            season = self._season(history, n - len(history), task.day)
            left = history - season[(np.arange(n - len(history), n)) % task.day]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of solvers that stop early: what they found is used
                process = self._process(left, season, state, s)
            if process is not None:
                state.of[s] = process
            elif s in state.of:
                task.fell_back("could not be fitted anew; the fit before it until it can", s)
            else:
                task.fell_back("could not be fitted; the last value until it can", s)

    def _season(self, history: np.ndarray, first: int, day: int) -> np.ndarray:
        k = np.arange(1, self.harmonics + 1)
        if len(history) < 2 * day or day < 2 * self.harmonics + 1 or not self.harmonics:
            return np.zeros(day)
        angle = 2 * np.pi * np.arange(day)[:, None] * k / day
        waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        rows = np.column_stack([waves[np.arange(first, first + len(history)) % day], np.ones(len(history))])
        fitted = np.linalg.lstsq(rows, history, rcond=None)[0]
        return np.asarray(waves @ fitted[:-1])

    def _process(self, left: np.ndarray, season: np.ndarray, state: Fits, s: int) -> Process | None:
        from statsforecast.models import ARIMA, AutoARIMA

        order = self.order or state.orders.get(s)
        try:
            if order is None:
                model = AutoARIMA(seasonal=False, approximation=True, allowdrift=False, max_p=3, max_q=3).fit(left)
                p, q, _, _, _, d, _ = model.model_["arma"]
                state.orders[s] = (int(p), int(d), int(q))
            else:
                model = ARIMA(order=order, method="CSS").fit(left)
        except Exception:  # what its solvers raise on degenerate series
            return None
        p, q, _, _, _, d, _ = (int(x) for x in model.model_["arma"])
        coefficient = {name: float(x) for name, x in model.model_["coef"].items()}
        phi = np.array([coefficient[f"ar{k + 1}"] for k in range(p)])
        theta = np.array([coefficient[f"ma{k + 1}"] for k in range(q)])
        if q and np.abs(np.roots(np.r_[1.0, theta])).max() >= 1:
            return None  # not invertible: the innovations would explode
        return Process((p, d, q), phi, theta, coefficient.get("intercept", 0.0), season)


@dataclass(frozen=True)
class Arima312(Arima):
    """ARIMA(3,1,2), SageServe's own, on the series as it is."""

    order: Order | None = (3, 1, 2)
    harmonics: int = 0


def foretell(process: Process, y: np.ndarray, n: int, aheads: tuple[int, ...]) -> np.ndarray:
    """f8[aheads] after y, the last windows before window n; innovations by the recursion, from zero on."""
    from scipy.signal import lfilter, lfiltic

    p, d, q = process.order
    day = len(process.season)
    y = y - process.season[np.arange(n - len(y), n) % day]
    steps = aheads[-1]
    w = (np.diff(y, d) if d else y) - process.mean
    ar, ma = np.r_[1.0, -process.phi], np.r_[1.0, process.theta]
    if len(w) < max(p, q, 1):
        return np.full(len(aheads), y[-1])
    e = lfilter(ar, ma, w)
    # after the last window innovations are 0: what follows is the filter's answer to what it remembers
    memory = lfiltic(ma, ar, w[::-1][:p], e[::-1][:q])
    path = lfilter(ma, ar, np.zeros(steps), zi=memory)[0] + process.mean
    for k in range(d):
        path = np.diff(y, d - 1 - k)[-1] + np.cumsum(path)
    at = np.array(aheads) - 1
    return np.asarray(path[at] + process.season[(n + at) % day])

"""Coefficients under which the replay of a log's first part says what was observed there."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .coefficients import Coefficients, Engine
from .judge import Latencies, observed, replayed
from .log import METRICS, Log
from .prior import prior

# relative errors beyond this count linearly: of TTFT more is chance, an arrival's place within an iteration
SCALES = {"ttft": 0.12, "tpot": 0.04, "e2e": 0.04}
TRUST = 100.0  # independent requests that a log is worth beside the prior: its errors are alike, not chance
MOST = 1.5  # of a logarithm, a step
ENOUGH = 2e-3  # of the cost: less is no progress
STEP = 0.05  # of a logarithm, for differences: the replay jumps where a request joins another iteration
GRID = np.linspace(0.025, 0.975, 39)  # quantiles that are fitted beside the requests one by one
LOST = 3.0  # logarithm of the error of a request that the replay rejects


@dataclass(frozen=True)
class Fitted:
    """Coefficients of an engine, their cost (mean robust relative error, squared), replays it took."""

    coefficients: Coefficients
    engine: Engine
    cost: float
    replays: int


class Objective:
    """Residuals of the fitted rows by metric: a request each, then the quantiles', which weigh as much together."""

    def __init__(self, log: Log, rows: np.ndarray) -> None:
        self.log, self.true = log, observed(log)
        self.rows = {metric: np.flatnonzero(rows & np.isfinite(self.true.of(metric))) for metric in METRICS}
        self.count = 0

    def residuals(self, coefficients: Coefficients, engine: Engine) -> np.ndarray:
        """Logarithms of replayed over observed."""
        self.count += 1
        return self.of(replayed(self.log, coefficients.profile(engine), engine.replicas, engine.router))

    def of(self, said: Latencies) -> np.ndarray:
        """The residuals of these latencies."""
        parts = []
        for metric, rows in self.rows.items():
            true, told = self.true.of(metric)[rows], said.of(metric)[rows]
            lost = ~np.isfinite(told)
            off = np.where(lost, LOST, np.log(np.where(lost, 1.0, np.maximum(told, 1e-9)) / np.maximum(true, 1e-9)))
            whole = np.where(lost, np.e**LOST * true, told)
            quantiles = np.log(np.quantile(whole, GRID) / np.quantile(true, GRID))
            parts += [off, quantiles]
        found: np.ndarray = np.concatenate(parts) * self.weights
        return found

    def cost(self, residuals: np.ndarray) -> float:
        """The mean over metrics and their two parts of the robust loss (soft L1), in squared SCALES."""
        z = (residuals / self.shares) ** 2
        return float((self.shares**2 * 2 * (np.sqrt(1 + z) - 1)).sum())

    def total(self, residuals: np.ndarray, x: np.ndarray) -> float:
        """The cost of the residuals, and of being unlike measured GPUs (`prior`)."""
        return self.cost(residuals) + float((prior().residuals(x) ** 2).sum()) / TRUST

    def robust(self, residuals: np.ndarray) -> np.ndarray:
        """What the loss makes of each residual's square, at most 1."""
        found: np.ndarray = 1 / np.sqrt(1 + (residuals / self.shares) ** 2)
        return found

    def jacobian(self, x: np.ndarray, engine: Engine) -> np.ndarray:
        """Slopes of the residuals by logarithm, from replays on both sides."""
        columns = []
        for k in range(len(x)):
            step = np.zeros(len(x))
            step[k] = STEP
            up, down = (self.residuals(Coefficients.of(x + sign * step), engine) for sign in (1, -1))
            columns.append((up - down) / (2 * STEP))
        return np.column_stack(columns)

    @cached_property
    def shares(self) -> np.ndarray:
        """Square roots of each residual's share in the mean."""
        sizes = [size for rows in self.rows.values() for size in (len(rows), len(GRID))]
        return np.concatenate([np.full(size, 1 / np.sqrt(size * len(sizes))) for size in sizes])

    @cached_property
    def weights(self) -> np.ndarray:
        """What each logarithm is multiplied by."""
        scale = [SCALES[m] for m, rows in self.rows.items() for _ in range(len(rows) + len(GRID))]
        found: np.ndarray = self.shares / np.array(scale)
        return found


def fit(objective: Objective, engine: Engine, begin: Coefficients, steps: int) -> Fitted:
    """The best of so many Levenberg-Marquardt steps from `begin`, on logarithms, reweighted for the robust loss."""
    before, known, scale = objective.count, prior(), TRUST**-0.5

    x, damping = begin.vector(), 1e-2
    r = objective.residuals(begin, engine)
    best = objective.total(r, x)
    lean = known.inverse * scale
    for _ in range(steps):
        jacobian = objective.jacobian(x, engine)
        robust = objective.robust(r)
        normal = jacobian.T @ (jacobian * robust[:, None]) + lean.T @ lean
        downhill = -(jacobian.T @ (robust * r) + lean.T @ (scale * known.residuals(x)))
        gained = False
        for _ in range(5):
            move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), downhill)
            tried = x + np.clip(move, -MOST, MOST)
            residuals = objective.residuals(Coefficients.of(tried), engine)
            now = objective.total(residuals, tried)
            if now < best:
                gained = best - now > ENOUGH * best
                x, r, best, damping = tried, residuals, now, damping / 5
                break
            damping *= 5
        if not gained:
            break
    return Fitted(Coefficients.of(x), engine, best, objective.count - before)

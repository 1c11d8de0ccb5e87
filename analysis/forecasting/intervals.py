"""Prediction intervals by rolling conformal calibration: from the errors of what was issued before and has come due."""

from collections import deque
from collections.abc import Sequence

import numpy as np

MEMORY_DAYS = 7
# own errors below which those of all series of the metric are used, each by its scale; times the windows ahead, since
# errors of forecasts so far ahead overlap
FEW = 40
STEP = 0.005  # by which a level follows its misses (adaptive conformal inference, Gibbs and Candes 2021)
SLOW = 24  # windows ahead above which it follows less, in proportion: what comes back late must move it less
# a level keeps this share of its distance to 0 or 1, whichever is nearer (90 % ends at 99 %): the last errors of all
# are outliers, and tell nothing of how often
KEPT = 0.1
SHAPE = 0.7  # errors grow with the forecast to this power: between Poisson's 0.5 and 1 of bursts that scale


class Intervals:
    """Quantiles around point forecasts, for every ahead and series.

    A quantile is the point plus the same quantile (finite-sample rank, (n + 1) q) of the scaled errors of the last
    MEMORY_DAYS days of forecasts so far ahead whose windows had ended at issue. Scale: level^(1 - SHAPE) *
    forecast^SHAPE, level the mean of the last day. Learned anew every hour. Where quantiles were too often above or
    below what came, the level that is looked up moves (STEP, SLOW, KEPT), so that coverage holds where errors drift.
    """

    def __init__(self, aheads: Sequence[int], metrics: Sequence[str], day: int, quantiles: Sequence[float]) -> None:
        self.aheads, self.day, self.quantiles = aheads, day, quantiles
        names = np.asarray(metrics)
        self.metrics = [np.flatnonzero(names == name) for name in dict.fromkeys(metrics)]
        self.levels = np.tile(np.array(quantiles)[:, None, None], (1, len(aheads), len(names)))
        self.due = [deque[np.ndarray](maxlen=ahead) for ahead in aheads]  # bands, until their window has ended
        self.first = 0  # windows ended at the first issue
        self.points: list[np.ndarray] = []  # f8[aheads, series], an issue each
        self.spread: np.ndarray | None = None  # f8[quantiles, aheads, series], in scales
        self.learned_at = 0

    def add(self, seen: np.ndarray, point: np.ndarray) -> np.ndarray:
        """f8[1 + quantiles, aheads, series] >= 0, `point` first, from seen, f8[series, ended windows].

        NaN where no error is known of any series of the metric.
        """
        if not self.quantiles:
            return point[None]
        n = seen.shape[1]
        if not self.points:
            self.first = n
        self._follow(seen[:, -1])
        if self.spread is None or n - self.learned_at >= max(self.day // 24, 1) or len(self.points) < self.day:
            self.spread = self._learn(seen)
            self.learned_at = n
        self.points.append(point)
        level = seen[:, -self.day :].mean(axis=1)
        band = np.maximum(point + self.spread * scale(point, level), 0.0)
        band.sort(axis=0)
        for a, due in enumerate(self.due):
            due.append(band[:, a])
        return np.concatenate([point[None], band])

    def _follow(self, last: np.ndarray) -> None:
        q = np.array(self.quantiles)[:, None]
        least, most = KEPT * q, 1.0 - KEPT * (1.0 - q)
        for a, due in enumerate(self.due):
            if len(due) == (due.maxlen or 1):
                step = STEP / max(1.0, self.aheads[a] / SLOW)
                missed = np.where(np.isfinite(due[0]), q - (last <= due[0]), 0.0)
                self.levels[:, a] = np.clip(self.levels[:, a] + step * missed, least, most)

    def _learn(self, seen: np.ndarray) -> np.ndarray:
        n, memory = seen.shape[1], MEMORY_DAYS * self.day
        spread = np.full((len(self.quantiles), len(self.aheads), len(seen)), np.nan)
        level = seen[:, -self.day :].mean(axis=1)
        for a, ahead in enumerate(self.aheads):
            last = n - ahead + 1 - self.first  # issues of which the window has ended
            begin = max(last - memory, 0)
            if last <= begin:
                continue
            told = np.stack([p[a] for p in self.points[begin:last]], axis=1)
            came = seen[:, begin + self.first + ahead - 1 : n]
            error = (came - told) / scale(told, level[:, None])
            error[~np.isfinite(error)] = np.nan
            for of in self.metrics:
                spread[:, a, of] = spread_of(error[of], self.levels[:, a, of], FEW * ahead)
        return spread


def spread_of(errors: np.ndarray, levels: np.ndarray, few: int) -> np.ndarray:
    """f8[levels, series]: `ranked` of each series' errors, f8[series, issues] with NaN for none, of all if `few`."""
    known = np.isfinite(errors)
    counts = known.sum(axis=1)
    enough = counts >= few
    spread = np.empty(levels.shape)
    if enough.any():
        own = np.sort(errors[enough], axis=1)  # NaN last
        at = _ranks(counts[enough], levels[:, enough])
        spread[:, enough] = np.take_along_axis(own, at.T, axis=1).T
    if not enough.all():
        everyone = np.sort(errors[known])
        at = _ranks(np.array(len(everyone)), levels[:, ~enough])
        spread[:, ~enough] = everyone[at] if len(everyone) else np.nan
    return spread


def scale(point: np.ndarray, level: np.ndarray) -> np.ndarray:
    """What an error is measured in."""
    least = np.maximum(level, 1e-9)
    return np.asarray(least ** (1 - SHAPE) * np.maximum(point, 0.05 * least) ** SHAPE)


def ranked(errors: np.ndarray, quantiles: Sequence[float] | np.ndarray) -> np.ndarray:
    """Conformal quantiles of sorted errors: rank ceil((n + 1) q) above the median, floor below; NaN of none."""
    n = len(errors)
    if not n:
        return np.full(len(quantiles), np.nan)
    return np.asarray(errors[_ranks(np.array(n), np.asarray(quantiles))])


def _ranks(n: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Indices of the conformal quantiles among n sorted errors; n broadcasts against the levels."""
    above, below = np.ceil((n + 1) * levels - 1e-9), np.floor((n + 1) * levels + 1e-9)
    rank = np.where(levels >= 0.5, above, below).astype(np.int64)
    return np.asarray(np.minimum(np.maximum(rank - 1, 0), np.maximum(n - 1, 0)))

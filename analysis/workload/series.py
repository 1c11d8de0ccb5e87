"""A regular series of the load: whole windows in time order, empty ones included, and what its rhythm leaves."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.windows import DAY_S

from .scales import SCALES_S, WEEK_S, whole

F8 = npt.NDArray[np.float64]

MIN_WINDOWS = 30  # fewer tell nothing of time
SUMS = ("requests", "input_tokens", "output_tokens")
MIN_DAYS = 3  # of which the median is robust to one odd day
MIN_WEEKS_OF_WEEKENDS = 2


@dataclass(frozen=True, eq=False)
class Series:
    """Window i covers [(first + i) * step_s, (first + i + 1) * step_s) seconds since the trace's epoch."""

    step_s: float
    first: int
    requests: F8
    input_tokens: F8
    output_tokens: F8

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def start_s(self) -> F8:
        """Where each window begins."""
        return np.asarray((self.first + np.arange(len(self))) * self.step_s)

    def per_request(self, metric: str) -> F8:
        """Mean tokens of the requests of each window; NaN where it has none."""
        tokens: F8 = getattr(self, metric)
        return np.asarray(np.divide(tokens, self.requests, out=np.full(len(self), np.nan), where=self.requests > 0))


def regular(
    finest: pl.DataFrame,
    base_s: float,
    first_s: float,
    last_s: float,
    *,
    most: int,
    requests: float = 0.0,
    least_s: float = 0.0,
) -> Series | None:
    """The finest series of at most `most` windows, not finer than `least_s`, with `requests` per window on average.

    `finest`: window (of `base_s`), requests, input_tokens, output_tokens; empty windows absent. None where no scale
    gives MIN_WINDOWS.
    """
    total = float(finest["requests"].sum()) if len(finest) else 0.0
    for step_s in sorted({*SCALES_S, base_s} - {DAY_S}):
        a, b = whole(step_s, first_s, last_s)
        if step_s >= max(base_s, least_s) and MIN_WINDOWS <= b - a <= most and total >= requests * (b - a):
            return _aggregated(finest, base_s, step_s, a, b)
    return None


def _aggregated(finest: pl.DataFrame, base_s: float, step_s: float, a: int, b: int) -> Series:
    # half a base window in, so that a product that rounds down does not fall into the window before
    at = np.floor((finest["window"].to_numpy() + 0.5) * base_s / step_s).astype(np.int64) - a
    inside = (at >= 0) & (at < b - a)
    sums = (np.bincount(at[inside], finest[c].to_numpy()[inside], minlength=b - a).astype(np.float64) for c in SUMS)
    return Series(step_s, a, *sums)


def rhythm(y: F8, step_s: float, start_s: float, clock_s: float | None) -> tuple[F8, str]:
    """What repeats in y (logarithms) by the hour of the day and on weekends, and in words what that is.

    Medians over days, so that one odd day or one change of level leaves no ghost in the others: a day's shape needs
    MIN_DAYS whole days, the level of weekends a known clock and two weeks. `clock_s`: seconds from a Monday midnight
    to arrival_s = 0.
    """
    pattern, said = np.zeros(len(y)), ""
    day = round(DAY_S / step_s)
    days = len(y) // day
    if days < MIN_DAYS or abs(day * step_s - DAY_S) > 1e-6 or day < 2:
        return pattern, said
    by_day = y[: days * day].reshape(days, day)
    shape = np.median(by_day - by_day.mean(axis=1, keepdims=True), axis=0)
    shape = _smooth_circular(shape, round(3600 / step_s))
    pattern += np.resize(shape - shape.mean(), len(y))
    said = "the hour of the day"
    if clock_s is not None and len(y) * step_s >= MIN_WEEKS_OF_WEEKENDS * WEEK_S:
        since_monday = (start_s + clock_s + (np.arange(len(y)) + 0.5) * step_s) % WEEK_S
        weekend = since_monday >= 5 * DAY_S
        rest = y - pattern
        pattern += np.where(weekend, np.median(rest[weekend]) - np.median(rest[~weekend]), 0.0)
        said = "the hour of the day and weekends"
    return pattern, said


def _smooth_circular(shape: F8, width: int) -> F8:
    """A moving mean of `width` phases around: few days tell a phase of minutes only with its neighbours."""
    if width < 2:
        return shape
    half = width // 2
    around = np.concatenate([shape[-half:], shape, shape[:half]])
    return np.convolve(around, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")


def log_rate(series: Series) -> F8:
    """Logarithm of requests per window; half a request more, so that an empty window has one."""
    return np.asarray(np.log(series.requests + 0.5))


def log_length(series: Series, metric: str, most_empty: float = 0.2) -> F8 | None:
    """Logarithm of the mean length per window, windows without one filled between their neighbours.

    None where more than `most_empty` of the windows have none.
    """
    mean = series.per_request(metric)
    known = np.flatnonzero(mean > 0)
    if len(known) < (1 - most_empty) * len(mean):
        return None
    return np.interp(np.arange(len(mean)), known, np.log(mean[known]))


def robust_variance(y: F8, block: int) -> float:
    """Long-run variance per window: that of means of `block` windows, from what neighbours differ by (MAD).

    A change of level touches one difference only, so it does not hide itself.
    """
    blocks = y[: len(y) // block * block].reshape(-1, block).mean(axis=1)
    step = np.diff(blocks)
    spread = 1.4826 * float(np.median(np.abs(step - np.median(step))))
    return block * spread**2 / 2

"""How long the load remembers: autocorrelation at times people plan by, and long-range dependence."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import digamma, zeta
from scipy.stats import chi2

from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.windows import DAY_S

from .scales import WEEK_S
from .series import Series, log_rate, regular, rhythm
from .words import duration

F8 = npt.NDArray[np.float64]

MAX_WINDOWS = 20_000  # of the autocorrelation
MAX_FINE = 4_000_000  # of the wavelets: a second for six weeks
MIN_REQUESTS = 1.0  # per window on average: single arrivals are no Gaussian noise, as the error takes them to be
MIN_COEFFICIENTS = 8  # of an octave
MIN_OCTAVES = 4
FIRST_OCTAVE = 3  # below it even exact fractional noise bends (it is sampled, not continuous): 0.01 to 0.02 too high
ACCEPTED = 0.05  # probability that the misfit of a straight line is chance
LONG_MEMORY = 0.6
LONGEST_S = DAY_S / 8  # of the scales: longer ones hold what is left of the day's rhythm
MAX_ERROR = 0.15  # standard error beyond which nothing is said
# Daubechies' orthogonal wavelet with three vanishing moments: blind to level, linear and quadratic trends
DB3 = np.array(
    [
        0.3326705529500826,
        0.8068915093110925,
        0.4598775021184915,
        -0.1350110200102546,
        -0.0854412738820267,
        0.0352262918857095,
    ]
)

COLUMNS: dict[str, dict[str, str]] = {
    "autocorrelation": {
        "lag": "1 window, 1 hour, 1 day or 1 week",
        "lag_s": "the same in seconds",
        "window_s": "length of the windows whose requests are compared",
        "pairs": "pairs of windows so far apart; at least as many as the lag is long",
        "autocorrelation": "correlation of requests per window with those a lag later",
        "noise": "1.96 / sqrt(windows): independent windows stay within it in 19 of 20 traces",
    },
    "long_memory": {
        "hurst": "Hurst exponent of the rate by wavelets, Poisson noise taken off where there is more: 0.5 "
        "without long memory, towards 1 with; from "
        "1 on the load has no steady level, and the number is only the steepness",
        "low": "95 % interval of it; likewise high. Widened where the variances do not lie on a line",
        "high": "",
        "from_s": "shortest scale it rests on: below it the variances bend (independent arrivals)",
        "to_s": "longest scale it rests on",
        "straight": "whether the variances lie on a line over these scales; if not, the number is a summary",
        "rhythm_removed": "what was taken out before; empty where the trace is too short for it",
    },
}


def autocorrelations(
    finest: pl.DataFrame, base_s: float, first_s: float, last_s: float, window_s: float
) -> pl.DataFrame | None:
    """Table `autocorrelation` on windows of about `window_s`; None where there are too few, or all are the same."""
    series = regular(finest, base_s, first_s, last_s, most=MAX_WINDOWS, least_s=window_s)
    if series is None or np.ptp(series.requests) == 0:
        return None
    n, rows = len(series), []
    for lag, lag_s in (("1 window", series.step_s), ("1 hour", 3600.0), ("1 day", DAY_S), ("1 week", WEEK_S)):
        k = round(lag_s / series.step_s)
        if k >= 1 and abs(k * series.step_s - lag_s) < 1e-6 and n >= 2 * k and (k > 1 or lag == "1 window"):
            rows.append(
                {
                    "lag": lag,
                    "lag_s": lag_s,
                    "window_s": series.step_s,
                    "pairs": n - k,
                    "autocorrelation": autocorrelation(series.requests, k),
                    "noise": 1.96 / float(np.sqrt(n)),
                }
            )
    return pl.DataFrame(rows)


def autocorrelation(y: F8, lag: int) -> float:
    """Of the mean products of deviations from the mean: pairs a lag apart over all; each sum by its own count."""
    d = y - y.mean()
    return float((d[lag:] * d[:-lag]).mean() / (d**2).mean())


def long_memory(
    finest: pl.DataFrame, base_s: float, first_s: float, last_s: float, clock_s: float | None
) -> pl.DataFrame | None:
    """Table `long_memory` (one row); None where the trace has too few scales."""
    series = regular(finest, base_s, first_s, last_s, most=MAX_FINE, requests=MIN_REQUESTS)
    if series is None or np.ptp(series.requests) == 0:
        return None
    flat, removed = without_rhythm(series, finest, base_s, first_s, last_s, clock_s)
    longest = LONGEST_S / series.step_s
    found = hurst(flat, longest, float(flat.mean()))
    if found is None or found.error > MAX_ERROR:
        found = hurst(flat, longest)
    if found is None or found.error > MAX_ERROR:
        return None
    return pl.DataFrame(
        {
            "hurst": [found.hurst],
            "low": [found.hurst - 1.96 * found.error],
            "high": [found.hurst + 1.96 * found.error],
            "from_s": [series.step_s * 2.0**found.first],
            "to_s": [series.step_s * 2.0**found.last],
            "straight": [found.straight],
            "rhythm_removed": [removed],
        }
    )


def without_rhythm(
    series: Series, finest: pl.DataFrame, base_s: float, first_s: float, last_s: float, clock_s: float | None
) -> tuple[F8, str]:
    """Requests per window over the rhythm of their hour, and what was removed."""
    hours = regular(finest, base_s, first_s, last_s, most=MAX_WINDOWS, least_s=3600.0)
    if hours is None:
        return series.requests, ""
    pattern, removed = rhythm(log_rate(hours), hours.step_s, hours.first * hours.step_s, clock_s)
    if not removed:
        return series.requests, ""
    middle = (np.arange(len(hours)) + hours.first + 0.5) * hours.step_s
    # between the hours' middles in a straight line: steps would be a rhythm of their own
    return series.requests / np.exp(np.interp(series.start_s + series.step_s / 2, middle, pattern)), removed


@dataclass(frozen=True)
class Scaling:
    """An estimate over the octaves first..last: scales of 2**octave windows."""

    hurst: float
    error: float  # standard error
    first: int
    last: int
    straight: bool


def hurst(y: F8, longest: float = np.inf, noise: float = 0.0) -> Scaling | None:
    """Hurst exponent of a stationary series (increments, not their sum) by Abry and Veitch's weighted regression.

    The variance of the wavelet coefficients at octave j grows as 2^(j (2 H - 1)). The first octave is the smallest
    from which on a line fits, so that the independence of single arrivals does not count; all where none does.
    Octaves up to `longest` windows. `noise`: variance of the counts if the rate were known (their mean, where
    requests come one by one); it is the same at every octave and taken off, or it would hide the rate's memory, and
    octaves that hold little else are left out. None below MIN_OCTAVES.
    """
    power, n = energies(y)
    octave = np.arange(1.0, len(n) + 1)
    use = (n >= MIN_COEFFICIENTS) & (power > max(0.0, 2 * noise)) & (octave >= FIRST_OCTAVE) & (2**octave <= longest)
    power, n, octave = power[use], n[use], octave[use]
    if len(octave) < MIN_OCTAVES or (np.diff(octave) > 1).any():
        return None
    # mean and variance of log2 of a mean of n squared Gaussians
    level = np.log2(power - noise) - (digamma(n / 2) / np.log(2) - np.log2(n / 2))
    variance = zeta(2, n / 2) / np.log(2) ** 2 * (power / (power - noise)) ** 2
    tried = [_line(octave[k:], level[k:], variance[k:]) for k in range(len(octave) - MIN_OCTAVES + 1)]
    return next((t for t in tried if t.straight), tried[0])


def energies(y: F8) -> tuple[F8, F8]:
    """Mean square and number of the wavelet coefficients of each octave that the series' ends do not touch."""
    high = DB3[::-1] * np.array([1, -1, 1, -1, 1, -1])
    approximation, power, n = np.asarray(y, dtype=np.float64), [], []
    while len(approximation) >= len(DB3) + 2 * MIN_COEFFICIENTS:
        detail = np.convolve(approximation, high, mode="valid")[::2]
        approximation = np.convolve(approximation, DB3, mode="valid")[::2]
        power.append(float((detail**2).mean()))
        n.append(float(len(detail)))
    return np.array(power), np.array(n)


def _line(octave: F8, level: F8, variance: F8) -> Scaling:
    """The line through the levels, weighted by their known variances."""
    w = 1 / variance
    at = (w * octave).sum() / w.sum()
    spread = (w * (octave - at) ** 2).sum()
    slope = float((w * (octave - at) * level).sum() / spread)
    misfit = float((w * (level - (w * level).sum() / w.sum() - slope * (octave - at)) ** 2).sum())
    freedom = len(octave) - 2
    error = float(np.sqrt(max(1.0, misfit / freedom) / spread))
    straight = bool(chi2.sf(misfit, freedom) >= ACCEPTED)
    return Scaling((slope + 1) / 2, error / 2, int(octave[0]), int(octave[-1]), straight)


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """Whether the load has a long memory."""
    if "long_memory" in tables:
        m = tables["long_memory"].row(0, named=True)
        if m["low"] > LONG_MEMORY:
            over = f"from {duration(m['from_s'])} to {duration(m['to_s'])}"
            if m["hurst"] >= 1:
                yield (
                    f"The load wanders {over} and keeps no level: its variance grows with the scale faster than any "
                    f"steady load's (wavelet estimate of the Hurst exponent {m['hurst']:.2f}, where 1 is the limit)."
                )
                return
            high = f"to {m['high']:.2f}" if m["high"] < 1 else "and beyond 1"
            said = f"{over} (Hurst exponent {m['hurst']:.2f}, 95 % interval {m['low']:.2f} {high})"
            yield (
                f"The load has a long memory {said}: longer windows smooth it less than they would independent "
                "arrivals. Shifts of level look the same."
            )

"""Bursts: windows with far more requests than their surroundings, and more than chance would give."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import poisson

from lmaas.analysis.trace import TraceMeta

from .series import Series, regular
from .words import duration

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

MIN_REQUESTS = 10.0  # per window on average: below it, twice as many is nothing unusual
MAX_WINDOWS = 200_000
BASELINE_S = 3600.0
FACTOR = 2.0
CHANCE = 0.01  # of one false window in a trace of Poisson arrivals
LISTED = 10
WORTH = 0.002  # of the requests; less is not worth a sentence

COLUMNS: dict[str, dict[str, str]] = {
    "burstiness": {
        "window_s": "length of the windows looked at: the shortest with at least 10 requests on average",
        "windows": "whole windows",
        "baseline_s": "span of the running median that is the expected level, at least 1 request a window; what lasts "
        "longer than half of it is a level, no burst",
        "factor": "a window bursts if it has this many times the expected requests and more than one window of a "
        "hundred traces with Poisson arrivals would have; windows one apart are one burst",
        "bursts": "how many were found",
        "time_share": "share of the windows that are in one",
        "request_share": "share of the requests that arrive in one",
        "excess_share": "share of the requests that are beyond the expected level in one",
    },
    "bursts": {
        "start_s": "start of the burst, seconds since the trace's epoch; the 10 with the most excess requests",
        "length_s": "its length",
        "requests": "arrivals in it",
        "expected": "arrivals at the expected level",
        "excess": "requests - expected",
        "peak_rps": "requests/s of its busiest window",
        "peak_to_expected": "peak_rps / expected rate of that window",
    },
}


def bursts(finest: pl.DataFrame, base_s: float, first_s: float, last_s: float) -> dict[str, pl.DataFrame]:
    """Tables `burstiness` (one row) and `bursts`; none where the trace has too few requests or windows."""
    series = regular(finest, base_s, first_s, last_s, most=MAX_WINDOWS, requests=MIN_REQUESTS)
    if series is None:
        return {}
    expected, span = baseline(series.requests, series.step_s)
    runs = episodes(series.requests, expected)
    rows = [_row(series, expected, int(a), int(b)) for a, b in runs]
    found = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS["bursts"], pl.Float64))
    total = series.requests.sum()
    summary = {
        "window_s": series.step_s,
        "windows": len(series),
        "baseline_s": span * series.step_s,
        "factor": FACTOR,
        "bursts": len(runs),
        "time_share": float((runs[:, 1] - runs[:, 0]).sum()) / len(series),
        "request_share": found["requests"].sum() / total,
        "excess_share": found["excess"].sum() / total,
    }
    listed = found.sort("excess", "start_s", descending=[True, False]).head(LISTED).sort("start_s")
    return {"burstiness": pl.DataFrame([summary]), "bursts": listed}


def baseline(counts: F8, step_s: float) -> tuple[F8, int]:
    """The running median around each window, at least 1, and over how many windows it runs: an odd number.

    An hour, or a quarter of a shorter series; at most 1001 windows. At the ends it takes in what there is.
    """
    width = int(min(BASELINE_S / step_s, len(counts) / 4, 1001)) // 2 * 2 + 1
    running = pl.Series(counts).rolling_median(width, min_samples=width // 2 + 1, center=True)
    return np.maximum(running.to_numpy(), 1.0), width


def episodes(counts: F8, expected: F8) -> I8:
    """[first, after last) of every run of bursting windows; a single window between two bursting ones joins them."""
    limit = np.maximum(FACTOR * expected, poisson.isf(CHANCE / len(counts), expected))
    high = counts > limit
    high[1:-1] |= high[:-2] & high[2:]
    edge = np.diff(np.concatenate([[False], high, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)], axis=1)


def _row(series: Series, expected: F8, a: int, b: int) -> dict[str, float]:
    requests, level = series.requests[a:b], expected[a:b]
    peak = int(requests.argmax())
    return {
        "start_s": (series.first + a) * series.step_s,
        "length_s": (b - a) * series.step_s,
        "requests": requests.sum(),
        "expected": level.sum(),
        "excess": requests.sum() - level.sum(),
        "peak_rps": requests[peak] / series.step_s,
        "peak_to_expected": requests[peak] / level[peak],
    }


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """How much arrives in bursts."""
    if "burstiness" not in tables:
        return
    b = tables["burstiness"].row(0, named=True)
    if b["request_share"] >= WORTH:
        many = "1 burst" if b["bursts"] == 1 else f"{b['bursts']:,} bursts"
        yield (
            f"{many} ({duration(b['window_s'])} windows with at least {b['factor']:g} times the local median): "
            f"{b['request_share']:.1%} of the requests arrive in {b['time_share']:.1%} of the time."
        )

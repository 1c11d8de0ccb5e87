"""What does not stay: changes of level and slow drift of the rate and of mean lengths, the rhythm taken out."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.windows import DAY_S

from .series import Series, log_length, log_rate, regular, rhythm, robust_variance
from .words import moment

F8 = npt.NDArray[np.float64]

MAX_WINDOWS = 3_000  # the search is quadratic: 0.1 s
MIN_REQUESTS = 20.0  # per window on average: the logarithm of fewer is skewed
PENALTY = 3.0  # times log(windows) times the long-run variance of a window: a change must gain that much
SHORTEST = 0.02  # of the trace: a shorter spell is a burst, not a level
SMALLEST = 0.1  # change of level
NOISE = 1e-3  # of a level: below it windows count as equal
OUTLYING = 3.0
CRITICAL = 3.3  # 95 % of 20,000 slopes of independent noise lie within so many of `slope_interval`'s standard errors
METRICS = {"requests": "rate", "input_tokens": "input_per_request", "output_tokens": "output_per_request"}

COLUMNS: dict[str, dict[str, str]] = {
    "changes": {
        "metric": "rate (requests/s), input_per_request or output_per_request (mean tokens of a window's requests)",
        "at_s": "the level changes here: start of a window of window_s, seconds since the trace's epoch",
        "window_s": "length of the windows: the shortest with at least 20 requests on average and at most 3,000 in all",
        "before": "level since the change before: geometric mean over windows, the rhythm taken out",
        "after": "the same until the next change",
        "change": "after / before - 1, at least 10 %; a level lasts at least 2 % of the trace",
        "rhythm_removed": "what was taken out before; empty where the trace is too short for it",
    },
    "trends": {
        "metric": "as in changes",
        "over_s": "span of the whole windows",
        "change": "growth over that span by a straight line through the logarithms, the rhythm taken out",
        "change_low": "95 % interval, robust to autocorrelation (Newey-West over a quarter of the series)",
        "change_high": "",
        "per_day": "growth per day; null where the trace is shorter than a day",
        "per_day_low": "",
        "per_day_high": "",
        "clear": "whether the interval leaves out no change",
        "rhythm_removed": "as in changes",
    },
}


def changes(
    finest: pl.DataFrame, base_s: float, first_s: float, last_s: float, clock_s: float | None
) -> dict[str, pl.DataFrame]:
    """Tables `changes` (may be empty) and `trends`; none where the trace has too few requests or windows."""
    series = regular(finest, base_s, first_s, last_s, most=MAX_WINDOWS, requests=MIN_REQUESTS)
    if series is None:
        return {}
    found, trends = [], []
    for column, name in METRICS.items():
        y = log_rate(series) if column == "requests" else log_length(series, column)
        if y is None:
            continue
        pattern, removed = rhythm(y, series.step_s, series.first * series.step_s, clock_s)
        unit = 1 / series.step_s if column == "requests" else 1.0
        for row in _changes(series, y - pattern, unit):
            found.append({"metric": name} | row | {"rhythm_removed": removed})
        trends.append({"metric": name} | _trend(series, y - pattern) | {"rhythm_removed": removed})
    texts = ("metric", "rhythm_removed")
    schemas = {
        t: {c: pl.String if c in texts else pl.Boolean if c == "clear" else pl.Float64 for c in COLUMNS[t]}
        for t in COLUMNS
    }
    return {
        "changes": pl.DataFrame(found, schema=schemas["changes"]),
        "trends": pl.DataFrame(trends, schema=schemas["trends"]),
    }


def _changes(series: Series, flat: F8, unit: float) -> list[dict[str, float]]:
    ends = [0, *change_points(flat), len(flat)]
    rows = []
    for a, at, b in zip(ends, ends[1:], ends[2:], strict=False):
        rows.append(
            {
                "at_s": (series.first + at) * series.step_s,
                "window_s": series.step_s,
                "before": float(np.exp(flat[a:at].mean())) * unit,
                "after": float(np.exp(flat[at:b].mean())) * unit,
                "change": float(np.exp(flat[at:b].mean() - flat[a:at].mean())) - 1,
            }
        )
    return rows


def change_points(y: F8) -> list[int]:
    """Where the level of y (logarithms) changes: PELT on squared distances, then changes below SMALLEST taken back.

    Bursts shorter than half the shortest level are drawn in before. The penalty is in units of the long-run variance,
    so that slow wandering is not cut into levels.
    """
    import ruptures  # 0.2 s

    shortest = max(5, int(SHORTEST * len(y)))
    y = without_bursts(y, shortest)
    block = max(1, round(len(y) ** (1 / 3)))
    variance = max(robust_variance(y, block), robust_variance(y, 1), NOISE**2)
    search = ruptures.KernelCPD(kernel="linear", min_size=shortest).fit((y - y.mean()).reshape(-1, 1))
    ends = [0, *search.predict(pen=PENALTY * variance * np.log(len(y)))]
    while len(ends) > 2:
        levels = np.array([y[a:b].mean() for a, b in pairwise(ends)])
        steps = np.abs(np.diff(levels))
        least = int(steps.argmin())
        if steps[least] >= np.log1p(SMALLEST):
            break
        del ends[least + 1]
    return ends[1:-1]


def without_bursts(y: F8, width: int) -> F8:
    """y with what is far from the running median drawn in to OUTLYING robust standard deviations of it.

    A few windows of twelve times the rate are a burst; as they are they would pass for a level.
    """
    middle = pl.Series(y).rolling_median(width // 2 * 2 + 1, min_samples=1, center=True).to_numpy()
    rest = y - middle
    reach = OUTLYING * 1.4826 * float(np.median(np.abs(rest)))
    return np.asarray(middle + np.clip(rest, -reach, reach))


def _trend(series: Series, flat: F8) -> dict[str, float | bool | None]:
    n = len(flat)
    slope, half = slope_interval(flat)
    low, high = slope - half, slope + half
    day = DAY_S / series.step_s if n * series.step_s >= DAY_S else None
    over = {name: _growth(s * n) for name, s in (("change", slope), ("change_low", low), ("change_high", high))}
    daily = {
        name: _growth(s * day) if day else None
        for name, s in (("per_day", slope), ("per_day_low", low), ("per_day_high", high))
    }
    return {"over_s": n * series.step_s, **over, **daily, "clear": abs(slope) * n > NOISE and (low > 0 or high < 0)}


def _growth(log: float) -> float:
    return float(np.expm1(np.clip(log, -50.0, 50.0)))


def slope_interval(y: F8) -> tuple[float, float]:
    """Slope of y per step by least squares, and half its 95 % interval.

    Newey and West's variance with Bartlett weights over a quarter of the series: so wide that autocorrelation does
    not pass for certainty, and judged by the critical value that such a variance asks for (fixed-b asymptotics).
    """
    n = len(y)
    x = np.arange(n) - (n - 1) / 2
    squares = float((x**2).sum())
    slope = float((x * y).sum()) / squares
    score = x * (y - y.mean() - slope * x)
    reach = max(1, n // 4)
    lagged = np.array([score[k:] @ score[: n - k] for k in range(reach + 1)])
    long_run = float(lagged[0] + 2 * ((1 - np.arange(1, reach + 1) / reach) * lagged[1:]).sum())
    return slope, CRITICAL * float(np.sqrt(max(long_run, 0.0))) / squares


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """The largest change of level of each metric; drift that is clear where the level does not jump."""
    names = {
        "rate": "The request rate",
        "input_per_request": "The mean prompt length",
        "output_per_request": "The mean answer length",
    }
    jumps = _largest(tables["changes"]) if "changes" in tables else {}
    for metric, (change, at_s, many) in jumps.items():
        times = "" if many == 1 else f", the largest of {many} such changes"
        yield f"{names[metric]} changes by {change:+.0%} {moment(at_s, meta)}{times}."
    if "trends" in tables:
        for r in tables["trends"].filter(pl.col("clear"), pl.col("change").abs() >= SMALLEST).iter_rows(named=True):
            if r["metric"] not in jumps:
                yield (
                    f"{names[r['metric']]} drifts by {r['change']:+.0%} over the trace (95 % interval "
                    f"{r['change_low']:+.0%} to {r['change_high']:+.0%})."
                )


def _largest(found: pl.DataFrame) -> dict[str, tuple[float, float, int]]:
    """The largest change of each metric, where it is and how many there are."""
    largest = pl.col("change").log1p().abs().arg_max()
    rows = found.group_by("metric", maintain_order=True).agg(
        pl.col("change").get(largest), pl.col("at_s").get(largest), n=pl.len()
    )
    return {metric: (change, at_s, n) for metric, change, at_s, n in rows.iter_rows()}

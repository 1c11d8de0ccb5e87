"""Rhythm by the calendar: how strong trend and seasons are, weekdays against weekends, the hours of the week."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.windows import DAY_S

from .scales import EDGE
from .series import Series, log_rate, regular

F8 = npt.NDArray[np.float64]

HOURS = {"day": 24, "week": 168}
MAX_HOURS = 4 * 168  # the last four weeks: LOESS over a year of hours takes seconds
MIN_CYCLES = {"day": 3, "week": 2}
SHUFFLES = 9
MAX_WINDOWS = 200_000
CALENDAR_S = 600.0  # windows put on the clock whole: at most so far from where an hour begins
DIFFERENT = 0.1

COLUMNS: dict[str, dict[str, str]] = {
    "season_strength": {
        "component": "trend, day or week",
        "strength": "1 - var(rest) / var(rest + component), at least 0, of an MSTL decomposition of the logarithm of "
        "requests per hour (Wang, Smith and Hyndman 2006)",
        "by_chance": "the same of the hours in random order, mean of 9: what noise alone gives with so few periods",
        "cycles": "whole periods in the hours used: the last four weeks; null for the trend",
    },
    "weekdays": {
        "kind": "weekday or weekend (Saturday, Sunday), UTC",
        "days": "whole days in the trace",
        "mean_rps": "requests/s",
        "rate_low": "lowest day's requests/s; likewise rate_high",
        "rate_high": "",
        "input_per_request": "mean input tokens of a request; likewise output",
        "output_per_request": "",
        "busiest_hour": "UTC hour of the day with most requests",
    },
    "hour_of_week": {
        "day": "0 is Monday, UTC",
        "hour": "0 to 23, UTC",
        "mean_rps": "requests/s in this hour of the week, over whole windows",
        "hours": "hours of the trace that fall into it; a part counts as that part",
    },
}


def season_strength(finest: pl.DataFrame, base_s: float, first_s: float, last_s: float) -> pl.DataFrame | None:
    """Table `season_strength`; None below three days, or where hours are finer than the clock."""
    series = regular(finest, base_s, first_s, last_s, most=MAX_WINDOWS, least_s=3600.0)
    if series is None or series.step_s != 3600.0:
        return None
    y = log_rate(series)[-MAX_HOURS:]
    periods = [name for name, hours in HOURS.items() if len(y) >= MIN_CYCLES[name] * hours]
    if not periods or np.ptp(y) == 0:
        return None
    found = strengths(y, periods)
    rng = np.random.default_rng(0)
    chance = [strengths(rng.permutation(y), periods) for _ in range(SHUFFLES)]
    return pl.DataFrame(
        [
            {
                "component": name,
                "strength": value,
                "by_chance": float(np.mean([c[name] for c in chance])),
                "cycles": len(y) // HOURS[name] if name in HOURS else None,
            }
            for name, value in found.items()
        ],
        schema={"component": pl.String, "strength": pl.Float64, "by_chance": pl.Float64, "cycles": pl.Int64},
    )


def strengths(y: F8, periods: list[str]) -> dict[str, float]:
    """Strength of the trend and of each period in y, one value an hour."""
    from statsforecast.mstl import mstl  # imports pandas and statsmodels: over a second

    lengths = [HOURS[p] for p in periods]
    # LOESS at every tenth point of its span and interpolated between, as STL's authors advise
    jumps = {"seasonal_jump": 2, "trend_jump": 5, "low_pass_jump": 5}
    parts = mstl(y, lengths if len(lengths) > 1 else lengths[0], stl_kwargs=jumps)
    seasons = ["seasonal"] if len(lengths) == 1 else [f"seasonal{n}" for n in lengths]
    rest = parts["remainder"].to_numpy()
    named = {"trend": "trend"} | dict(zip(periods, seasons, strict=True))
    return {name: _strength(rest, parts[column].to_numpy()) for name, column in named.items()}


def _strength(rest: F8, component: F8) -> float:
    whole = float(np.var(rest + component))
    return max(0.0, 1 - float(np.var(rest)) / whole) if whole > 0 else 0.0


def calendar(
    finest: pl.DataFrame, base_s: float, first_s: float, last_s: float, clock_s: float | None
) -> dict[str, pl.DataFrame]:
    """Tables `hour_of_week` and, where a whole day of both kinds exists, `weekdays`; none without a known clock.

    `clock_s`: seconds from a Monday midnight UTC to arrival_s = 0.
    """
    if clock_s is None or last_s - first_s < DAY_S * (1 - EDGE):
        return {}
    series = regular(finest, base_s, first_s, last_s, most=MAX_WINDOWS, least_s=60.0)
    if series is None or series.step_s > 3600.0:
        return {}
    # the middle of each window decides: half a window off at most where the epoch is no whole minute
    at = series.start_s + series.step_s / 2 + clock_s
    found = {"hour_of_week": _hours(series, at)}
    weekdays = _weekdays(series, at)
    if weekdays is not None:
        found["weekdays"] = weekdays
    return found


def _hours(series: Series, at: F8) -> pl.DataFrame:
    hour = (at // 3600 % 168).astype(np.int64)
    n = np.bincount(hour, minlength=168)
    requests = np.bincount(hour, series.requests, minlength=168)
    seen = np.flatnonzero(n)
    return pl.DataFrame(
        {
            "day": seen // 24,
            "hour": seen % 24,
            "mean_rps": requests[seen] / (n[seen] * series.step_s),
            "hours": n[seen] * series.step_s / 3600,
        }
    )


def _weekdays(series: Series, at: F8) -> pl.DataFrame | None:
    day = (at // DAY_S).astype(np.int64)
    low = int(day[0])
    n = np.bincount(day - low)
    whole = n * series.step_s >= DAY_S * (1 - EDGE)
    daily = [np.bincount(day - low, v) for v in (series.requests, series.input_tokens, series.output_tokens)]
    weekend = (np.arange(len(n)) + low) % 7 >= 5
    rows = []
    for kind, days in (("weekday", whole & ~weekend), ("weekend", whole & weekend)):
        if not days.any():
            return None
        requests, inputs, outputs = (v[days] for v in daily)
        inside = days[day - low]
        by_hour = np.bincount((at[inside] // 3600 % 24).astype(np.int64), series.requests[inside], minlength=24)
        rate = requests / (n[days] * series.step_s)
        some = requests.sum() > 0
        rows.append(
            {
                "kind": kind,
                "days": int(days.sum()),
                "mean_rps": float(rate.mean()),
                "rate_low": float(rate.min()),
                "rate_high": float(rate.max()),
                "input_per_request": inputs.sum() / requests.sum() if some else None,
                "output_per_request": outputs.sum() / requests.sum() if some else None,
                "busiest_hour": int(by_hour.argmax()) if some else None,
            }
        )
    return pl.DataFrame(rows)


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """Weekends against weekdays."""
    if "weekdays" in tables:
        rows = {r["kind"]: r for r in tables["weekdays"].iter_rows(named=True)}
        a, b = rows["weekday"], rows["weekend"]
        if a["mean_rps"] and abs(b["mean_rps"] / a["mean_rps"] - 1) >= DIFFERENT:
            few = "" if b["days"] > 1 else ", a single one"
            yield (
                f"Weekend days have {b['mean_rps'] / a['mean_rps']:.2g} times the requests of weekdays "
                f"({b['mean_rps']:.3g} against {a['mean_rps']:.3g} requests/s; {b['days']} weekend days{few}, "
                f"{a['days']} weekdays)."
            )

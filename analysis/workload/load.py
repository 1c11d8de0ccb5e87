"""Load over time: windows, peaks and dispersion at several scales, daily and weekly rhythm, pools."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.windows import DAY_S

from .scales import SCALES_S, WEEK_S, whole
from .tables import COLUMNS

if TYPE_CHECKING:
    from .given import Given

MAX_HOURS = 1_000_000  # over a century: a mistyped time, and no rhythm to look for
MIN_DISPERSION_WINDOWS = 10
PERIODS = {"day": (DAY_S, 24), "week": (WEEK_S, 7)}  # length, phases

F8 = npt.NDArray[np.float64]


def describe(given: "Given") -> dict[str, pl.DataFrame]:
    """The tables load, pools, scales and seasonality."""
    cube, hours, at = given.states["cube"], given.states["hours"], given.at
    sums = pl.col("requests", "input_tokens", "output_tokens").sum()
    return {
        "load": load(cube.group_by("window", "service").agg(sums), given.window_s, *at),
        "pools": pools(cube.group_by("window", "service", "region").agg(sums), given.window_s, *at),
        "scales": scales(given.states["finest"], given.summary.keys.base_s, *at),
        # phases of an hour mean nothing where timestamps are coarser
        "seasonality": seasonality(hours if given.meta.quantum_s <= 3600 else hours.clear(), *at, given.clock_s),
    }


def load(windows: pl.DataFrame, window_s: float, first_s: float, last_s: float) -> pl.DataFrame:
    """`counts` by service, with a row for every window and service; columns as in COLUMNS['load']."""
    low, high = int(first_s // window_s), int(last_s // window_s)
    a, b = whole(window_s, first_s, last_s)
    grid = pl.DataFrame({"window": pl.int_range(low, high + 1, eager=True)}).join(
        windows.select(pl.col("service").unique().sort()), how="cross"
    )
    return (
        grid.join(windows, on=["window", "service"], how="left")
        .with_columns(pl.col("requests", "input_tokens", "output_tokens").fill_null(0))
        .sort("window", "service")
        .select(
            start_s=pl.col("window") * window_s,
            length_s=pl.lit(window_s),
            whole=pl.col("window").is_between(a, b, closed="left"),
            service="service",
            requests="requests",
            input_tokens="input_tokens",
            output_tokens="output_tokens",
        )
    )


def scales(finest: pl.DataFrame, base_s: float, first_s: float, last_s: float) -> pl.DataFrame:
    """Peaks and dispersion at every scale from `base_s` up that has two whole windows; columns as in COLUMNS['scales'].

    `finest`: the `counts` at `base_s`.
    """
    rows = [
        _scale(finest, base_s, scale_s, *whole(scale_s, first_s, last_s)) for scale_s in SCALES_S if scale_s >= base_s
    ]
    schema = {c: pl.Int64 if c == "windows" else pl.Float64 for c in COLUMNS["scales"]}
    return pl.DataFrame([r for r in rows if r], schema=schema)


def _scale(finest: pl.DataFrame, base_s: float, scale_s: float, a: int, b: int) -> dict[str, float | None] | None:
    n = b - a
    if n < 2:
        return None
    coarse = (
        finest.group_by((pl.col("window") * base_s / scale_s).floor().cast(pl.Int64).alias("window"))
        .agg(pl.col("requests", "input_tokens", "output_tokens").sum())
        .filter(pl.col("window").is_between(a, b, closed="left"))
    )
    total, busy = int(coarse["requests"].sum()), len(coarse)
    if not total:
        return None
    # empty windows are not in the table: they add nothing to the sums and one each to n
    squares = int((coarse["requests"].cast(pl.Int128) ** 2).sum())
    variance = (n * squares - total**2) / (n * (n - 1))  # in integers up to here: no cancellation
    peaks = {c: _ratio(coarse[c].max(), coarse[c].sum() / n) for c in ("requests", "input_tokens", "output_tokens")}
    return {
        "window_s": scale_s,
        "windows": n,
        "mean_rps": total / n / scale_s,
        "peak_rps": _ratio(coarse["requests"].max(), scale_s),
        "peak_to_mean": peaks["requests"],
        "input_peak_to_mean": peaks["input_tokens"],
        "output_peak_to_mean": peaks["output_tokens"],
        "dispersion": variance / (total / n) if n >= MIN_DISPERSION_WINDOWS else None,
        "empty_share": 1 - busy / n,
    }


def _ratio(top: Any, bottom: Any) -> float | None:
    return float(top) / float(bottom) if bottom else None


def seasonality(hours: pl.DataFrame, first_s: float, last_s: float, clock_s: float) -> pl.DataFrame:
    """Daily and weekly rhythm of all, each service and each region; columns as in COLUMNS['seasonality'].

    `hours`: `counts` of 3600 s by service and region. `clock_s`: seconds from a Monday midnight UTC to arrival_s = 0,
    or 0 where the epoch is not known.
    """
    a, b = whole(3600.0, first_s, last_s)
    if b - a > MAX_HOURS:
        b = a
    rows = []
    for by, name, part in _series(hours):
        series = np.zeros(b - a)
        inside = part.filter(pl.col("window").is_between(a, b, closed="left"))
        np.add.at(series, inside["window"].to_numpy() - a, inside["requests"].to_numpy())
        for period in PERIODS:
            found = _rhythm(series, period, a * 3600.0 + clock_s)
            if found:
                rows.append({"by": by, "name": name, "period": period} | found)
    text = ("by", "name", "period")
    kinds = {c: pl.String if c in text else pl.Int64 if c == "cycles" else pl.Float64 for c in COLUMNS["seasonality"]}
    return pl.DataFrame(rows, schema=kinds)


def _series(hours: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    yield "all", "all", hours
    for by in ("service", "region"):
        groups = hours.partition_by(by, as_dict=True)
        if len(groups) > 1:  # one group would repeat `all`
            for (name,), part in sorted(groups.items()):
                yield by, str(name), part


def _rhythm(series: F8, period: str, start_s: float) -> dict[str, float | None] | None:
    period_s, phases = PERIODS[period]
    each = round(period_s / phases / 3600)
    cycles = len(series) // (phases * each)
    if cycles < 2 or not series.any():
        return None
    x = series[: cycles * phases * each].reshape(cycles, phases, each).sum(axis=2)
    mean = x.mean(axis=0)
    at = [(start_s + k * period_s / phases) % period_s for k in (int(mean.argmax()), int(mean.argmin()))]
    return {
        "cycles": cycles,
        "strength": strength(x),
        "peak_at_s": at[0],
        "trough_at_s": at[1],
        "peak_to_trough": _ratio(mean.max(), float(mean.min())),
    }


def strength(x: F8) -> float:
    """Share of the variance within cycles that the phase explains; x is (cycles, phases), both at least 2.

    Two-way analysis of variance: the level of each cycle is taken out first (trend, weekends), and both mean squares
    are divided by their degrees of freedom, so that noise alone gives about 0 however few the cycles.
    """
    cycles, phases = x.shape
    level = x - x.mean(axis=1, keepdims=True)
    rest = level - level.mean(axis=0, keepdims=True)
    within = (level**2).sum() / (cycles * (phases - 1))
    noise = (rest**2).sum() / ((cycles - 1) * (phases - 1))
    return float(np.clip(1 - noise / within, 0.0, 1.0)) if within > 0 else 0.0


def pools(windows: pl.DataFrame, window_s: float, first_s: float, last_s: float) -> pl.DataFrame:
    """Rate range of every service and region over whole windows, most tokens first; columns as in COLUMNS['pools'].

    `windows`: `counts` of `window_s` by service and region.
    """
    a, b = whole(window_s, first_s, last_s)
    inside, n = pl.col("window").is_between(a, b, closed="left"), b - a
    rate = pl.col("requests").filter(inside)
    mean = rate.sum() / (n * window_s) if n else pl.lit(None, pl.Float64)
    return (
        windows.group_by("service", "region")
        .agg(
            pl.col("requests", "input_tokens", "output_tokens").sum(),
            # fewer rows than windows: some window was empty
            min_rps=pl.when(inside.sum() < n).then(0.0).otherwise(rate.min() / window_s),
            mean_rps=mean,
            peak_rps=rate.max().fill_null(0) / window_s if n else pl.lit(None, pl.Float64),
        )
        .with_columns(peak_to_mean=pl.when(pl.col("mean_rps") > 0).then(pl.col("peak_rps") / pl.col("mean_rps")))
        .sort(
            pl.col("input_tokens") + pl.col("output_tokens"),
            "service",
            "region",
            descending=[True, False, False],
        )
        .select(COLUMNS["pools"].keys())
    )

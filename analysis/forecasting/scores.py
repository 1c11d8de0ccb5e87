"""How far off forecasts were."""

from collections.abc import Sequence

import polars as pl

INTERVALS = {"coverage_80": (0.1, 0.9), "coverage_95": (0.025, 0.975)}
QUANTILES = (0.025, 0.1, 0.9, 0.975)


def wape(forecasts: pl.DataFrame, actual: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Columns *by, wape: sum |forecast - actual| / sum actual over the windows of `actual` (from `demand`).

    Point forecasts only; a window without forecast counts as forecast 0, a window cut short by the end of the
    trace is left out, and wape is null where nothing arrived.
    """
    keys = ["start_s", "service", "origin", "metric"]
    point = forecasts.filter(pl.col("quantile").is_null()).select(*keys, forecast="value")
    # the last window is shorter where the trace ends within it
    whole = actual.filter(pl.col("length_s") >= pl.col("length_s").max() * (1 - 1e-9))
    error = (pl.col("forecast").fill_null(0.0) - pl.col("value")).abs().sum()
    total = pl.col("value").sum()
    score = pl.when(total > 0).then(error / total).alias("wape")
    joined = whole.join(point, on=keys, how="left")
    return joined.group_by(by).agg(score).sort(by) if by else joined.select(score)


def scored(windows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Columns *by and the scores, from `windows`: a row a window with actual, forecast and q0.025, q0.1, q0.9, q0.975.

    windows: how many. wape = sum |f - a| / sum a. mape = mean of |f - a| / a, a window without demand adding 0, as
    PreServe counts. rrmse = sqrt(mean (f - a)^2) / mean a. bias = sum (f - a) / sum a. pinball = mean over the four
    quantiles of their summed pinball losses / sum a, of windows that have them. coverage_80, coverage_95: share of
    windows in the central interval. Null where nothing arrived, or where there are no quantiles. A window without
    forecast counts as forecast 0 in all but coverage and pinball.
    """
    a, f = pl.col("actual"), pl.col("forecast").fill_null(0.0)
    total = a.sum()
    known = pl.when(total > 0)
    off = f - a
    losses = []
    for q in QUANTILES:
        missed = a - pl.col(f"q{q:g}")
        losses.append(pl.max_horizontal(q * missed, (q - 1) * missed).sum() / len(QUANTILES))
    coverage = {
        name: a.is_between(f"q{low:g}", f"q{high:g}").mean().alias(name) for name, (low, high) in INTERVALS.items()
    }
    banded = a.filter(pl.col("q0.1").is_not_null()).sum()
    return windows.group_by(by, maintain_order=True).agg(
        windows=pl.len(),
        wape=known.then(off.abs().sum() / total),
        mape=known.then(pl.when(a > 0).then(off.abs() / a).otherwise(0.0).mean()),
        rrmse=known.then((off**2).mean().sqrt() / a.mean()),
        bias=known.then(off.sum() / total),
        pinball=pl.when(banded > 0).then(pl.sum_horizontal(losses) / banded),
        **coverage,
    )

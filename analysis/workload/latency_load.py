"""Observed latency against load: what users saw while much arrived and while little did."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .buckets import quantiles
from .scales import whole

if TYPE_CHECKING:
    from lmaas.analysis.trace import TraceMeta

    from .given import Given

LEVELS = 10  # groups of windows, by their rate
MIN_WINDOWS = 10
MIN_N = 100  # values a level, for a p95
CLEAR = 1.5  # times the quiet hours' latency; less is not worth a sentence
NAMES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E", "queue_s": "Time in the queue"}

COLUMNS: dict[str, dict[str, str]] = {
    "latency_load": {
        "metric": "observed ttft_s, tpot_s, e2e_s or queue_s, of answered requests by when they arrived",
        "level": "windows sorted by arrivals and cut into at most ten equal groups, 1 the quietest",
        "window_s": "length of the windows; only those that the trace covers whole",
        "windows": "how many",
        "mean_rps": "requests/s over the windows of the level; min_rps and max_rps of single windows",
        "min_rps": "",
        "max_rps": "",
        "n": "latencies",
        "p50": "seconds, within 1 %; likewise p95; null below 100 latencies",
        "p95": "",
    },
}


def describe(given: "Given") -> dict[str, pl.DataFrame]:
    """The table latency_load, where the trace has observed latencies and enough whole windows."""
    if "latency_load" not in given.states:
        return {}
    window_s = given.summary.keys.joint_s
    found = latency_load(
        given.states["latency_load"], given.states["finest"], given.summary.keys.base_s, window_s, *given.at
    )
    return {"latency_load": found} if found.height else {}


def latency_load(
    state: pl.DataFrame, finest: pl.DataFrame, base_s: float, window_s: float, first_s: float, last_s: float
) -> pl.DataFrame:
    """Percentiles by level of load; columns as in COLUMNS. `state`, `finest`: of those names in `summary.STATES`."""
    levels = _levels(finest, base_s, window_s, *whole(window_s, first_s, last_s))
    met = (
        state.join(levels, on="window")
        .group_by("metric", "level", "bucket")
        .agg(pl.col("n", "total").sum(), pl.col("low").min(), pl.col("high").max())
    )
    rates = levels.group_by("level").agg(
        windows=pl.len().cast(pl.Int64), mean_rps=pl.col("rps").mean(), min_rps=pl.col("rps").min(),
        max_rps=pl.col("rps").max(),
    )  # fmt: skip
    found = quantiles(met, ["metric", "level"], {"p50": 0.5, "p95": 0.95}, 1e-6).join(rates, on="level")
    enough = pl.col("n") >= MIN_N
    return (
        found.with_columns(pl.when(enough).then(c).alias(c) for c in ("p50", "p95"))
        .with_columns(window_s=pl.lit(window_s))
        .sort(pl.col("metric").cast(pl.Enum(list(NAMES))), "level")
        .select(COLUMNS["latency_load"].keys())
    )


def _levels(finest: pl.DataFrame, base_s: float, window_s: float, a: int, b: int) -> pl.DataFrame:
    """window, rps and level of the whole windows [a, b); none where there are too few."""
    rates = (
        finest.group_by(window=(pl.col("window") * base_s / window_s).floor().cast(pl.Int64))
        .agg(rps=pl.col("requests").sum() / window_s)
        .filter(pl.col("window").is_between(a, b, closed="left"))
        .sort("rps", "window")  # empty windows have no latency to show
    )
    if len(rates) < MIN_WINDOWS:
        rates = rates.clear()
    levels = np.arange(len(rates)) * min(LEVELS, len(rates) // 2) // max(len(rates), 1) + 1
    return rates.with_columns(level=pl.Series(levels, dtype=pl.Int32))


def findings(tables: Mapping[str, pl.DataFrame], meta: "TraceMeta") -> Iterator[str]:
    """How much longer users wait while the most arrives, of the first latency there is."""
    for (metric,), of in (
        tables["latency_load"].group_by("metric", maintain_order=True) if "latency_load" in tables else ()
    ):
        known = of.filter(pl.col("p95").is_not_null())
        if len(known) < 2:
            continue
        quiet, busy = known.row(0, named=True), known.row(-1, named=True)
        times = busy["p95"] / quiet["p95"] if quiet["p95"] else None
        when = f"from {quiet['mean_rps']:.3g} to {busy['mean_rps']:.3g} requests/s"
        if times is None:
            continue
        if times >= CLEAR:
            yield f"Observed {NAMES[str(metric)]} grows with load: its p95 is {times:.1f} times as long {when}."
        elif times > 1 / CLEAR:
            yield f"Observed {NAMES[str(metric)]} hardly depends on load: its p95 is {times:.2f} times as long {when}."
        return

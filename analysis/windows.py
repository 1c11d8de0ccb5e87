"""Demand per window: what arrived, and what of it was known at a later instant.

A window is [start_s, start_s + window_s); boundaries lie at anchor + k * window_s for every whole k, so with
the anchor at the start of the evaluated part no window straddles the cut between training and evaluation.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from .errors import Exit, UserError

KNOWN_METRICS = ("requests", "prompt_tokens", "output_tokens")
METRICS = (*KNOWN_METRICS, "total_tokens")  # total = prompt + output
DEFAULT_ORIGIN = "default"  # the origin of a request without region
HOUR_S = 3600.0
DAY_S = 86_400.0
MAX_WINDOWS = 2_000_000  # of all series together; more is a mistyped window, and would fill the memory
MAX_LAG = 32  # windows; requests running longer than this past their window's end stay estimated
PRIOR_OUTPUT_TOKENS = 256.0  # mean output assumed while no request has completed


def default_window_s(train_span_s: float) -> float:
    """Seconds: ten minutes, or a 48th of the training span where that is shorter (no span: ten minutes)."""
    return min(600.0, train_span_s / 48) if train_span_s > 0 else 600.0


def demand(requests: pl.DataFrame | pl.LazyFrame, window_s: float, start_s: float, end_s: float) -> pl.DataFrame:
    """What arrived in each window from start_s (the anchor) to end_s, zero-filled over windows and series.

    `requests`: arrival_s, service, region, input_tokens, output_tokens; every row counts as a request, a null
    count adds no tokens. Streams, so a scan of any size does. Returns start_s, length_s (shorter in a last
    window that end_s cuts), service, origin, metric, value (f64), sorted; no rows where nothing arrived.
    """
    window_s, start_s, end_s = float(window_s), float(start_s), float(end_s)  # numpy's would become UDFs
    windows = count_windows(window_s, start_s, end_s)
    rows = requests.lazy().filter(pl.col("arrival_s").is_between(start_s, end_s, closed="left"))
    tokens = [pl.col(c).cast(pl.Float64) for c in ("input_tokens", "output_tokens")]
    sums = (
        rows.select(window_index(window_s, start_s), *_key(), *tokens)
        .group_by("window", "service", "origin")
        .agg(
            requests=pl.len().cast(pl.Float64),
            prompt_tokens=pl.sum("input_tokens"),
            output_tokens=pl.sum("output_tokens"),
        )
        .with_columns(total_tokens=pl.col("prompt_tokens") + pl.col("output_tokens"))
        .collect(engine="streaming")
    )
    keys = sums.select("service", "origin").unique().sort("service", "origin")
    refuse_too_many(windows * keys.height, window_s)
    grid = pl.select(window=pl.int_range(windows, dtype=pl.Int64)).join(keys, how="cross")
    start = start_s + pl.col("window") * window_s
    return (
        grid.join(sums, on=["window", "service", "origin"], how="left")
        .select(
            start.alias("start_s"),
            pl.min_horizontal(pl.lit(window_s), end_s - start).alias("length_s"),
            "service",
            "origin",
            *(pl.col(m).fill_null(0.0) for m in METRICS),
        )
        .unpivot(METRICS, index=["start_s", "length_s", "service", "origin"], variable_name="metric")
        .sort("start_s", "service", "origin", "metric")
    )


@dataclass(frozen=True, eq=False)
class Known:
    """Demand as it was known: window i is [cut_s + (first + i) * window_s, ...), series are rows of `series`.

    `value[k, s, i]`: window i of series s as known k windows after its end; the last k holds for ever after.
    `born[s]`: the window of the series' first request. `series`: service, origin, metric (KNOWN_METRICS each).
    """

    series: pl.DataFrame
    window_s: float
    cut_s: float
    first: int
    value: np.ndarray
    born: np.ndarray

    @property
    def windows(self) -> int:
        """Number of windows on the grid."""
        return int(self.value.shape[2])

    def at(self, ended: int) -> np.ndarray:
        """f8[series, ended]: the first `ended` windows as known when the last of them ended."""
        seen = self.value[-1, :, :ended].copy()
        for k in range(min(len(self.value) - 1, ended)):
            seen[:, ended - 1 - k] = self.value[k, :, ended - 1 - k]
        return seen


def known_demand(requests: pl.DataFrame, *, window_s: float, cut_s: float, end_s: float) -> Known:
    """What was known of every window at its end and later, over the whole windows before end_s.

    `requests`: arrival_s, service, region, input_tokens, output_tokens, done_s (null: never done). Arrivals
    and prompt tokens are known at once, an output only at done_s. Until then it counts as the mean output of
    the completed requests of its service and origin that ran as long past their window's end (where there
    are none: of all its completed ones, of the service's, of everybody's, PRIOR_OUTPUT_TOKENS): what still
    runs is longer than what is done, so the plain mean would understate it.
    The grid starts at the first boundary at or after the first arrival: a window seen in part is no history.
    """
    count_windows(window_s, cut_s, end_s)
    rows = _Rows.of(requests.filter(pl.col("arrival_s") < end_s), window_s, cut_s)
    pairs, first, windows = rows.keys.height, rows.first, rows.windows(window_s, cut_s, end_s)
    refuse_too_many(windows * pairs, window_s)
    lag = np.clip(rows.done - rows.window - 1, 0, MAX_LAG + 1)
    inside = rows.window >= first
    depth = int(min(lag[inside].max(initial=0), MAX_LAG))

    def per_window(keep: np.ndarray, weight: np.ndarray) -> np.ndarray:
        cell = rows.pair[keep] * windows + rows.window[keep] - first
        return np.bincount(cell, weight[keep], minlength=pairs * windows).reshape(pairs, windows)

    inside &= rows.window < first + windows
    value = np.zeros((depth + 1, pairs, len(KNOWN_METRICS), windows))
    one = np.ones(len(lag))
    value[:, :, 0], value[:, :, 1] = per_window(inside, one), per_window(inside, rows.input)
    plain = _mean_outputs(rows, first, windows + depth, lag >= 0, None)
    for k in range(depth + 1):
        running = lag > k
        mean = _mean_outputs(rows, first, windows + depth, running, plain)
        known = per_window(inside & ~running, rows.output)
        value[k, :, 2] = known + per_window(inside & running, one) * mean[:, k : k + windows]
    born = np.full(pairs, np.iinfo(np.int64).max)
    np.minimum.at(born, rows.pair, rows.window - first)
    series = rows.keys.join(pl.DataFrame({"metric": KNOWN_METRICS}), how="cross", maintain_order="left_right")
    flat = value.reshape(depth + 1, pairs * len(KNOWN_METRICS), windows)
    return Known(series, window_s, cut_s, first, flat, np.repeat(born, len(KNOWN_METRICS)))


def count_windows(window_s: float, start_s: float, end_s: float) -> int:
    """Windows from start_s that start before end_s; UserError for a window without length."""
    if not (math.isfinite(window_s) and window_s > 0):
        raise UserError(f"a window of {window_s:g} s has no length; give one above 0 s", Exit.USAGE)
    n = max(math.ceil((end_s - start_s) / window_s), 0)
    # the quotient may round across a boundary; the boundaries as computed everywhere else decide
    return n - (n > 0 and start_s + (n - 1) * window_s >= end_s) + (start_s + n * window_s < end_s)


def window_index(window_s: float, anchor_s: float) -> pl.Expr:
    """Expression `window`: k with anchor_s + k * window_s <= arrival_s < anchor_s + (k + 1) * window_s."""
    window_s, anchor_s = float(window_s), float(anchor_s)
    at = pl.col("arrival_s")
    k = ((at - anchor_s) / window_s).floor()
    # as in count_windows
    late = (at >= anchor_s + (k + 1) * window_s).cast(pl.Float64)
    early = (at < anchor_s + k * window_s).cast(pl.Float64)
    return (k + late - early).cast(pl.Int64).alias("window")


def refuse_too_many(cells: int, window_s: float) -> None:
    """UserError where windows times series would fill the memory."""
    if cells > MAX_WINDOWS:
        raise UserError(
            f"a window of {window_s:g} s cuts this trace into {cells:,} windows over all services and"
            f" origins; at most {MAX_WINDOWS:,} are possible, so give a longer one",
            Exit.USAGE,
        )


def _key() -> tuple[pl.Expr, pl.Expr]:
    origin = pl.col("region").cast(pl.String).fill_null(DEFAULT_ORIGIN)
    return pl.col("service").cast(pl.String), origin.alias("origin")


@dataclass(frozen=True, eq=False)
class _Rows:
    """Requests as arrays: `pair` is the row of `keys`, `done` the first boundary that knows the output."""

    keys: pl.DataFrame
    service: np.ndarray  # i8[pairs], code of the pair's service
    pair: np.ndarray
    window: np.ndarray
    done: np.ndarray
    input: np.ndarray
    output: np.ndarray
    first: int

    @classmethod
    def of(cls, requests: pl.DataFrame, window_s: float, cut_s: float) -> "_Rows":
        table = requests.select(
            window_index(window_s, cut_s),
            *_key(),
            pl.col("arrival_s"),
            pl.col("input_tokens").cast(pl.Float64).fill_null(0.0),
            pl.col("output_tokens").cast(pl.Float64),
            pl.max_horizontal("done_s", "arrival_s").alias("done_s"),
            pl.col("done_s").is_null().alias("never"),
        )
        keys = table.select("service", "origin").unique().sort("service", "origin").with_row_index("pair")
        table = table.join(keys, on=["service", "origin"], how="left", maintain_order="left")
        done = np.ceil((table["done_s"].to_numpy() - cut_s) / window_s)
        never = table["never"].to_numpy() | ~np.isfinite(done)
        done = np.where(never, 2.0**53, done)
        done += cut_s + done * window_s < table["done_s"].to_numpy()  # as in window_index
        start = table["arrival_s"].min()
        window = table["window"].to_numpy()
        first = 0 if start is None else int(window.min() + (cut_s + window.min() * window_s < start))
        return cls(
            keys.drop("pair"),
            keys.select(pl.col("service").rank("dense") - 1).to_series().to_numpy().astype(np.int64),
            table["pair"].to_numpy().astype(np.int64),
            window,
            done.astype(np.int64),
            table["input_tokens"].to_numpy(),
            table["output_tokens"].fill_null(0.0).to_numpy(),
            first,
        )

    def windows(self, window_s: float, cut_s: float, end_s: float) -> int:
        """Whole windows from `first` to end_s."""
        last = math.floor((end_s - cut_s) / window_s)
        last += (cut_s + (last + 1) * window_s <= end_s) - (cut_s + last * window_s > end_s)
        return max(last - self.first, 0)


def _mean_outputs(
    rows: _Rows, first: int, boundaries: int, keep: np.ndarray, otherwise: np.ndarray | None
) -> np.ndarray:
    """f8[pairs, boundaries]: mean output of the kept requests done by each boundary after `first`.

    Where none of a pair is done: `otherwise`, or, without it, the mean of its service, of all, the prior.
    """
    pairs = rows.keys.height
    at = np.maximum(rows.done - first - 1, 0)
    keep = keep & (at < boundaries)
    cell = rows.pair[keep] * boundaries + at[keep]

    def so_far(weight: np.ndarray) -> np.ndarray:
        sums = np.bincount(cell, weight, minlength=pairs * boundaries)
        return sums.reshape(pairs, boundaries).cumsum(axis=1)

    total, count = so_far(rows.output[keep]), so_far(np.ones(len(cell)))
    if otherwise is None:
        everyone = np.zeros(pairs, dtype=np.int64)
        otherwise = np.full((pairs, boundaries), PRIOR_OUTPUT_TOKENS)
        for group in (everyone, rows.service):
            otherwise = _ratio(_pooled(total, group), _pooled(count, group), otherwise)
    return _ratio(total, count, otherwise)


def _pooled(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    sums = np.zeros_like(values)
    np.add.at(sums, group, values)
    return np.asarray(sums[group])


def _ratio(total: np.ndarray, count: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    result = otherwise.copy()
    np.divide(total, count, out=result, where=count > 0)
    return result

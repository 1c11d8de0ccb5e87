"""Windows of the statistics: the scales they are looked at on, which of them are whole, what arrived in each."""

import math

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.windows import DAY_S

SCALES_S = (1.0, 10.0, 60.0, 300.0, 600.0, 3600.0, DAY_S)  # each divides all that follow
WEEK_S = 7 * DAY_S
MAX_WINDOWS = 100_000  # of one series; more is a mistyped window
MANY_STEPS = 20  # of the clock in a window: one more or less is noise of 5 %
EDGE = 0.05  # of a window: a trace of whole days begins and ends a little inside them


def default_window_s(span_s: float, quantum_s: float) -> float:
    """The largest scale that is at most min(600 s, span/48), longer where that gives too many windows.

    Not below the timestamps' quantum. Unlike a policy's window it is a round number, so that windows nest in hours
    and days.
    """
    fit = [s for s in SCALES_S if s <= min(600.0, span_s / 48)]
    window = max(fit, default=SCALES_S[0])
    enough = [s for s in SCALES_S if s >= window and span_s / s <= MAX_WINDOWS]
    return max(min(enough, default=math.ceil(span_s / MAX_WINDOWS)), quantum_s)


def check_window(window_s: float, span_s: float, quantum_s: float) -> None:
    """UserError (exit 2) where statistics over such windows would be undefined, unreadable or below the quantum."""
    if not (window_s > 0 and np.isfinite(window_s)):
        raise UserError(f"window {window_s:g} s: must be longer than 0 s", Exit.USAGE)
    if window_s < quantum_s:
        raise UserError(
            f"window {window_s:g} s is below the {quantum_s:g} s timestamp quantum; use at least that",
            Exit.USAGE,
        )
    if span_s / window_s > MAX_WINDOWS:
        least = span_s / MAX_WINDOWS
        raise UserError(
            f"window {window_s:g} s gives over {MAX_WINDOWS:,} windows; use {least:.3g} s or more", Exit.USAGE
        )


def counts(table: pl.LazyFrame, window_s: float, *keys: pl.Expr) -> pl.LazyFrame:
    """Non-empty windows: `window` (start_s / window_s), the keys, requests, input_tokens, output_tokens."""
    window = (pl.col("arrival_s") / window_s).floor().cast(pl.Int64).alias("window")
    return table.group_by(window, *keys).agg(
        requests=pl.len().cast(pl.Int64),
        input_tokens=pl.col("input_tokens").cast(pl.Int64).sum(),
        output_tokens=pl.col("output_tokens").cast(pl.Int64).sum(),
    )


def whole(window_s: float, first_s: float, last_s: float) -> tuple[int, int]:
    """The windows [a, b) that lie between the first and the last arrival, but for EDGE; b = a where there are none."""
    a = math.ceil(first_s / window_s - EDGE)
    return a, max(a, math.floor(last_s / window_s + EDGE))


def base_scale_s(quantum_s: float) -> float:
    """The finest scale that is a whole number of the clock's steps, or many; the quantum where none is.

    Windows of 10 s over steps of 3 s hold three or four of them: a rhythm of the clock, not of the load.
    """
    steps = {s: s / quantum_s if quantum_s else math.inf for s in SCALES_S}
    even = (s for s, n in steps.items() if n >= MANY_STEPS or (n >= 1 and math.isclose(n, round(n), rel_tol=1e-6)))
    return min(even, default=quantum_s)

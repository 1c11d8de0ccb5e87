"""Re-prediction: how much more to expect of an output that outlived its prediction."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..windows import PRIOR_OUTPUT_TOKENS

MIN_TAIL = 10  # rows that outlive a grid point for its expected rest to be learned


def residual_table(training: pl.DataFrame, services: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(grid f8[G], tokens f8[services, G]): E[output - g | output > g] at g = grid, 0 and half octaves up.

    For requests that generated as much as predicted and go on: the entry of the largest grid point not above
    what is generated is how much more to expect, at least 1. Learned from `training` (service, output_tokens;
    rows done before the cut); where fewer than MIN_TAIL outlive g, the value of the last g where enough do.
    A service without rows takes those of all; without any, PRIOR_OUTPUT_TOKENS.
    """
    rows = training.select(pl.col("service").cast(pl.String), pl.col("output_tokens").cast(pl.Float64)).filter(
        pl.col("output_tokens") >= 1
    )
    longest = rows["output_tokens"].max()
    octaves = np.log2(max(float(longest), 2.0)) if isinstance(longest, float) else 1.0
    grid = np.unique(np.concatenate([[0.0], np.round(2.0 ** np.arange(0, octaves + 0.5, 0.5))]))
    every = np.sort(rows["output_tokens"].to_numpy())
    tokens = np.empty((len(services), len(grid)))
    for s, service in enumerate(services):
        own = np.sort(rows.filter(pl.col("service") == service)["output_tokens"].to_numpy())
        tokens[s] = _mean_residual(own if len(own) >= MIN_TAIL else every, grid)
    return grid, tokens


def _mean_residual(output: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """E[output - g | output > g] of rising outputs."""
    if not len(output):
        return np.full(len(grid), PRIOR_OUTPUT_TOKENS)
    beyond = np.searchsorted(output, grid, side="right")
    count = len(output) - beyond
    above = np.concatenate([np.cumsum(output[::-1])[::-1], [0.0]])[beyond]
    enough = count >= min(MIN_TAIL, len(output))
    rest = np.where(enough, above / np.maximum(count, 1) - grid, np.nan)
    last = np.flatnonzero(enough)[-1]  # g = 0 always is: every output is at least 1
    rest[last:] = rest[last]
    return np.maximum(rest, 1.0)

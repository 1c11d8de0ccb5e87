"""Request types for forecasts: clusters of lengths learned before the cut, of each request once it is done."""

import numpy as np
import polars as pl

from ..workload.inequality import quantile
from ..workload.mixture import MAX_CLUSTERS, Mixture, fit
from ..workload.types import MIN_ROWS, names

PER_OCTAVE = 2  # cells that lengths are put into to learn types: as `analyze` does


def typed(requests: pl.DataFrame, cut_s: float) -> pl.DataFrame:
    """`requests` with `type`, the name of the nearest cluster, learned from what was done before cut_s.

    Null where a length is unknown or 0, and everywhere where nothing was done by then. A type is of the output, too,
    so nobody knows it before done_s (`as_done`).
    """
    answered = (pl.col("input_tokens") >= 1) & (pl.col("output_tokens") >= 1)
    known = requests.filter(answered & (pl.col("done_s") < cut_s) & (pl.col("arrival_s") < cut_s))
    found = _learned(known) if known.height else None
    if found is None:
        return requests.with_columns(type=pl.lit(None, pl.String))
    mixture, called = found
    rows = requests.with_row_index("at")
    there = rows.filter(answered)
    of = there.select("at", type=pl.Series([called[k] for k in mixture.nearest(_points(there))], dtype=pl.String))
    return rows.join(of, on="at", how="left", maintain_order="left").drop("at")


def as_done(requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` as they become known: each arrives when it is done, those that never are left out."""
    done = pl.max_horizontal("done_s", "arrival_s")
    return requests.filter(pl.col("done_s").is_not_null()).with_columns(arrival_s=done, done_s=done).sort("arrival_s")


def _learned(known: pl.DataFrame) -> tuple[Mixture, tuple[str, ...]]:
    """(clusters in order of their size, their names), as `analyze` has them."""
    cells, n = np.unique(np.round(_points(known) * PER_OCTAVE) / PER_OCTAVE, axis=0, return_counts=True)
    counts = n.astype(np.float64)
    best, _ = fit(cells, counts, most=MAX_CLUSTERS if known.height >= MIN_ROWS else 1)
    order = np.argsort(best.centres.sum(axis=1), kind="stable")
    best = Mixture(best.centres[order], best.shares[order], best.covariance, best.score)
    medians = [quantile(cells[:, axis], counts, 0.5) or 0.0 for axis in (0, 1)]
    return best, names(best.centres, medians)


def _points(rows: pl.DataFrame) -> np.ndarray:
    return np.asarray(np.log2(rows.select(pl.col("input_tokens", "output_tokens").cast(pl.Float64)).to_numpy()))

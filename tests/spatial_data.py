"""States of made-up traces, for statistics of how requests differ."""

import numpy as np
import polars as pl
from trace_data import table

from lmaas.analysis.workload import tables
from lmaas.analysis.workload.summary import Keys, Summary, summarise


def summary_of(rows: pl.DataFrame, window_s: float = 60.0, quantum_s: float = 1e-6) -> Summary:
    totals = {d: tables.totals(rows.lazy(), d).collect() for d in tables.DIMENSIONS}
    span = rows["arrival_s"].max() - rows["arrival_s"].min()
    keys = Keys.choose(window_s, quantum_s, span, totals)
    return summarise(rows.lazy(), keys, [c for c in rows.columns if rows[c].null_count() < len(rows)])


def requests(inputs, outputs, span_s=3600.0, seed=0, **columns) -> pl.DataFrame:
    """Answered requests of these lengths at random times, in the order given."""
    at = np.sort(np.random.default_rng(seed).random(len(inputs)) * span_s)
    lengths = {"input_tokens": np.maximum(1, np.rint(inputs)), "output_tokens": np.maximum(1, np.rint(outputs))}
    return table(arrival_s=at, **lengths, **columns)


def clouds(centres, shares, n, spread=0.4, seed=0):
    """Lengths in lognormal clouds around centres (input, output), and which cloud each is of."""
    rng = np.random.default_rng(seed)
    which = rng.choice(len(centres), n, p=shares)
    drawn = np.exp(np.log(np.array(centres))[which] + spread * rng.standard_normal((n, 2)))
    return drawn[:, 0], drawn[:, 1], which

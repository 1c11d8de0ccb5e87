"""Whether requests are those that a predictor was trained on, whatever their times, names and ids are by now."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..blockhashes import scrambled

KEPT = 16_384  # hashes, the smallest: of a million requests trained on one in sixty, so a copy of 2,000 shows
MOST_SHARED = 0.05  # of a trace's hashes; those of other traffic are shared by chance, as short requests are alike
FEWEST = 5  # hashes shared, below which nothing is concluded
WITHIN = (("service",), ("service", "tenant"))  # requests in a row are those of one of these


def sketch(rows: pl.DataFrame) -> list[int]:
    """The KEPT smallest of `hashes`, rising."""
    return [int(value) for value in hashes(rows)[:KEPT]]


def is_known(rows: pl.DataFrame, known: Sequence[int]) -> bool:
    """Whether so many of the requests are in `sketch` that they are a copy of what it was made of, or of a part."""
    found = hashes(rows)
    found = found[found <= known[-1]] if len(known) == KEPT else found
    shared = int(np.isin(found, np.array(known, np.uint64)).sum())
    return shared >= FEWEST and shared > MOST_SHARED * len(found)


def hashes(rows: pl.DataFrame) -> np.ndarray:
    """u8, distinct, rising: of every request and the one before it, their lengths and the milliseconds between.

    `rows`: arrival_s, service, tenant, input_tokens, output_tokens; those without an output are passed over. Shifted
    times, other names, and rows left out by service, tenant or time leave most of them as they were.
    """
    known = rows.filter(pl.col("output_tokens") >= 1).sort("arrival_s", "input_tokens", "output_tokens")
    tokens = [pl.col(name).cast(pl.UInt64).fill_null(0) for name in ("input_tokens", "output_tokens")]
    since_ms = (pl.col("arrival_s").diff() * 1000).round()
    found = [np.zeros(0, np.uint64)]
    for by in WITHIN:
        numbers = [*tokens, *(token.shift(1) for token in tokens), since_ms]
        named = {str(k): number.over(by) for k, number in enumerate(numbers)}
        pairs = known.select(**named).drop_nulls()
        value = np.zeros(pairs.height, np.uint64)
        for column in pairs.iter_columns():
            value = scrambled(value * np.uint64(3) + column.cast(pl.UInt64).to_numpy())
        found.append(value)
    return np.unique(np.concatenate(found))

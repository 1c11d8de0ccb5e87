"""`--load`: the same trace with more or fewer arrivals."""

import numpy as np
import polars as pl

from lmaas.analysis.blockhashes import scrambled
from lmaas.analysis.errors import Exit, UserError

MOST = 100_000_000  # requests: about ten gigabytes
JITTER_S = 30.0  # copies move by up to this either way: no exact ties, and the daily rhythm stays
COPY = 1 << 40  # sessions of a copy are numbered from here, those of the next one as far again: exact as floats


def scale_load(requests: pl.DataFrame, factor: float, cut_s: float, seed: int) -> pl.DataFrame:
    """Arrivals times `factor`: thinned below 1, seeded copies shifted by up to JITTER_S superposed above it.

    Copies keep lengths, service and origin. The part before cut_s and the part from it on are scaled apart, with
    random numbers of their own, and no copy crosses the cut or leaves the trace's span; sorted by arrival. A session
    (column `session`) is kept, left out and moved as one, across the cut too; those of copies are sessions of others.
    Adds `copy`, 0: the trace's own rows.
    """
    if not np.isfinite(factor) or not 0 < factor <= 1000:
        raise UserError(f"--load {factor:g}x: use above 0x, at most 1000x", Exit.USAGE)
    if factor == 1:
        return requests
    if factor * requests.height > MOST:
        raise UserError(f"--load {factor:g}x of {requests.height:,} requests is over {MOST:,}", Exit.USAGE)
    requests = requests.with_columns(copy=pl.lit(0, pl.Int32))
    first, last = float(requests["arrival_s"][0]), float(requests["arrival_s"][-1])
    before = pl.col("arrival_s") < cut_s
    parts = [
        _scaled(requests.filter(before), factor, first, np.nextafter(cut_s, -np.inf), [seed, 3, 0]),
        _scaled(requests.filter(~before), factor, max(first, cut_s), last, [seed, 3, 1]),
    ]
    scaled = pl.concat(parts).sort("arrival_s", maintain_order=True)
    if scaled.height == 0:
        raise UserError(f"--load {factor:g}x leaves none of {requests.height:,} requests", Exit.USAGE)
    return scaled


def _scaled(rows: pl.DataFrame, factor: float, low_s: float, high_s: float, key: list[int]) -> pl.DataFrame:
    """One side of the cut; a generator a copy, so that what comes later moves no earlier copy."""
    whole, part = int(factor), factor - int(factor)
    pieces = [rows] if whole else []
    for copy in range(1 if whole else 0, whole + (part > 0)):
        rng = np.random.default_rng([*key, copy])
        keep = drawn_by_session(rows, rng.random(rows.height), [key[0], 4, copy, 0]) < (part if copy == whole else 1.0)
        drawn = drawn_by_session(rows, rng.uniform(0, 1, rows.height), [key[0], 4, copy, 1])
        copied = rows.filter(pl.Series(keep))
        if whole:
            moved = copied["arrival_s"].to_numpy() + 2 * JITTER_S * drawn[keep] - JITTER_S
            moved = low_s + np.abs(moved - low_s)  # reflected at the ends: clipping would pile copies up there
            moved = np.clip(high_s - np.abs(high_s - moved), low_s, high_s)
            copied = copied.with_columns(
                arrival_s=pl.Series(moved),
                request_id=pl.format("{}+{}", "request_id", pl.lit(copy)),
                copy=pl.lit(copy, pl.Int32),
            )
            if "session" in copied.columns:
                own = pl.when(pl.col("session") >= 0).then(pl.col("session") + copy * COPY)
                copied = copied.with_columns(session=own.otherwise(pl.col("session")))
        pieces.append(copied)
    return pl.concat(pieces)


def drawn_by_session(rows: pl.DataFrame, each: np.ndarray, key: list[int]) -> np.ndarray:
    """f8 from 0 to below 1: `each` for rows without a session, one number for all rows of a session.

    A session's is a hash of its number, so that what else the trace holds, or will hold, does not change it.
    """
    if "session" not in rows.columns:
        return each
    session = rows["session"].to_numpy()
    salt = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    shared = (scrambled(session.astype(np.uint64) ^ salt) >> np.uint64(11)) * 2.0**-53
    return np.where(session >= 0, shared, each)

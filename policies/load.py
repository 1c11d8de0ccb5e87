"""`--load`: the same trace with more or fewer arrivals."""

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError

JITTER_S = 30.0  # copies move by up to this either way: no exact ties, and the daily rhythm stays


def scale_load(requests: pl.DataFrame, factor: float, seed: int) -> pl.DataFrame:
    """Arrivals times `factor`: thinned below 1, seeded copies shifted by up to JITTER_S superposed above it.

    Copies keep lengths, service and origin; the result is sorted by arrival and stays within the trace's span.
    """
    if not np.isfinite(factor) or factor <= 0:
        raise UserError(f"--load {factor:g}x leaves no requests; use above 0x", Exit.USAGE)
    if factor == 1:
        return requests
    rng = np.random.default_rng([seed, 3])
    whole, part = int(factor), factor - int(factor)
    pieces = [requests] if whole else []
    first, last = requests["arrival_s"][0], requests["arrival_s"][-1]
    for copy in range(1, whole + (part > 0)) if whole else range(1):
        rows = requests
        if copy >= whole:  # the fractional copy: each request with probability `part`
            rows = requests.filter(pl.Series(rng.random(requests.height) < part))
        if whole:
            moved = rows["arrival_s"].to_numpy() + rng.uniform(-JITTER_S, JITTER_S, rows.height)
            rows = rows.with_columns(
                arrival_s=pl.Series(np.clip(moved, first, last)),
                request_id=pl.format("{}+{}", "request_id", pl.lit(copy)),
            )
        pieces.append(rows)
    scaled = pl.concat(pieces).sort("arrival_s", maintain_order=True)
    if scaled.height == 0:
        raise UserError(f"--load {factor:g}x leaves none of {requests.height:,} requests", Exit.USAGE)
    return scaled

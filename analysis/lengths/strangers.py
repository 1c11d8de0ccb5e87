"""Services that a predictor meets and was not trained on."""

from collections.abc import Iterable

import polars as pl

from ..formats.shown import shown

MANY = 5  # names that are told


def strangers(rows: pl.DataFrame, known: Iterable[str]) -> str | None:
    """A sentence that names the services of `rows` without a request to learn from; None where there are none.

    known: services of the requests that were done before the cut; where it is empty nothing was learned of any, which
    is said elsewhere.
    """
    learned = set(known)
    there = rows.select(pl.col("service").cast(pl.String)).to_series().drop_nulls().unique().sort().to_list()
    new = [service for service in there if service not in learned]
    if not learned or not new:
        return None
    names = ", ".join(shown(name) for name in new[:MANY]) + (f" and {len(new) - MANY} more" if len(new) > MANY else "")
    return (
        f"{len(new)} of {len(there)} services had no request done before the cut ({names}): what is said of them was "
        "learned of the others"
    )

"""The requests of a stored trace as length predictors take them."""

import polars as pl

from ..errors import Exit, UserError
from ..formats.shown import shown
from ..nominal import SAID, duration_s, observed_s
from ..trace import Trace

COLUMNS = ("request_id", "arrival_s", "service", "region", "tenant", "tier", "input_tokens", "output_tokens", "e2e_s")
OPTIONAL = ("session_id", "max_tokens", "prompt_grams")


def requests_of(trace: Trace) -> tuple[pl.DataFrame, str | None]:
    """(COLUMNS, of OPTIONAL what it has, done_s; in arrival order, a note where durations are not observed).

    Rows without input tokens stay; done_s is null without output tokens. UserError (exit 4) where no row is left.
    """
    rows = trace.table(*COLUMNS, *(name for name in OPTIONAL if name in trace.meta.columns))
    if rows.is_empty():
        raise UserError(f"{shown(trace.meta.name)}: has no requests", Exit.INPUT)
    rows = rows.with_columns(pl.col("service", "region", "tenant", "tier").cast(pl.String))
    rows = rows.with_columns(done_s=pl.col("arrival_s") + pl.when(pl.col("output_tokens") >= 1).then(duration_s()))
    unseen = rows.filter(pl.col("done_s").is_not_null() & observed_s().is_null()).height
    note = (
        f"{unseen:,} requests have no observed duration: their output counts as known after {SAID}" if unseen else None
    )
    return rows, note

"""The requests of a stored trace as length predictors take them."""

import polars as pl

from ..errors import Exit, UserError
from ..formats.shown import shown
from ..trace import Trace

COLUMNS = ("request_id", "arrival_s", "service", "region", "tenant", "tier", "input_tokens", "output_tokens", "e2e_s")
OPTIONAL = ("session_id", "max_tokens", "prompt_grams")
# where no duration was observed, slower than most fleets: history is then known rather late than early
NOMINAL_FIRST_S = 1.0
NOMINAL_INPUT_S = 1 / 5000  # an input token
NOMINAL_OUTPUT_S = 0.05  # an output token


def requests_of(trace: Trace) -> tuple[pl.DataFrame, str | None]:
    """(COLUMNS, of OPTIONAL what it has, done_s; in arrival order, a note where durations are not observed).

    Rows without input tokens stay; done_s is null without output tokens. UserError (exit 4) where no row is left.
    """
    rows = trace.table(*COLUMNS, *(name for name in OPTIONAL if name in trace.meta.columns))
    if rows.is_empty():
        raise UserError(f"{shown(trace.meta.name)}: has no requests", Exit.INPUT)
    output = pl.col("output_tokens").cast(pl.Float64)
    nominal = NOMINAL_FIRST_S + pl.col("input_tokens").fill_null(0) * NOMINAL_INPUT_S + output * NOMINAL_OUTPUT_S
    observed = pl.when(pl.col("e2e_s") > 0).then("e2e_s")  # 0 is a broken clock: nobody answers at once
    rows = rows.with_columns(pl.col("service", "region", "tenant", "tier").cast(pl.String))
    rows = rows.with_columns(done_s=pl.col("arrival_s") + pl.when(output >= 1).then(pl.coalesce(observed, nominal)))
    unseen = rows.filter(pl.col("done_s").is_not_null() & ~(pl.col("e2e_s") > 0).fill_null(False)).height
    note = (
        f"{unseen:,} requests have no observed duration: their output counts as known after {NOMINAL_FIRST_S:g} s, "
        f"1 s for {1 / NOMINAL_INPUT_S:,.0f} input tokens and {NOMINAL_OUTPUT_S * 1000:g} ms an output token"
    )
    return rows, note if unseen else None

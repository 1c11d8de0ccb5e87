"""How long a request ran: as observed, else nominal; from when on its output may count as known."""

import polars as pl

# slower than most fleets: what is not observed counts as known rather too late than too early
FIRST_S = 1.0
INPUT_S = 1 / 5000  # an input token
OUTPUT_S = 0.05  # an output token
SAID = f"{FIRST_S:g} s, 1 s for {1 / INPUT_S:,.0f} input tokens and {OUTPUT_S * 1000:g} ms an output token"


def observed_s() -> pl.Expr:
    """e2e_s; null where it is 0, which is a broken clock: nobody answers at once."""
    return pl.when(pl.col("e2e_s") > 0).then("e2e_s")


def nominal_s() -> pl.Expr:
    """FIRST_S + INPUT_S * input_tokens + OUTPUT_S * output_tokens; an unknown count is 0."""
    tokens = {name: pl.col(name).cast(pl.Float64).fill_null(0) for name in ("input_tokens", "output_tokens")}
    return FIRST_S + tokens["input_tokens"] * INPUT_S + tokens["output_tokens"] * OUTPUT_S


def duration_s() -> pl.Expr:
    """From arrival to the last token: observed, else nominal."""
    return pl.coalesce(observed_s(), nominal_s())

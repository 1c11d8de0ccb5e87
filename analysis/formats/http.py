"""How a request ended, by the code of its HTTP response."""

import polars as pl

GONE = (0, 499)  # the client left before there was an answer: Envoy's and nginx's codes for it
RATE_LIMITED = 429


def http_status(code: pl.Expr) -> pl.Expr:
    """The trace's `status`, of an integer code; `ok` where there is none."""
    return (
        pl.when(code.is_in(GONE))
        .then(pl.lit("cancelled"))
        .when(code == RATE_LIMITED)
        .then(pl.lit("rejected"))
        .when(code >= 400)
        .then(pl.lit("failed"))
        .otherwise(pl.lit("ok"))
    )


def status_or_code(said: pl.Expr) -> pl.Expr:
    """Words as they are, and codes from 100 to 599 as the status that they stand for."""
    code = said.cast(pl.String).cast(pl.Int64, strict=False)
    return pl.when(code.is_between(100, 599)).then(http_status(code)).otherwise(said.cast(pl.String))

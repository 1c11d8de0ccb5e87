"""BurstGPT, both column sets (CSV, CC-BY-4.0, HPMLL/BurstGPT)."""

import polars as pl

from .base import Reading, present
from .source import Source

OPTIONAL = {"service": "Model", "session_id": "Session ID", "e2e_s": "Elapsed time"}


class BurstGpt:
    """`Timestamp,[Session ID,Elapsed time,]Model,Request tokens,Response tokens,Total tokens,Log Type`.

    Version 3 inserts its two columns in the middle, so columns are found by name. Times are seconds from the local
    midnight of the first day of the collection, in steps of one second; `Elapsed time` is the whole response.
    """

    name = "burstgpt"
    kinds = ("csv",)
    required = ("Timestamp", "Model", "Request tokens", "Response tokens")

    def recognises(self, source: Source) -> bool:
        """By the four columns that both versions share."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """A response of 0 tokens is the source's mark of a failure: status failed, and its zeros are unknown."""
        failed = _is_zero("Response tokens")
        columns = {
            "input_tokens": _known("Request tokens", ~(failed & _is_zero("Request tokens"))),
            "output_tokens": _known("Response tokens", ~failed),
            "status": pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("ok")),
        }
        return Reading(arrival="Timestamp", unit="s", columns={**present(OPTIONAL, source), **columns})


def _is_zero(column: str) -> pl.Expr:
    return (pl.col(column).cast(pl.Float64, strict=False) == 0).fill_null(False)


def _known(column: str, known: pl.Expr) -> pl.Expr:
    return pl.when(known).then(pl.col(column))

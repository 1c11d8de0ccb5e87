"""The rows of a trace that can be replayed, with those of its columns that the fleet makes use of."""

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import Trace
from lmaas.replay.fleetfile import FleetSpec

COLUMNS = ("request_id", "arrival_s", "service", "region", "tenant", "tier", "input_tokens", "output_tokens", "e2e_s")
ORDERED_BY = {"priority": "priority", "deadline": "deadline_s"}  # order of queues -> column it reads


def read_rows(trace: Trace, spec: FleetSpec) -> tuple[pl.DataFrame, int]:
    """(rows with input and output tokens in arrival order, how many have none); UserError (exit 4) where none has.

    COLUMNS, beside them what `spec` asks for and the trace has: priority or deadline_s, turn and think_s; session
    (Int64, -1: none) wherever the trace has session ids.
    """
    asked = [ORDERED_BY.get(spec.order), *(("turn", "think_s") if spec.sessions == "closed" else ()), "session_id"]
    table = trace.table(*COLUMNS, *(name for name in asked if name and name in trace.meta.columns))
    kept = table.filter(usable())
    if kept.height == 0:
        raise UserError(
            f"{trace.meta.name}: none of its {table.height:,} requests has input and output tokens; nothing to replay",
            Exit.INPUT,
        )
    kept = kept.with_columns(pl.col("service", "region", "tenant", "tier").cast(pl.String))
    return numbered(kept) if "session_id" in kept.columns else kept, table.height - kept.height


def usable() -> pl.Expr:
    """Whether a row can be replayed."""
    return ((pl.col("input_tokens") >= 1) & (pl.col("output_tokens") >= 1)).fill_null(False)


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """`session_id` as `session`, numbered by first appearance: no later row changes an earlier number; -1: none."""
    known = rows.select("session_id").drop_nulls().unique(maintain_order=True).with_row_index("session")
    found = rows.join(known, on="session_id", how="left", maintain_order="left").drop("session_id")
    return found.with_columns(pl.col("session").cast(pl.Int64).fill_null(-1))

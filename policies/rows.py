"""The rows of a trace that can be replayed, with those of its columns that the fleet makes use of."""

from collections.abc import Collection

import numpy as np
import polars as pl

from lmaas.analysis.blockhashes import chained
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import ROW_GROUP, Trace
from lmaas.replay.fleetfile import FleetSpec
from lmaas.replay.prefixes import Prefixes

COLUMNS = ("request_id", "arrival_s", "service", "region", "tenant", "tier", "input_tokens", "output_tokens", "e2e_s")
PREDICTED_BY = ("session_id", "prompt_grams", "max_tokens")  # what predictors of output lengths also look at
FEWEST = 1024  # rows read at a time
BATCH = 4096  # rows whose hashes are worked on at a time: several copies of them exist meanwhile
ORDERED_BY = ("priority", "deadline_s")  # orders of queues read them, the fleet file's or a policy's own


def read_rows(trace: Trace, spec: FleetSpec) -> tuple[pl.DataFrame, int]:
    """(rows with input and output tokens in arrival order, how many have none); UserError (exit 4) where none has.

    COLUMNS, beside them turn and think_s where `spec` asks for them and the trace has them; ORDERED_BY and PREDICTED_BY
    wherever the trace has them, session_id as session (Int64, -1: none); row, the place among these rows.
    """
    asked = [*ORDERED_BY, *(("turn", "think_s") if spec.sessions == "closed" else ()), *PREDICTED_BY]
    table = trace.table(*COLUMNS, *(name for name in asked if name in trace.meta.columns))
    kept = table.filter(usable())
    if kept.height == 0:
        raise UserError(
            f"{trace.meta.name}: none of its {table.height:,} requests has input and output tokens; nothing to replay",
            Exit.INPUT,
        )
    kept = kept.with_columns(pl.col("service", "region", "tenant", "tier").cast(pl.String))
    kept = kept.with_columns(row=pl.int_range(pl.len(), dtype=pl.UInt32))
    return numbered(kept) if "session_id" in kept.columns else kept, table.height - kept.height


def usable() -> pl.Expr:
    """Whether a row can be replayed."""
    return ((pl.col("input_tokens") >= 1) & (pl.col("output_tokens") >= 1)).fill_null(False)


def recorded_hits(trace: Trace, cut_s: float, end_s: float) -> float | None:
    """The share of prompt tokens that the source says were served from a cache, of the evaluated rows that say so.

    None where none does.
    """
    if "cached_tokens" not in trace.meta.columns:
        return None
    told = usable() & pl.col("cached_tokens").is_not_null() & pl.col("arrival_s").is_between(cut_s, end_s)
    prompts = pl.col("input_tokens").cast(pl.Int64)
    cached = pl.min_horizontal(pl.col("cached_tokens").cast(pl.Int64), prompts)
    found = trace.scan().filter(told).select(cached=cached.sum(), prompts=prompts.sum()).collect().row(0)
    return found[0] / found[1] if found[1] else None


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """`session_id` as `session`, numbered by first appearance: no later row changes an earlier number; -1: none."""
    known = rows.select("session_id").drop_nulls().unique(maintain_order=True).with_row_index("session")
    found = rows.join(known, on="session_id", how="left", maintain_order="left").drop("session_id")
    return found.with_columns(pl.col("session").cast(pl.Int64).fill_null(-1))


def read_prefixes(trace: Trace, services: Collection[str]) -> tuple[Prefixes, list[str]]:
    """(hash blocks of the rows of `read_rows`, in their order, notes on those that fit no prompt).

    Only whole blocks of the prompt, as only these are cached, and only of `services`: 8 bytes a block. Read by row
    group, since lists take several times the memory of what is kept.
    """
    tokens = trace.meta.block_size or 0
    whole = pl.col("input_tokens").cast(pl.Int64) // tokens
    wanted = pl.col("service").cast(pl.String).is_in(list(services))
    valid = pl.col("block_hashes").list.len() == pl.col("block_hashes").list.drop_nulls().list.len()
    scan = trace.scan().select("service", "input_tokens", "output_tokens", "block_hashes")
    values, counts, odd, none = [], [], 0, 0
    step = _rows_a_group(trace)
    for first in range(0, trace.meta.rows_kept, step):
        part = (
            scan.slice(first, step)
            .filter(usable())
            .select(
                kept=pl.when(wanted & valid).then(pl.col("block_hashes").list.head(whole)),
                none=wanted & ~valid.fill_null(False),
                odd=wanted & ~(pl.col("block_hashes").list.len().cast(pl.Int64) - whole).is_between(0, 1),
            )
            .collect()
        )
        for piece in part["kept"].to_frame().iter_slices(BATCH):
            n = piece["kept"].list.len().fill_null(0).cast(pl.Int64).to_numpy()
            blocks = piece.filter(pl.col("kept").list.len() > 0)["kept"].explode()
            values.append(chained(blocks.cast(pl.UInt64).to_numpy(), n))
            counts.append(n)
        odd, none = odd + int(part["odd"].sum()), none + int(part["none"].sum())
    n = np.concatenate(counts)
    found = Prefixes(np.concatenate(values), np.cumsum(n) - n, n, tokens, np.zeros(len(n), np.int64))
    notes = []
    if none:
        notes.append(f"prefix cache: {none:,} of {len(n):,} requests have no block hashes; they are computed in full")
    if odd:
        notes.append(
            f"prefix cache: {odd:,} requests have more or fewer hashes than their prompt has blocks of {tokens} "
            "tokens; what is too many is left out, a prompt beyond its hashes is never cached"
        )
    return found, notes


def _rows_a_group(trace: Trace) -> int:
    """Rows of a row group as it was written: fewer where lists are long."""
    import pyarrow.parquet as pq  # deferred: most traces have no hashes

    written: int = pq.read_metadata(trace.path).row_group(0).num_rows
    return min(max(written, FEWEST), ROW_GROUP)


def prefixes_of(rows: pl.DataFrame, prefixes: Prefixes) -> Prefixes:
    """Of rows of Prepared.requests; what is not of the trace's own copy (--load) is of a copy of its own."""
    copy = rows["copy"].cast(pl.Int64).to_numpy() if "copy" in rows.columns else np.zeros(rows.height, np.int64)
    return prefixes.take(rows["row"].to_numpy(), copy)

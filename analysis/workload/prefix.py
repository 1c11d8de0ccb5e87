"""How much of the prompts repeats: prefix reuse with a cache of unlimited size."""

from typing import TYPE_CHECKING

import polars as pl

from .tables import COLUMNS, named

if TYPE_CHECKING:
    from .given import Given

MAX_BLOCKS = 30_000_000  # held in memory at about 60 bytes each; of longer traces the first so many


def describe(given: "Given") -> dict[str, pl.DataFrame]:
    """The table prefix, where the trace has block hashes."""
    meta = given.meta
    if not meta.block_size or "block_hashes" not in meta.columns:
        return {}
    return {"prefix": prefix(given.trace.scan(), meta.block_size)}


def prefix(table: pl.LazyFrame, block_size: int) -> pl.DataFrame:
    """Reuse of prompts over all and by service; columns as in COLUMNS['prefix'].

    A block's hash stands for its whole prefix, so a block counts as seen wherever earlier requests of the same
    service had it. Tokens saved follow the replica's rule: whole blocks of `block_size`, short of the last token.
    """
    rows = _with_hits(table)
    most = (pl.col("input_tokens") - 1) // block_size
    rows = rows.with_columns(hit_tokens=pl.min_horizontal("hit_blocks", most) * block_size)
    parts = [
        rows.with_columns(name=name)
        .group_by("name")
        .agg(pl.col("blocks", "hit_blocks", "input_tokens", "hit_tokens").sum(), requests=pl.len())
        .with_columns(
            by=pl.lit(by),
            block_reuse=pl.col("hit_blocks") / pl.col("blocks"),
            reuse=pl.col("hit_tokens") / pl.col("input_tokens"),
        )
        .sort("name")
        for by, name in (("all", pl.lit("all")), ("service", pl.col("service")))
    ]
    return pl.concat(parts).select(COLUMNS["prefix"].keys())


def _with_hits(table: pl.LazyFrame) -> pl.DataFrame:
    """One row a request with hashes: row, service, input_tokens, blocks, hit_blocks."""
    blocks = pl.col("block_hashes").list.len().cast(pl.Int64)
    requests = (
        table.filter(blocks > 0, pl.col("input_tokens") > 0)
        .select("block_hashes", pl.col("input_tokens").cast(pl.Int64), service=named("service"), blocks=blocks)
        .filter(pl.col("blocks").cum_sum() <= MAX_BLOCKS)
        .with_row_index("row")
        .collect()
    )
    each = requests.select("row", "service", hash="block_hashes", position=pl.int_ranges("blocks")).explode(
        "hash", "position"
    )
    # a block is new in the row that has it first; a hit ends at the first new block
    new = each.filter(pl.col("row") == pl.col("row").min().over("service", "hash"))
    ends = new.group_by("row").agg(end=pl.col("position").min())
    return requests.join(ends, on="row", how="left").select(
        "row", "service", "input_tokens", "blocks", hit_blocks=pl.col("end").fill_null(pl.col("blocks"))
    )

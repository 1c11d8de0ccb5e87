"""Mooncake traces (JSONL, Apache-2.0, kvcache-ai/Mooncake)."""

import polars as pl

from .base import Reading, present
from .source import Source

BLOCK = 512  # tokens a hash block; the last, partial block of a prompt has an id of its own
OPTIONAL = {"session_id": "session_id"}


class Mooncake:
    """`{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [n, ...]}`, one request a line."""

    name = "mooncake"
    kinds = ("jsonl",)
    required = ("timestamp", "input_length", "output_length", "hash_ids")

    def recognises(self, source: Source) -> bool:
        """By its four keys and no chat ids: Bailian's rows have those, and the same `timestamp` in seconds."""
        keys = set(source.columns)
        return set(self.required) <= keys and not keys & {"chat_id", "parent_chat_id"}

    def read(self, source: Source) -> Reading:
        """Milliseconds from the trace's start; every prompt has ceil(input / 512) block hashes."""
        columns = {
            "input_tokens": "input_length",
            "output_tokens": "output_length",
            "block_hashes": "hash_ids",
        }
        blocks = (pl.col("input_tokens").cast(pl.Int64) + (BLOCK - 1)) // BLOCK
        return Reading(
            arrival="timestamp",
            unit="ms",
            columns={**present(OPTIONAL, source), **columns},
            block_size=BLOCK,
            checks={f"block_hashes not one per {BLOCK} input tokens": pl.col("block_hashes").list.len() != blocks},
        )

"""The trace table itself, as Parquet, CSV or JSONL."""

from datetime import UTC, datetime

import polars as pl

from lmaas.analysis.trace import REQUIRED

from .base import Reading
from .mapped import KNOWN, mapped
from .source import Source

# keys of a Parquet file's own metadata: what the table cannot say of itself; every stored trace has them
EPOCH = "lmaas.epoch"  # instant of arrival_s = 0, ISO 8601 with a zone
BLOCK_SIZE = "lmaas.block_size"  # tokens a hash block
ROWS = "source_row"


class Canonical:
    """Columns named as in the trace table; only `arrival_s`, `input_tokens`, `output_tokens` are needed."""

    name = "canonical"
    kinds = ("parquet", "csv", "jsonl")
    required = REQUIRED
    optional = KNOWN

    def recognises(self, source: Source) -> bool:
        """By the three needed columns."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """Every column read as itself, `client` as `tenant`; epoch and block size from the file's own metadata."""
        stated = pl.read_parquet_metadata(source.path) if source.kind == "parquet" else {}
        epoch, block_size = _epoch(stated.get(EPOCH, "")), _block_size(stated.get(BLOCK_SIZE, ""))
        # a stored trace without request ids of its own goes by its row numbers
        ids = {"request_id": ROWS} if ROWS in source.columns and "request_id" not in source.columns else {}
        return mapped(source, ids, None, epoch=epoch, block_size=block_size)


def _epoch(text: str) -> datetime | None:
    try:
        epoch = datetime.fromisoformat(text)
        return epoch.astimezone(UTC) if epoch.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _block_size(text: str) -> int | None:
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
    return size or None

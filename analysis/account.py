"""What became of the rows of a source: counted as they pass, those set aside stored."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import polars as pl

from .trace import SCHEMA


@dataclass
class Account:
    """What became of the rows, counted as they pass; complete when the kept rows are written."""

    folder: Path  # for the rows set aside, a file for each batch that has any
    texts: bool = True  # whether rows set aside are stored with what was read
    rows: int = 0  # kept
    naive: int = 0  # of them, dates without a zone
    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SCHEMA, 0))  # per trace column, not null
    files: Counter[str] = field(default_factory=Counter)  # of a merged source: the rows of each, kept or not
    set_aside: list[Path] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)  # Polars hands batches over from several threads

    @property
    def rejected(self) -> dict[str, pl.DataType]:
        """The columns of rows set aside."""
        file = {"file": pl.String()} if self.files else {}
        return {"source_row": pl.UInt64(), **file, "reason": pl.String(), "text": pl.String()}

    def keep(self, rows: pl.DataFrame, naive: int) -> None:
        """Count kept rows."""
        with self.lock:
            self.rows += rows.height
            self.naive += naive
            for column in rows.iter_columns():
                self.values[column.name] += rows.height - column.null_count()

    def count(self, files: pl.Series) -> None:
        """Count rows by the file they are from."""
        counts = dict(files.value_counts().iter_rows())
        with self.lock:
            self.files.update(counts)

    def put_aside(self, rows: pl.DataFrame) -> None:
        """Store rows in a file whose name tells their place in the source."""
        path = self.folder / f"aside-{rows.item(0, 'source_row'):020d}.parquet"
        rows = rows if self.texts else rows.with_columns(pl.lit(None, pl.String).alias("text"))
        rows.write_parquet(path, compression="zstd")
        with self.lock:
            self.set_aside.append(path)

"""What became of the rows of a source: counted as they pass, those set aside stored."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import polars as pl

from .progress import Tell, silent
from .trace import SCHEMA

TO_SORT = 0.55  # share of the time after which what is not in order is sorted, measured


class Stretch(NamedTuple):
    """Arrivals of kept rows that follow one another in the source."""

    source_row: int  # the first
    first_s: float
    last_s: float
    earliest_s: float
    inversions: int  # rows earlier than the one before


@dataclass
class Account:
    """What became of the rows, counted as they pass; complete when the kept rows are written."""

    folder: Path  # for the rows set aside, a file for each batch that has any
    texts: bool = True  # whether rows set aside are stored with what was read
    expected: float = 0.0  # about how many rows there are, for `tell`; 0: nobody knows
    tell: Tell = silent
    in_order: bool = True  # as far as batches of them show
    passed: int = 0  # rows that were looked at
    rows: int = 0  # kept
    naive: int = 0  # of them, dates without a zone
    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SCHEMA, 0))  # per trace column, not null
    stretches: list[Stretch] = field(default_factory=list)  # of kept rows, a batch each, in any order
    files: Counter[str] = field(default_factory=Counter)  # of a merged source: the rows of each, kept or not
    set_aside: list[Path] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)  # Polars hands batches over from several threads

    @property
    def rejected(self) -> dict[str, pl.DataType]:
        """The columns of rows set aside."""
        file = {"file": pl.String()} if self.files else {}
        return {"source_row": pl.UInt64(), **file, "reason": pl.String(), "text": pl.String()}

    def passing(self, rows: int) -> None:
        """So many more are looked at."""
        with self.lock:
            self.passed += rows
            share = self.passed / self.expected if self.expected else 0.0
        self.tell(min(share, 1.0) * (1.0 if self.in_order else TO_SORT))

    def keep(self, rows: pl.DataFrame, naive: int) -> None:
        """Count kept rows, in the source's order: `source_row`, `arrival_s` and others."""
        stretch = _stretch(rows) if rows.height else None
        with self.lock:
            if stretch is not None:
                self.stretches.append(stretch)
                self.in_order &= not stretch.inversions
            self.rows += rows.height
            self.naive += naive
            for column in rows.iter_columns():
                self.values[column.name] += rows.height - column.null_count()

    def order(self) -> tuple[int, float]:
        """Kept rows earlier than the one before, and the earliest arrival; rows were kept."""
        stretches = sorted(self.stretches)
        between = sum(after.first_s < before.last_s for before, after in pairwise(stretches))
        return between + sum(s.inversions for s in stretches), min(s.earliest_s for s in stretches)

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


def _stretch(rows: pl.DataFrame) -> Stretch:
    arrivals = rows["arrival_s"].to_numpy()
    inversions = int(np.count_nonzero(arrivals[1:] < arrivals[:-1]))
    return Stretch(
        rows.item(0, "source_row"), float(arrivals[0]), float(arrivals[-1]), float(arrivals.min()), inversions
    )

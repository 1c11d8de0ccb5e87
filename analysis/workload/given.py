"""What every group of statistics is computed from."""

from dataclasses import dataclass

import polars as pl

from lmaas.analysis.progress import Tell, silent
from lmaas.analysis.trace import Trace, TraceMeta
from lmaas.analysis.windows import DAY_S

from .summary import Summary
from .tables import GROUPINGS, OTHERS, TOP, folded

IN_MEMORY_ROWS = 5_000_000  # percentiles of more are read from histograms


def in_memory(rows: int) -> bool:
    """Whether so many rows are looked at one by one: their percentiles and distinct values are exact."""
    return rows <= IN_MEMORY_ROWS


@dataclass(frozen=True)
class Given:
    """A trace, what one pass over it left, `tables.totals` of each dimension, and which of these to break down by."""

    trace: Trace
    summary: Summary
    totals: dict[str, pl.DataFrame]
    by: tuple[str, ...] = GROUPINGS
    tell: Tell = silent  # takes how much of the group at hand is done

    @property
    def meta(self) -> TraceMeta:
        """What is known of the trace beside its rows."""
        return self.trace.meta

    @property
    def states(self) -> dict[str, pl.DataFrame]:
        """The partial states, as `summary.STATES` names them."""
        return self.summary.states

    @property
    def window_s(self) -> float:
        """Length of the windows of loads, seconds."""
        return self.summary.keys.window_s

    @property
    def at(self) -> tuple[float, float]:
        """First and last arrival, seconds since the trace's epoch."""
        return self.summary.first_s or 0.0, self.summary.last_s or 0.0

    @property
    def in_memory(self) -> bool:
        """Whether the rows fit in memory, so that percentiles are exact."""
        return in_memory(self.summary.rows)

    @property
    def clock_s(self) -> float:
        """Seconds since a Monday midnight UTC at arrival_s = 0; 0 where the epoch is not known."""
        # 1970-01-01 was a Thursday
        epoch = self.meta.epoch
        return (epoch.timestamp() + 3 * DAY_S) % (7 * DAY_S) if epoch else 0.0

    def group(self, dimension: str) -> pl.Expr:
        """The dimension of a row as text, with the groups beyond the largest 20 together; 'all' is one group."""
        return pl.lit("all") if dimension == "all" else folded(dimension, self.totals[dimension])

    def label(self, dimension: str) -> pl.Expr:
        """`group` for the rows of a state, whose names are text already."""
        if dimension == "all":
            return pl.lit("all")
        top = self.totals[dimension]["name"].head(TOP).implode()
        return pl.when(pl.col(dimension).is_in(top)).then(dimension).otherwise(pl.lit(OTHERS))

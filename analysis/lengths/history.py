"""What was known of a tenant, a service and a session when a request arrives: outcomes only once they are there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

RECENT = 32  # completed requests whose mean output is a tenant's (service's, session's) recent length
REMEMBERED_TURNS = 20_000  # of sessions, the latest: what a predictor takes along from its training
SCHEMA = {
    "service": pl.String, "tenant": pl.String, "session": pl.String,
    "arrival_s": pl.Float64, "done_s": pl.Float64, "input_tokens": pl.Float64, "output_tokens": pl.Float64,
}  # fmt: skip
NO_SESSION = "-1"  # of `session` as numbers


def events(requests: pl.DataFrame) -> pl.DataFrame:
    """The columns of SCHEMA, null where `requests` has them not; sessions from `session_id`, else `session`.

    done_s is at least arrival_s: what is done before it arrives is a broken clock, and would reveal the answer.
    """
    there = set(requests.columns)
    session = next((c for c in ("session_id", "session") if c in there), None)
    named = {name: pl.col(name) if name in there else pl.lit(None) for name in SCHEMA}
    named["session"] = pl.col(session).cast(pl.String) if session else pl.lit(None)
    if session == "session":
        named["session"] = pl.when(named["session"] != NO_SESSION).then(named["session"])
    rows = requests.select(column.cast(SCHEMA[name]).alias(name) for name, column in named.items())
    return rows.with_columns(
        done_s=pl.when(pl.col("done_s").is_not_null()).then(pl.max_horizontal("done_s", "arrival_s"))
    )


def remembered(training: pl.DataFrame) -> pl.DataFrame:
    """Of rows that are all done those that later predictions look back on (SCHEMA)."""
    rows = events(training).sort("done_s", "arrival_s", "output_tokens").with_row_index("row")
    last = rows.group_by("service", "tenant").tail(RECENT)
    turns = rows.filter(pl.col("session").is_not_null()).sort("arrival_s").tail(REMEMBERED_TURNS)
    return pl.concat([last, turns.select(last.columns)]).unique("row").sort("row").drop("row")


@dataclass(frozen=True, eq=False)
class Past:
    """Requests of which features are wanted, and what happened before and among them.

    `requests` tells outcomes where it has output_tokens and done_s; `memory` (SCHEMA) what came before its first row.
    """

    rows: pl.DataFrame
    arrival_s: np.ndarray
    order: np.ndarray | None  # of the rows by arrival; None: they are in it
    events: pl.DataFrame

    @classmethod
    def of(cls, requests: pl.DataFrame, memory: pl.DataFrame) -> "Past":
        """From `requests` in any order."""
        rows = events(requests)
        arrival_s = rows["arrival_s"].to_numpy()
        before = memory.filter(pl.col("arrival_s") < arrival_s.min()) if len(arrival_s) else memory
        order = None if (arrival_s[1:] >= arrival_s[:-1]).all() else np.argsort(arrival_s, kind="stable")
        return cls(rows, arrival_s, order, pl.concat([before, rows]) if before.height else rows)

    def outputs(self, *by: str) -> tuple[np.ndarray, np.ndarray]:
        """(mean of the last RECENT outputs, the last one) of the same `by` done before each arrival; NaN: none yet.

        A null tenant is a tenant; a request without session has none.
        """
        from .walk import recent_outputs  # deferred: numba takes half a second

        out = np.full((2, len(self.arrival_s)), np.nan)
        keys, count = _codes(self.events, by)
        own = keys[len(keys) - len(self.arrival_s) :]
        done = (self.events["output_tokens"].is_not_null() & self.events["done_s"].is_not_null()).to_numpy()
        done &= keys >= 0
        outcomes = [self.events[name].to_numpy()[done] for name in ("done_s", "arrival_s", "output_tokens")]
        done_key, order = keys[done], _order(*outcomes)
        if not len(order):
            return out[0], out[1]
        sizes = np.bincount(done_key, minlength=count + 1)
        first = np.concatenate([[0], np.cumsum(sizes + 1)[:-1]]).astype(np.int64)
        # a request without key looks up the last one, which nothing completes under
        own = np.where(own < 0, count, own)
        done_s, tokens = outcomes[0][order], outcomes[2][order]
        at, own = self._in_order(own)
        totals, counts = np.zeros(len(order) + count + 1), np.zeros(count + 1, np.int64)
        recent_outputs(at, own, done_s, done_key[order], tokens, first, totals, counts, RECENT, out[0], out[1])
        return self._back(out[0]), self._back(out[1])

    @cached_property
    def session_outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """`outputs` of the session."""
        return self.outputs("session")

    @cached_property
    def turns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(requests of the session before it, seconds since the last, its input tokens); NaN where there is none."""
        from .walk import turns_so_far

        out = np.full((3, len(self.arrival_s)), np.nan)
        keys, count = _codes(self.events, ("session",))
        own = keys[len(keys) - len(self.arrival_s) :]
        event_s, tokens = self.events["arrival_s"].to_numpy(), self.events["input_tokens"].fill_null(0).to_numpy()
        order = np.argsort(event_s, kind="stable")
        state = np.zeros((3, count + 1))
        at, own = self._in_order(own)
        turns_so_far(at, own, event_s[order], keys[order], tokens[order], *state, *out)
        turn, gap_s, previous = (self._back(column) for column in out)
        return turn, gap_s, previous

    def _in_order(self, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (self.arrival_s, key) if self.order is None else (self.arrival_s[self.order], key[self.order])

    def _back(self, column: np.ndarray) -> np.ndarray:
        """In the order of the rows."""
        if self.order is None:
            return column
        placed = np.empty_like(column)
        placed[self.order] = column
        return placed


def _order(done_s: np.ndarray, arrival_s: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """By done_s; of those done at one instant by the rest, so that the order of rows does not matter."""
    order = np.argsort(done_s, kind="stable")
    sorted_s = done_s[order]
    return np.lexsort((tokens, arrival_s, done_s)) if (sorted_s[1:] == sorted_s[:-1]).any() else order


def _codes(rows: pl.DataFrame, by: Sequence[str]) -> tuple[np.ndarray, int]:
    """(i8 by row: the same for rows alike in `by`, -1 without session; how many there are)."""
    count, keys = 1, np.zeros(rows.height, np.int64)
    for name in by:
        levels = rows[name].unique().drop_nulls().sort()
        coded = rows[name].cast(pl.Enum(levels)).to_physical().cast(pl.Int64)
        null = -1 if name == "session" else len(levels)
        keys = keys * (len(levels) + 1) + coded.fill_null(null).to_numpy()
        count *= len(levels) + 1
    if count > 4 * rows.height + 1000:  # services x tenants that never meet
        found, keys = np.unique(keys, return_inverse=True)
        count = len(found)
    return keys, count

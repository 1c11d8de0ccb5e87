"""What happened: arrays by request, and the life of every replica."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from . import columns as c
from .kernel.layout import DONE
from .profile import Profile

_COLUMNS = (
    "status", "record", "pool", "preemptions", "restarts", "tries", "cached_tokens", "prefilled", "arrival_s",
    "admitted_s", "first_s", "done_s", "network_s", "hold_s", "transfer_s",
)  # fmt: skip
_NAMED = {"cached_tokens": "cached"}
STATES = ("starting", "active", "draining", "donated", "off")


@dataclass(frozen=True)
class Outcome:
    """Arrays aligned with the requests, and the replicas' lives.

    status i4 (columns.UNSERVED ... NOT_SENT), record i4 (row in `replicas`), pool, preemptions, restarts, tries i4
    (sent again), cached_tokens i8 (prompt tokens found in prefix caches, over all admissions), prefilled i4 (1 + record
    of the replica of a prefill lane that it came from, 0: none); arrival_s f8 (of a session's later turns, when they
    were sent), admitted_s, first_s, done_s f8 at the replica, NaN where it did not happen; network_s, hold_s,
    transfer_s f8 (from a prefill lane to a decode pool). replicas: record, pool, replica, profile (row in `profiles`),
    gpus; a reshaped replica goes on under a record of its own. spans: record, pool, replica, state (one of STATES but
    off), from_s, to_s. busy_s f8 by record. actions_s f8: when a replica was started, taken back, reclaimed, donated or
    drained, one entry each. denied: starts by pool that found no machine; denied_down: those of them whose
    region was down. end_s: when the last request ended, if by giving up, or the last arrival.
    """

    status: np.ndarray
    record: np.ndarray
    pool: np.ndarray
    preemptions: np.ndarray
    restarts: np.ndarray
    tries: np.ndarray
    cached_tokens: np.ndarray
    arrival_s: np.ndarray
    admitted_s: np.ndarray
    first_s: np.ndarray
    done_s: np.ndarray
    network_s: np.ndarray
    hold_s: np.ndarray
    transfer_s: np.ndarray
    prefilled: np.ndarray
    replicas: pl.DataFrame
    profiles: tuple[Profile, ...]
    spans: pl.DataFrame
    busy_s: np.ndarray
    actions_s: np.ndarray
    denied: np.ndarray
    denied_down: np.ndarray
    end_s: float


@dataclass
class Lives:
    """The log of every replica: who it is, and its changes of state."""

    who: list[tuple[int, int, int, int]] = field(default_factory=list)  # (pool, index, profile, gpus) by record
    log: list[list[tuple[float, int]]] = field(default_factory=list)  # (time, row in STATES) by record
    busy_s: dict[int, float] = field(default_factory=dict)

    def born(self, pool: int, index: int, profile: int, gpus: int) -> int:
        """A new record."""
        self.who.append((pool, index, profile, gpus))
        self.log.append([])
        return len(self.who) - 1

    def note(self, record: int, t: float, state: str) -> None:
        """The replica is in `state` from t on; what was promised for later will not happen."""
        kept = [(at, what) for at, what in self.log[record] if at <= t]
        self.log[record] = [*kept, (t, STATES.index(state))]

    def promise(self, record: int, t: float, state: str) -> None:
        """The replica will be in `state` from t on, unless something else comes."""
        self.log[record].append((t, STATES.index(state)))

    def replicas(self) -> pl.DataFrame:
        """record, pool, replica, profile, gpus."""
        schema = dict.fromkeys(("pool", "replica", "profile", "gpus"), pl.Int64)
        table = pl.DataFrame(self.who, schema=schema, orient="row").with_row_index("record")
        return table.with_columns(pl.col("record").cast(pl.Int64))

    def spans(self, end_s: float) -> pl.DataFrame:
        """record, pool, replica, state, from_s, to_s of every state but off; what lasts ends at end_s."""
        rows = [(record, at, state) for record, log in enumerate(self.log) for at, state in log]
        schema = {"record": pl.Int64, "from_s": pl.Float64, "state": pl.Int64}
        return (
            pl.DataFrame(rows, schema=schema, orient="row")
            .with_row_index("order")
            .sort("record", "from_s", "order")
            .with_columns(to_s=pl.col("from_s").shift(-1).over("record").fill_null(end_s))
            .with_columns(to_s=pl.col("to_s").clip(upper_bound=end_s))
            .filter((pl.col("state") < STATES.index("off")) & (pl.col("to_s") > pl.col("from_s")))
            .with_columns(state=pl.col("state").replace_strict(dict(enumerate(STATES)), return_dtype=pl.String))
            .join(self.replicas(), on="record", how="left")
            .select("record", "pool", "replica", "state", "from_s", "to_s")
        )


class Collected:
    """Finished rows (layout.DONE) gathered by request number, a buffer at a time."""

    def __init__(self, n: int) -> None:
        # untouched zeros: touching memory for the first time costs as much as replaying
        self.rows = np.zeros(n, DONE)

    def add(self, done: np.ndarray) -> None:
        """Put a buffer of finished rows into their places."""
        as_bytes = np.dtype((np.void, DONE.itemsize))  # numpy copies structures field by field, thirteen times slower
        self.rows.view(as_bytes)[done["request"]] = np.asarray(done).view(as_bytes)

    def last_s(self) -> float:
        """When the last request ended, if it was by giving up; asked before `columns`, which keeps completions only."""
        return float(self.rows["done_s"].max(initial=0.0))

    def columns(self, arrival_s: np.ndarray) -> dict[str, np.ndarray]:
        """Outcome's arrays, views of one table; arrival_s: of those that never ended."""
        rows = self.rows
        unserved = rows["status"] == c.UNSERVED
        rows["record"][unserved] = rows["pool"][unserved] = -1
        rows["arrival_s"][unserved] = arrival_s[unserved]
        lost = rows["status"] != c.OK
        for name in ("admitted_s", "first_s", "done_s"):
            rows[name][lost] = np.nan
        return {name: rows[_NAMED.get(name, name)] for name in _COLUMNS}

"""What happened: arrays by request, and the life of every replica."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from . import columns as c

STATES = ("starting", "active", "draining", "donated", "off")


@dataclass(frozen=True)
class Outcome:
    """Arrays aligned with the requests, and the replicas' lives.

    status i8 (columns.OK ... NOT_SENT), record i8 (row in `replicas`), pool i8, preemptions, restarts, tries i8 (sent
    again), cached_tokens i8 (prompt tokens found in prefix caches, over all admissions); arrival_s f8 (of a session's
    later turns, when they were sent), admitted_s, first_s, done_s f8 at the replica, NaN where it did not happen;
    network_s, hold_s f8. replicas: record, pool, replica, profile (row in `profiles`), gpus. spans: record, pool,
    replica, state (one of STATES but off), from_s, to_s. busy_s f8 by record. actions_s f8: when a replica was started,
    taken back, reclaimed, donated or drained, one entry each. denied: starts by pool that found no machine.
    end_s: last completion, or the last arrival.
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
    replicas: pl.DataFrame
    spans: pl.DataFrame
    busy_s: np.ndarray
    actions_s: np.ndarray
    denied: np.ndarray
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


_INTS = {
    "record": "record", "pool": "pool", "preemptions": "preemptions", "restarts": "restarts", "tries": "tries",
    "cached_tokens": "cached",
}  # fmt: skip
_FLOATS = ("arrival_s", "admitted_s", "first_s", "done_s", "network_s", "hold_s")


def by_request(done: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """The kernel's finished rows (layout.DONE) as arrays of n requests; status UNSERVED where there is no row."""
    at = done.request
    columns: dict[str, np.ndarray] = {"status": np.full(n, c.UNSERVED, np.int64)}
    columns["status"][at] = done.status
    for name, source in _INTS.items():
        columns[name] = np.full(n, -1 if name in ("record", "pool") else 0, np.int64)
        columns[name][at] = done[source]
    served = done.status == c.OK
    for name in _FLOATS:
        columns[name] = np.full(n, np.nan)
        happened = np.isfinite(done[name]) & (served | (name not in ("admitted_s", "first_s", "done_s")))
        columns[name][at] = np.where(happened, done[name], np.nan)
    return columns

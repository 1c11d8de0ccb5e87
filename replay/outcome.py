"""What happened: arrays by request, and the life of every replica."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from . import columns as c
from .kernel import layout as k
from .kernel.layout import DONE
from .lifecycle import Lifecycle
from .profile import Profile
from .requests import Requests

_COLUMNS = (
    "status", "record", "pool", "preemptions", "restarts", "tries", "cached_tokens", "prefilled", "arrival_s",
    "admitted_s", "first_s", "done_s", "network_s", "hold_s", "transfer_s",
)  # fmt: skip
_NAMED = {"cached_tokens": "cached"}


@dataclass(frozen=True)
class Outcome:
    """Arrays aligned with the requests, and the replicas' lives.

    status i4 (columns.UNSERVED ... NOT_SENT), record i4 (row in `replicas`), pool, preemptions, restarts, tries i4
    (sent again), cached_tokens i8 (prompt tokens found in prefix caches, over all admissions), prefilled i4 (1 + record
    of the replica of a prefill lane that it came from, 0: none); arrival_s f8 (of a session's later turns, when they
    were sent), admitted_s, first_s, done_s f8 at the replica, NaN where it did not happen; network_s, hold_s,
    transfer_s f8 (from a prefill lane to a decode pool). replicas: record, pool, replica, profile (row in `profiles`),
    gpus; a reshaped replica goes on under a record of its own. spans: record, pool, replica, state (lives.STATES but
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


def outcome_of(requests: Requests, collected: Collected, life: Lifecycle, begin_s: float) -> Outcome:
    """The outcome of a replay that is over."""
    last_s, columns = collected.last_s(), collected.columns(requests.arrival_s)
    if requests.follow is not None:
        fly, later = life.state.fly, np.isin(np.arange(len(requests)), requests.follow)
        waiting = np.zeros(len(requests), bool)
        waiting[fly.request[(fly.phase != k.ELSEWHERE) & (fly.gone == 0)]] = True
        columns["status"][(columns["status"] == c.UNSERVED) & later & ~waiting] = c.NOT_SENT
    end = max(begin_s, last_s, float(requests.arrival_s[-1]) if len(requests) else begin_s)
    life.harvest()
    lives, rep = life.lives, life.state.rep
    for slot in np.flatnonzero(rep.state != k.FREE):
        lives.busy_s[int(rep.record[slot])] = float(rep.busy_s[slot])
    return Outcome(
        **columns,
        replicas=lives.replicas(),
        profiles=life.world.profiles,
        spans=lives.spans(end),
        busy_s=np.array([lives.busy_s.get(i, 0.0) for i in range(len(lives.who))]),
        actions_s=np.array(life.actions_s, np.float64),
        denied=life.denied,
        denied_down=life.denied_down,
        end_s=end,
    )

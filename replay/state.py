"""Everything a replay remembers, as arrays: made once, grown between kernel calls."""

from typing import NamedTuple

import numpy as np
from numba import f8, i8, types

from . import columns as c


class State(NamedTuple):
    """Arrays of one replay: R replica slots, S sequences, Q pools, F in flight, A arrivals, N outputs."""

    ctl: np.ndarray  # i8[CONTROL_INTS]
    clock: np.ndarray  # f8[CONTROL_FLOATS]
    rep: np.ndarray  # i8[R, REPLICA_INTS]
    rep_t: np.ndarray  # f8[R, REPLICA_FLOATS]
    rows: np.ndarray  # f8[R, VIEW_COLUMNS], rows as routers see them
    slot_of: np.ndarray  # i8[R], view row -> replica slot
    stack: np.ndarray  # i8[R, 2S], admission order, with gaps of requests that left
    done_key: np.ndarray  # i8[R, S], completion heap: R_STEPS at which a request is complete
    done_id: np.ndarray  # i8[R, S]
    out_key: np.ndarray  # i8[R, 2S], outlive heap: R_STEPS at which a prediction is outlived
    out_id: np.ndarray  # i8[R, 2S]
    plan_id: np.ndarray  # i8[R, S + 1], prefill chunks of the iteration in progress
    plan_take: np.ndarray  # i8[R, S + 1]
    residue: np.ndarray  # i8[R, largest block], decoding requests by (computed - R_STEPS) mod block
    events: np.ndarray  # i8[R], heap of slots by next event
    event_at: np.ndarray  # i8[R], slot -> position in `events`, -1: none
    event_t: np.ndarray  # f8[R]
    idle: np.ndarray  # i8[R], slots that may start an iteration at this instant
    is_idle: np.ndarray  # i8[R]
    pool: np.ndarray  # i8[Q, POOL_INTS]
    seen: np.ndarray  # f8[Q, SEEN_COLUMNS], filled when the driver looks
    memory: np.ndarray  # f8[Q, 8], the router's own, a row a pool
    scores: np.ndarray  # f8[R]
    fly: np.ndarray  # i8[F, FLIGHT_INTS]
    fly_t: np.ndarray  # f8[F, FLIGHT_FLOATS]
    free: np.ndarray  # i8[F], unused flight slots
    latency: np.ndarray  # f8[profiles, LATENCY_COLUMNS]
    token_s: np.ndarray  # f8[profiles, largest max_batch_tokens + 1], G(n)
    extend_at: np.ndarray  # i8[E], tokens generated: grid of `extend_by`
    extend_by: np.ndarray  # i8[kinds, E], tokens added to a prediction that was outlived
    params: np.ndarray  # f8[:], the router's parameters
    request: np.ndarray  # f8[REQUEST_COLUMNS], scratch
    arrival: np.ndarray  # f8[A]
    what: np.ndarray  # i8[A, ARRIVAL_COLUMNS]
    done: np.ndarray  # i8[N, OUT_INTS]
    done_t: np.ndarray  # f8[N, OUT_FLOATS]
    no_ahead: np.ndarray  # f8[0, 0], what the router did not declare
    no_flight: np.ndarray  # f8[0, 0]
    no_start: np.ndarray  # i8[0]


_FLOATS = {
    "clock": 1, "rep_t": 2, "rows": 2, "event_t": 1, "memory": 2, "seen": 2, "scores": 1, "fly_t": 2, "latency": 2,
    "token_s": 2, "params": 1, "request": 1, "arrival": 1, "done_t": 2, "no_ahead": 2, "no_flight": 2,
}  # fmt: skip
_TABLES = {
    "rep", "stack", "done_key", "done_id", "out_key", "out_id", "plan_id", "plan_take", "residue", "pool",
    "fly", "extend_by", "what", "done",
}  # fmt: skip


def _array_type(field: str) -> types.Type:
    if field in _FLOATS:
        return f8[::1] if _FLOATS[field] == 1 else f8[:, ::1]
    return i8[:, ::1] if field in _TABLES else i8[::1]


ARRAYS = types.Tuple([_array_type(field) for field in State._fields])  # type: ignore[no-untyped-call]


def empty_state(slots: int, seqs: int, block: int, pools: int, flights: int, outputs: int) -> State:
    """A state with room for `slots` replicas of up to `seqs` sequences and `flights` requests in flight.

    The caller fills latency, token_s, extension tables, router parameters and pools, then adds replicas.
    """
    ints, floats = np.zeros, np.zeros
    i, f = np.int64, np.float64
    state = State(
        ctl=ints(c.CONTROL_INTS, i),
        clock=floats(c.CONTROL_FLOATS, f),
        rep=ints((slots, c.REPLICA_INTS), i),
        rep_t=np.full((slots, c.REPLICA_FLOATS), np.inf),
        rows=floats((slots, c.VIEW_COLUMNS), f),
        slot_of=np.arange(slots, dtype=i),
        stack=ints((slots, 2 * seqs), i),
        done_key=ints((slots, seqs), i),
        done_id=ints((slots, seqs), i),
        out_key=ints((slots, 2 * seqs), i),
        out_id=ints((slots, 2 * seqs), i),
        plan_id=ints((slots, seqs + 1), i),
        plan_take=ints((slots, seqs + 1), i),
        residue=ints((slots, block), i),
        events=ints(slots, i),
        event_at=np.full(slots, -1, i),
        event_t=np.full(slots, np.inf),
        idle=ints(slots, i),
        is_idle=ints(slots, i),
        pool=ints((pools, c.POOL_INTS), i),
        seen=floats((pools, c.SEEN_COLUMNS), f),
        memory=np.full((pools, 8), -1.0),
        scores=floats(slots, f),
        fly=ints((flights, c.FLIGHT_INTS), i),
        fly_t=floats((flights, c.FLIGHT_FLOATS), f),
        free=np.arange(flights, dtype=i)[::-1].copy(),
        latency=floats((1, c.LATENCY_COLUMNS), f),
        token_s=floats((1, 1), f),
        extend_at=ints(1, i),
        extend_by=np.ones((1, 1), i),
        params=floats(1, f),
        request=floats(c.REQUEST_COLUMNS, f),
        arrival=floats(0, f),
        what=ints((0, c.ARRIVAL_COLUMNS), i),
        done=ints((outputs, c.OUT_INTS), i),
        done_t=floats((outputs, c.OUT_FLOATS), f),
        no_ahead=floats((0, 0), f),
        no_flight=floats((0, 0), f),
        no_start=ints(0, i),
    )
    state.ctl[c.C_FREE] = flights
    state.clock[c.T_READY] = np.inf
    state.clock[c.T_NOW] = -np.inf
    state.rep[:, c.R_ROW] = np.arange(slots)
    state.rep[:, [c.R_HEAD, c.R_TAIL, c.R_PARTIAL]] = -1
    state.pool[:, [c.Q_HEAD, c.Q_TAIL]] = -1
    return state


def _longer(array: np.ndarray, rows: int) -> np.ndarray:
    grown = np.zeros((rows, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def more_flights(state: State, flights: int) -> State:
    """The same state with room for `flights` requests in flight."""
    have = len(state.fly)
    free = _longer(state.free, flights)
    n = state.ctl[c.C_FREE]
    free[n : n + flights - have] = np.arange(flights - 1, have - 1, -1)
    state.ctl[c.C_FREE] = n + flights - have
    return state._replace(fly=_longer(state.fly, flights), fly_t=_longer(state.fly_t, flights), free=free)


_BY_SLOT = (
    "rep", "rep_t", "stack", "done_key", "done_id", "out_key", "out_id", "plan_id", "plan_take", "residue", "event_t",
    "is_idle", "event_at",
)  # fmt: skip


def more_slots(state: State, counts: np.ndarray) -> State:
    """The same state with counts[p] replica slots for pool p; the caller then arranges every pool's rows.

    counts: i8[Q], none below what the pool has. Slots of a pool are contiguous, so all of them may move.
    """
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    old_first, old_counts = state.pool[:, c.Q_FIRST].copy(), state.pool[:, c.Q_SLOTS].copy()
    moved = np.concatenate(
        [np.arange(n) + to for n, to in zip(old_counts, first, strict=True)] or [np.zeros(0, np.int64)]
    )
    seqs, block = state.done_key.shape[1], state.residue.shape[1]
    fresh = empty_state(int(counts.sum()), seqs, block, len(state.pool), 0, 0)
    old = np.concatenate([np.arange(n) + at for n, at in zip(old_counts, old_first, strict=True)])
    grown: dict[str, np.ndarray] = {}
    for name in _BY_SLOT:
        grown[name] = getattr(fresh, name)
        grown[name][moved] = getattr(state, name)[old]
    to = np.full(len(state.rep), -1, np.int64)
    to[old] = moved
    for name in ("events", "idle"):
        n = state.ctl[c.C_EVENTS if name == "events" else c.C_IDLE]
        grown[name] = getattr(fresh, name)
        grown[name][:n] = to[getattr(state, name)[:n]]
    here = state.fly[:, c.F_REPLICA] >= 0
    state.fly[here, c.F_REPLICA] = to[state.fly[here, c.F_REPLICA]]
    state.pool[:, c.Q_FIRST], state.pool[:, c.Q_SLOTS] = first, counts
    for p, (at, n) in enumerate(zip(first, counts, strict=True)):
        grown["rep"][at : at + n, c.R_POOL] = p
    grown["rep"][:, c.R_ROW] = np.arange(len(grown["rep"]))
    return state._replace(**grown, rows=fresh.rows, slot_of=fresh.slot_of, scores=fresh.scores)

"""Pools and replicas changing, jitted: activation, draining, the pool's queue, the choice of a replica."""

import numpy as np

from . import columns as c
from .jit import Route, jit, seldom
from .replica import finished, look, publish, receive
from .runs import blocks_of
from .state import State


@seldom
def arrange(st: State, pool: int) -> None:
    """Give the pool's active replicas its first view rows, by index; called when one joins or leaves."""
    first, slots = st.pool[pool, c.Q_FIRST], st.pool[pool, c.Q_SLOTS]
    n = 0
    for r in range(first, first + slots):
        if st.rep[r, c.R_STATE] == c.ACTIVE:
            at = n
            while at > 0 and st.rep[st.slot_of[first + at - 1], c.R_INDEX] > st.rep[r, c.R_INDEX]:
                st.slot_of[first + at] = st.slot_of[first + at - 1]
                at -= 1
            st.slot_of[first + at] = r
            n += 1
    st.pool[pool, c.Q_ACTIVE] = n
    for r in range(first, first + slots):
        if st.rep[r, c.R_STATE] != c.ACTIVE:
            st.slot_of[first + n] = r
            n += 1
    for row in range(first, first + slots):
        _write_row(st, row)


@jit
def _write_row(st: State, row: int) -> None:
    r = st.slot_of[row]
    st.rep[r, c.R_ROW] = row
    st.rows[row, c.INDEX] = st.rep[r, c.R_INDEX]
    st.rows[row, c.PROFILE] = st.rep[r, c.R_PROFILE]
    st.rows[row, c.KV_CAPACITY_TOKENS] = st.rep[r, c.R_BLOCKS] * st.rep[r, c.R_BLOCK]
    st.rows[row, c.MAX_SEQS] = st.rep[r, c.R_MAX_SEQS]
    publish(st, r)


@jit
def take_arrival(st: State) -> int:
    """Move the next arrival of the chunk into a flight slot; returns the slot."""
    a = st.ctl[c.C_NEXT]
    st.ctl[c.C_NEXT] = a + 1
    st.ctl[c.C_FREE] -= 1
    st.ctl[c.C_IN_FLIGHT] += 1
    q = st.free[st.ctl[c.C_FREE]]
    st.fly[q, c.F_REQUEST] = st.ctl[c.C_BASE] + a
    st.fly[q, c.F_INPUT] = st.what[a, c.A_INPUT]
    st.fly[q, c.F_OUTPUT] = st.what[a, c.A_OUTPUT]
    st.fly[q, c.F_PREDICTED] = st.what[a, c.A_PREDICTED]
    st.fly[q, c.F_KIND] = st.what[a, c.A_KIND]
    st.fly[q, c.F_POOL] = st.what[a, c.A_POOL]
    st.fly[q, c.F_COMPUTED] = 0
    st.fly[q, c.F_GENERATED] = 0
    st.fly[q, c.F_REPLICA] = -1
    st.fly[q, c.F_RECORD] = -1
    st.fly[q, c.F_OUTLIVES] = -1
    st.fly[q, c.F_PREEMPTIONS] = 0
    st.fly[q, c.F_PHASE] = c.P_WAITING
    st.fly_t[q, c.F_ARRIVAL] = st.arrival[a]
    st.fly_t[q, c.F_ADMITTED] = np.inf
    st.fly_t[q, c.F_FIRST] = np.inf
    pool = st.what[a, c.A_POOL]
    st.pool[pool, c.Q_ARRIVED] += 1
    st.pool[pool, c.Q_ARRIVED_INPUT] += st.what[a, c.A_INPUT]
    return q


@jit
def send(st: State, route: Route, q: int, t: float) -> int:
    """Route q within its pool, or queue it there where no replica is active; DONE or BAD_ROUTE."""
    pool = st.fly[q, c.F_POOL]
    active = st.pool[pool, c.Q_ACTIVE]
    if active == 0:
        _queue_in_pool(st, pool, q)
        return c.DONE
    first = st.pool[pool, c.Q_FIRST]
    if st.ctl[c.C_LOOK] == 1:  # O(replicas) an arrival: token-aware scores change with time
        for row in range(first, first + active):
            look(st, st.slot_of[row], t)
    st.request[c.NOW] = t
    st.request[c.INPUT_TOKENS] = st.fly[q, c.F_INPUT]
    st.request[c.PREDICTED_TOKENS] = st.fly[q, c.F_PREDICTED]
    st.request[c.POOL] = pool
    st.request[c.KIND] = st.fly[q, c.F_KIND]
    scores = st.scores[first : first + active]
    rows = st.rows[first : first + active]
    chosen = route(st.request, rows, st.no_ahead, st.no_flight, st.no_start, st.params, st.memory[pool], scores)
    if chosen == c.SCORES:
        chosen = 0
        for i in range(1, active):
            if scores[i] < scores[chosen]:
                chosen = i
    if chosen < 0 or chosen >= active:
        return c.BAD_ROUTE
    r = st.slot_of[first + chosen]
    most = st.fly[q, c.F_INPUT] + st.fly[q, c.F_OUTPUT] - 1
    if blocks_of(most, st.rep[r, c.R_BLOCK]) > st.rep[r, c.R_BLOCKS]:
        st.fly[q, c.F_RECORD] = st.rep[r, c.R_RECORD]
        st.pool[pool, c.Q_REJECTED] += 1
        finished(st, q, c.REJECTED, t)
    else:
        receive(st, r, q, t)
    return c.DONE


@jit
def _queue_in_pool(st: State, pool: int, q: int) -> None:
    st.fly[q, c.F_NEXT] = -1
    if st.pool[pool, c.Q_TAIL] < 0:
        st.pool[pool, c.Q_HEAD] = q
    else:
        st.fly[st.pool[pool, c.Q_TAIL], c.F_NEXT] = q
    st.pool[pool, c.Q_TAIL] = q
    st.pool[pool, c.Q_QUEUED] += 1


@seldom
def activate(st: State, route: Route, r: int, t: float) -> int:
    """The replica joins its pool and the pool's queue is routed; DONE or BAD_ROUTE."""
    pool = st.rep[r, c.R_POOL]
    st.rep[r, c.R_STATE] = c.ACTIVE
    st.rep_t[r, c.R_READY] = np.inf
    arrange(st, pool)
    q = st.pool[pool, c.Q_HEAD]
    st.pool[pool, c.Q_HEAD] = -1
    st.pool[pool, c.Q_TAIL] = -1
    st.pool[pool, c.Q_QUEUED] = 0
    while q >= 0:
        following = st.fly[q, c.F_NEXT]
        if send(st, route, q, t) == c.BAD_ROUTE:
            return c.BAD_ROUTE
        q = following
    return c.DONE


@seldom
def next_ready(st: State) -> int:
    """Refresh the clock's T_READY; returns the first slot ready then, by pool and index, or -1."""
    best = -1
    for r in range(len(st.rep)):
        if st.rep[r, c.R_STATE] == c.STARTING and (best < 0 or st.rep_t[r, c.R_READY] < st.rep_t[best, c.R_READY]):
            best = r
    st.clock[c.T_READY] = st.rep_t[best, c.R_READY] if best >= 0 else np.inf
    if best >= 0:
        for r in range(len(st.rep)):
            same = st.rep[r, c.R_STATE] == c.STARTING and st.rep_t[r, c.R_READY] == st.rep_t[best, c.R_READY]
            earlier = st.rep[r, c.R_POOL] == st.rep[best, c.R_POOL] and st.rep[r, c.R_INDEX] < st.rep[best, c.R_INDEX]
            if same and earlier:
                best = r
    return best


@seldom
def drain(st: State, r: int, t: float) -> None:
    """No new requests for the replica; off at once where it has none, else when its last one completes."""
    if st.rep[r, c.R_RUNNING] == 0 and st.rep[r, c.R_WAITING] == 0:
        st.rep[r, c.R_STATE] = c.ENDED
        st.rep_t[r, c.R_OFF] = t
    else:
        st.rep[r, c.R_STATE] = c.DRAINING
    arrange(st, st.rep[r, c.R_POOL])


@seldom
def look_at_all(st: State, t: float) -> None:
    """Bring every live replica's token and KV columns to time t and sum them by pool into `seen`."""
    st.seen[:] = 0.0
    for r in range(len(st.rep)):
        state, pool, row = st.rep[r, c.R_STATE], st.rep[r, c.R_POOL], st.rep[r, c.R_ROW]
        if state == c.STARTING:
            st.seen[pool, c.S_STARTING] += 1
        elif state == c.DRAINING:
            look(st, r, t)
            st.seen[pool, c.S_DRAINING] += 1
        elif state == c.ACTIVE:
            look(st, r, t)
            st.seen[pool, c.S_ACTIVE] += 1
            st.seen[pool, c.S_WAITING] += st.rows[row, c.WAITING]
            st.seen[pool, c.S_RUNNING] += st.rows[row, c.RUNNING]
            st.seen[pool, c.S_OUTSTANDING] += st.rows[row, c.OUTSTANDING_TOKENS]
            st.seen[pool, c.S_KV] += st.rows[row, c.KV_TOKENS]
            st.seen[pool, c.S_KV_CAPACITY] += st.rows[row, c.KV_CAPACITY_TOKENS]
    for pool in range(len(st.pool)):
        st.seen[pool, c.S_QUEUED] = st.pool[pool, c.Q_QUEUED]
        st.seen[pool, c.S_ARRIVED] = st.pool[pool, c.Q_ARRIVED]
        st.seen[pool, c.S_ARRIVED_INPUT] = st.pool[pool, c.Q_ARRIVED_INPUT]
        st.seen[pool, c.S_COMPLETED] = st.pool[pool, c.Q_COMPLETED]
        st.seen[pool, c.S_COMPLETED_OUTPUT] = st.pool[pool, c.Q_COMPLETED_OUTPUT]

"""From a client to a replica: the region, the network, the hold queue, the pool's router."""

import numpy as np

from .. import columns as c
from ..jit import Route, jit
from . import layout as k
from .batch import waits_for_one_token
from .cache import hit_blocks
from .ends import load, write_out
from .heap import announce, schedule
from .lanes import fits, nearest_up
from .queues import append, enqueue, free_slot, insert, without_first
from .replica import shorten
from .state import State
from .view import best_row, look, publish


@jit
def take_arrival(st: State) -> int:
    """The next arrival of the chunk, in a flight slot."""
    a = st.ctl[0].next
    st.ctl[0].next = a + 1
    return load(st, a)  # type: ignore[no-any-return]


@jit
def arrive(st: State, route: Route, q: int, t: float) -> int:
    """q is sent by its client at t, for the first time or again; DONE_ALL or BAD_ROUTE."""
    ctl, fly = st.ctl[0], st.fly[q]
    if ctl.patient == 1:
        fly.sent_s = t
        announce(st, t + ctl.timeout_s, k.PATIENCE * k.PHASE + fly.request, q, fly.sends)
    lag = 0.0
    if fly.group >= 0:
        at = choose_pool(st, fly.group, fly.held == k.BY_TIER, t)
        fly.pool = st.choices[fly.group, at]
        lag = st.lag_s[fly.group, at]
        fly.network_s = 2.0 * lag
    if fly.stage == k.NEW and fly.tries == 0 and fly.restarts == 0:
        st.pool[fly.pool].arrived += 1
        st.pool[fly.pool].arrived_input += fly.input
    if lag > 0.0:
        travel(st, q, t + lag, k.REACHING)
        return k.DONE_ALL
    return reach(st, route, q, t)


@jit
def reach(st: State, route: Route, q: int, t: float) -> int:
    """q has come to its pool: into the hold queue, or to the router."""
    if st.fly[q].held == k.BY_TIER:
        hold(st, q, t)
        return k.DONE_ALL
    return send(st, route, q, t)


@jit
def travel(st: State, q: int, t: float, stage: int) -> None:
    """q is on its way and will be there at t."""
    st.fly[q].phase = k.TRAVELLING
    st.fly[q].stage = stage
    announce(st, t, k.ARRIVE * k.PHASE + st.fly[q].request, q, 0)


@jit
def choose_pool(st: State, group: int, home: bool, t: float) -> int:
    """Which of the group's pools, nearest first, gets a request that arrives at t (docs/replay.md, routing)."""
    if home or st.ctl[0].rule == k.HOME:
        return nearest_up(st, group)
    best, lowest = 0, np.inf
    for at in range(st.choices.shape[1]):
        if st.choices[group, at] < 0:
            break
        u = utilisation(st, st.choices[group, at], t)
        if u < st.ctl[0].threshold:
            return at
        if u < lowest:
            best, lowest = at, u
    return best


@jit
def utilisation(st: State, pool: int, t: float) -> float:
    """KV held over KV capacity of the pool's active replicas at t; 1 where there is none. O(replicas)."""
    first, active = st.pool[pool].first, st.pool[pool].active
    held, capacity = 0.0, 0.0
    for row in range(first, first + active):
        look(st, st.slot_of[row], t)
        held += st.rows[row, c.KV_TOKENS]
        capacity += st.rows[row, c.KV_CAPACITY_TOKENS]
    return held / capacity if capacity > 0.0 else 1.0


# --- hold queues ---


@jit
def hold(st: State, q: int, t: float) -> None:
    """Put q into its pool's hold queue."""
    st.ctl[0].receipts += 1
    fly, pool = st.fly[q], st.pool[st.fly[q].pool]
    fly.receipt = st.ctl[0].receipts
    fly.phase = k.HELD
    fly.since_s = t
    pool.hold = insert(st, pool.hold, q)
    pool.held += 1


@jit
def release(st: State, pool: int, n: int, t: float) -> None:
    """Send on the first n held requests of the pool, as arrivals of this instant."""
    p = st.pool[pool]
    while p.hold >= 0 and n > 0:
        q = p.hold
        p.hold = without_first(st, q)
        fly = st.fly[q]
        if fly.gone == 1:
            free_slot(st, q)
            continue
        n -= 1
        p.held -= 1
        fly.held = k.RELEASED_ONCE if fly.held == k.BY_TIER else fly.held
        if fly.admitted_s == np.inf:  # else between tokens, in a decode lane
            fly.hold_s += t - fly.since_s
        travel(st, q, t, k.RELEASED)


@jit
def release_by_rule(st: State, pool: int, t: float) -> None:
    """Once for each completion of this instant: two below the lower threshold, one below the upper."""
    u = utilisation(st, pool, t)
    n = 2 if u < st.ctl[0].release_twice_below else 1 if u < st.ctl[0].release_below else 0
    n *= st.pool[pool].ended_now
    st.pool[pool].ended_now = 0
    release(st, pool, n, t)


# --- the pool's router ---


@jit
def send(st: State, route: Route, q: int, t: float) -> int:
    """Route q within its pool, or queue it there where no replica is active; DONE_ALL or BAD_ROUTE."""
    pool = st.fly[q].pool
    active = st.pool[pool].active
    if active == 0:
        _queue_in_pool(st, pool, q)
        return k.DONE_ALL
    first = st.pool[pool].first
    chosen = best_row(st, pool, t) if st.ctl[0].linear == 1 else _ask(st, route, q, t, first, active)
    if st.ctl[0].reroute == 1 and (chosen == c.HOLD or chosen == c.OPEN):
        if chosen == c.OPEN:
            st.pool[pool].opened += 1
            st.ctl[0].wanted = 1
        hold(st, q, t)
        return k.DONE_ALL
    if chosen < 0 or chosen >= active:
        return k.BAD_ROUTE
    r = st.slot_of[first + chosen]
    if not fits(st, r, q):
        st.fly[q].record = st.rep[r].record
        st.pool[pool].rejected += 1
        write_out(st, q, c.REJECTED, t)
        free_slot(st, q)
    else:
        receive(st, r, q, t)
    return k.DONE_ALL


@jit
def _ask(st: State, route: Route, q: int, t: float, first: int, active: int) -> int:
    """The router's choice: a row of the pool, HOLD or OPEN. O(replicas) where the router scores them all."""
    ctl, fly = st.ctl[0], st.fly[q]
    if ctl.look == 1:
        for row in range(first, first + active):
            look(st, st.slot_of[row], t)
    if ctl.match == 1:
        for row in range(first, first + active):
            hit = hit_blocks(st, st.slot_of[row], q) if fly.hash_n > 0 else 0
            st.rows[row, c.MATCHED_TOKENS] = hit * ctl.hash_tokens
    ask = st.request
    ask[c.NOW] = t
    ask[c.INPUT_TOKENS] = fly.input
    ask[c.PREDICTED_TOKENS] = fly.predicted
    ask[c.POOL] = fly.pool
    ask[c.KIND] = fly.kind
    ask[c.TIER] = fly.tier
    ask[c.RANK] = fly.rank
    ask[c.SESSION] = fly.session
    ask[c.ORIGIN] = fly.origin
    ask[c.TRIES] = fly.tries
    scores = st.scores[first : first + active]
    rows = st.rows[first : first + active]
    chosen = route(ask, rows, st.rows[:0], st.rows[:0], st.slot_of[:0], st.params, st.memory[fly.pool], scores)
    if chosen == c.SCORES:
        chosen = 0
        for i in range(1, active):
            if scores[i] < scores[chosen]:
                chosen = i
    return chosen


@jit
def _queue_in_pool(st: State, pool: int, q: int) -> None:
    p = st.pool[pool]
    append(st, p.tail, q)
    p.tail = q
    if p.head < 0:
        p.head = q
    p.queued += 1
    st.fly[q].phase = k.QUEUED


@jit
def receive(st: State, r: int, q: int, t: float) -> None:
    """q is routed to the replica at t: it joins at the first iteration boundary at or after t."""
    rep, fly = st.rep[r], st.fly[q]
    st.ctl[0].receipts += 1
    fly.receipt = st.ctl[0].receipts
    fly.replica = r
    fly.record = rep.record
    fly.phase = k.WAITING
    if st.pool[rep.pool].onward >= 0:
        fly.predicted = fly.generated + 1  # the one it is here for
    enqueue(st, r, q)
    rep.prefill += fly.input + fly.generated - fly.computed - (1 if waits_for_one_token(st, q) else 0)
    rep.generated += fly.generated
    rep.input += fly.input
    rep.predicted += fly.predicted
    publish(st, r)
    if rep.event_s == np.inf:
        mark_idle(st, r)
    elif rep.running < rep.max_seqs and (rep.waiting == 1 or st.ctl[0].ranked == 1):
        shorten(st, r, t)  # where all places are taken nobody is admitted before a completion, where the run ends


@jit
def mark_idle(st: State, r: int) -> None:
    """The replica may start an iteration once everything else of this instant has happened."""
    if st.rep[r].idle == 0:
        st.rep[r].idle = 1
        st.idle[st.ctl[0].idle] = r
        st.ctl[0].idle += 1


@jit
def stand_still(st: State, r: int) -> None:
    """The replica's run has ended and the next has not begun."""
    schedule(st, r, np.inf)
    mark_idle(st, r)

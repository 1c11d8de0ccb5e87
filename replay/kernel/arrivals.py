"""From a client to a replica: the region, the network, the pool's router."""

import numpy as np

from .. import columns as c
from ..jit import Route, jit
from . import layout as k
from .batch import unfilled
from .cache import hit_blocks
from .ends import load, write_out
from .heap import announce, schedule
from .holding import defer, hold, take_heart, travel
from .inflight import make_room
from .lanes import fits, nearest_up
from .queues import append, enqueue, free_slot
from .start import shorten
from .state import State
from .view import best_row, look, lowest, publish, utilisation


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
        st.pool[fly.pool].arrived_batch += fly.input if fly.tier == k.BATCH else 0
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


# --- the pool's router ---


@jit
def send(st: State, route: Route, q: int, t: float) -> int:
    """Route q within its pool, or queue it there where no replica is active; DONE_ALL or BAD_ROUTE."""
    pool = st.fly[q].pool
    active, holds = st.pool[pool].active, st.ctl[0].reroute == 1
    if active == 0 and not holds:
        _queue_in_pool(st, pool, q)
        return k.DONE_ALL
    again = holds and st.fly[q].stage == k.AGAIN
    if again and st.pool[pool].refused >= st.ctl[0].most_refused:
        defer(st, q, t)
        return k.DONE_ALL
    first = st.pool[pool].first
    chosen = best_row(st, pool, t) if st.ctl[0].linear == 1 else _ask(st, route, q, t, first, active)
    if holds:
        if chosen == c.HOLD or chosen == c.OPEN or chosen == k.NO_ROW:
            if chosen == c.OPEN:
                st.pool[pool].opened += 1
                st.ctl[0].wanted = 1
            st.pool[pool].refused += again
            defer(st, q, t)
            return k.DONE_ALL
        st.pool[pool].refused = 0
        take_heart(st, t)
    if chosen < 0 or chosen >= active:
        st.ctl[0].answer = chosen
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
    if ctl.flight == 1:
        make_room(st, st.pool[fly.pool].first, st.pool[fly.pool].first + st.pool[fly.pool].slots)
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
    ask[c.ARRIVED_S] = fly.arrival_s
    ask[c.STARTING] = st.pool[fly.pool].starting
    ask[c.DEFERRED] = st.pool[fly.pool].deferrals
    ask[c.LANE] = st.pool[fly.pool].lane
    ask[c.GENERATED_TOKENS] = fly.generated
    ask[c.UNFILLED_TOKENS] = unfilled(st, q)
    scores = st.scores[first : first + active]
    rows = st.rows[first : first + active]
    ahead = st.ahead[first : first + active] if ctl.ahead > 0 else st.ahead[:0]
    flight, start = st.flight[:0], st.flight_start[:0]
    if ctl.flight == 1:
        flight, start = st.flight, st.flight_start[first : first + active]
    chosen = route(ask, rows, ahead, flight, start, st.params, st.memory[fly.pool], scores)
    return lowest(scores) if chosen == c.SCORES else chosen


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
    rep.prefill += unfilled(st, q)
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
def reconsider(st: State, r: int, t: float) -> None:
    """Somebody left the queue, or blocks came free: whoever waits may be admitted earlier."""
    rep = st.rep[r]
    if rep.waiting == 0 or rep.running == rep.max_seqs:
        return
    if rep.event_s == np.inf:
        mark_idle(st, r)
    else:
        shorten(st, r, t)


@jit
def stand_still(st: State, r: int) -> None:
    """The replica's run has ended and the next has not begun."""
    schedule(st, r, np.inf)
    mark_idle(st, r)

"""Pools and replicas changing, jitted: activation, draining, loss, the pool's queue, what policies see."""

from typing import Any

import numpy as np

from .. import columns as c
from ..jit import Route, jit
from . import layout as k
from .arrivals import choose_pool, send
from .batch import compact_stack
from .cache import let_go
from .clients import start_over
from .ends import end_replica, off_if_empty
from .heap import schedule
from .holding import ask_again, take_heart, travel
from .inflight import anticipate, make_room
from .queues import dequeue, free_slot
from .state import State
from .view import look, plant, since


@jit
def arrange(st: State, pool: int) -> None:
    """Give the pool's active replicas its first view rows, by index; called when one joins or leaves."""
    p = st.pool[pool]
    first, slots, n = p.first, p.slots, 0
    p.starting = 0
    for r in range(first, first + slots):
        p.starting += 1 if st.rep[r].state == k.STARTING else 0
        if st.rep[r].state == k.ACTIVE:
            at = n
            while at > 0 and st.rep[st.slot_of[first + at - 1]].index > st.rep[r].index:
                st.slot_of[first + at] = st.slot_of[first + at - 1]
                at -= 1
            st.slot_of[first + at] = r
            n += 1
    p.active = n
    for r in range(first, first + slots):
        if st.rep[r].state != k.ACTIVE:
            st.slot_of[first + n] = r
            n += 1
    for row in range(first, first + slots):
        rep = st.rep[st.slot_of[row]]
        rep.row = row
        rep.valid_s = -np.inf
        st.rows[row, c.INDEX] = rep.index
        st.rows[row, c.PROFILE] = rep.profile
        st.rows[row, c.KV_CAPACITY_TOKENS] = rep.blocks * rep.block
        st.rows[row, c.MAX_SEQS] = rep.max_seqs
        st.rows[row, c.WAITING] = rep.waiting
        st.rows[row, c.RUNNING] = rep.running
        st.rows[row, c.PREFILL_TOKENS] = rep.prefill
        if rep.state != k.FREE:
            _price(st, row, rep)
    if st.ctl[0].linear == 1:
        plant(st, pool)


@jit
def _price(st: State, row: int, rep: Any) -> None:
    """The columns of an iteration's time."""
    shape = st.shape[rep.profile]
    st.rows[row, c.BASE_S] = shape.law_decode_s
    st.rows[row, c.TOKEN_S] = shape.law_token_s
    st.rows[row, c.SEQ_S] = shape.law_seq_s
    st.rows[row, c.CONTEXT_S] = shape.law_context_s
    st.rows[row, c.PREFILL_S] = shape.law_prefill_s
    st.rows[row, c.SPARE_TOKENS] = shape.law_kv_tokens


@jit
def activate(st: State, route: Route, r: int, t: float) -> int:
    """The replica joins its pool, whose queue and held-by-router requests are routed; DONE_ALL or BAD_ROUTE."""
    pool = st.pool[st.rep[r].pool]
    st.rep[r].state = k.ACTIVE
    st.rep[r].ready_s = np.inf
    arrange(st, st.rep[r].pool)
    if st.ctl[0].reroute == 1:
        take_heart(st, t)
        ask_again(st, st.rep[r].pool, t)
    q = pool.head
    pool.head = -1
    pool.tail = -1
    pool.queued = 0
    while q >= 0:
        following = st.fly[q].next
        if st.fly[q].gone == 1:
            free_slot(st, q)
        elif send(st, route, q, t) == k.BAD_ROUTE:
            return k.BAD_ROUTE
        q = following
    return k.DONE_ALL


@jit
def drain(st: State, r: int, t: float) -> None:
    """No new requests for the replica; off at once where it has none, else when its last one completes."""
    st.rep[r].state = k.DRAINING
    off_if_empty(st, r, t)
    arrange(st, st.rep[r].pool)


# --- faults ---


@jit
def _again(st: State, q: int, t: float) -> None:
    """q's replica is gone: it starts over from its origin, now."""
    if st.fly[q].gone == 1:
        free_slot(st, q)
        return
    start_over(st, q)
    st.fly[q].restarts += 1
    travel(st, q, t, k.NEW)


@jit
def turned_away(st: State, q: int, t: float) -> bool:
    """q comes to its region: where that is down, and it would now choose one that is up, it starts again."""
    fly = st.fly[q]
    if st.pool[fly.pool].down == 0:
        return False
    at = choose_pool(st, fly.group, fly.held == k.BY_TIER, t)
    if st.pool[st.choices[fly.group, at]].down == 1:
        return False
    _again(st, q, t)
    return True


@jit
def _let_all_go(st: State, r: int) -> None:
    """Nobody uses the replica's cache any more: those that run here, and those on their way from here."""
    for q in range(len(st.fly)):
        fly = st.fly[q]
        running = fly.replica == r and (fly.phase == k.PREFILL or fly.phase == k.DECODE)
        leaving = fly.phase == k.TRAVELLING and fly.source == r and fly.source_record == st.rep[r].record
        if running or leaving:
            let_go(st, r, q)


@jit
def lose(st: State, r: int, t: float) -> None:
    """The replica is gone at t, its iteration with it; its requests start again, running ones first."""
    rep = st.rep[r]
    if rep.event_s != np.inf:  # else its iteration has ended at this instant and is counted
        rep.busy_s += t - rep.since
    if st.ctl[0].cached == 1:
        _let_all_go(st, r)
    compact_stack(st, r)
    for place in range(rep.stack):
        _again(st, st.stack[r, place], t)
    while rep.waiting > 0:
        q = rep.head
        dequeue(st, r)
        rep.waiting += st.fly[q].gone  # those that gave up are no longer counted
        _again(st, q, t)
    schedule(st, r, np.inf)
    rep.running = 0
    rep.stack = 0
    rep.transit = 0
    end_replica(st, r, t)
    arrange(st, rep.pool)


@jit
def lose_queue(st: State, pool: int, t: float) -> None:
    """The pool's region is down: requests in its queue start again elsewhere."""
    p = st.pool[pool]
    q = p.head
    p.head = -1
    p.tail = -1
    p.queued = 0
    while q >= 0:
        following = st.fly[q].next
        _again(st, q, t)
        q = following


# --- what policies see ---


@jit
def look_at_all(st: State, t: float) -> None:
    """Bring every live replica's token and KV columns to time t and sum them by pool into `seen`."""
    st.seen[:] = 0.0
    if st.ctl[0].flight == 1:
        make_room(st, 0, len(st.rep))
    for r in range(len(st.rep)):
        rep = st.rep[r]
        seen = st.seen[rep.pool]
        if rep.state == k.STARTING:
            seen[k.S_STARTING] += 1
        elif rep.state == k.DRAINING:
            look(st, r, t)
            seen[k.S_DRAINING] += 1
        elif rep.state == k.ACTIVE:
            look(st, r, t)
            row = st.rows[rep.row]
            seen[k.S_ACTIVE] += 1
            seen[k.S_WAITING] += row[c.WAITING]
            seen[k.S_RUNNING] += row[c.RUNNING]
            seen[k.S_OUTSTANDING] += row[c.OUTSTANDING_TOKENS]
            seen[k.S_KV] += row[c.KV_TOKENS]
            seen[k.S_KV_CAPACITY] += row[c.KV_CAPACITY_TOKENS]
        if rep.state == k.ACTIVE or rep.state == k.DRAINING:
            rep.looked = rep.steps + since(st, r, t)
            if st.ctl[0].anticipated > 0:
                anticipate(st, r, rep.looked)
    for p in range(len(st.pool)):
        pool, seen = st.pool[p], st.seen[p]
        seen[k.S_QUEUED] = pool.queued
        seen[k.S_HELD] = pool.held
        seen[k.S_ARRIVED] = pool.arrived
        seen[k.S_ARRIVED_INPUT] = pool.arrived_input
        seen[k.S_COMPLETED] = pool.completed
        seen[k.S_COMPLETED_OUTPUT] = pool.completed_output
        seen[k.S_TTFT] = pool.ttft_s
        seen[k.S_E2E] = pool.e2e_s
        seen[k.S_ARRIVED_BATCH] = pool.arrived_batch

"""How requests end: rows written out, pools counted, what a completion sets off."""

import numpy as np

from .. import columns as c
from ..jit import jit
from . import layout as k
from .batch import count_out, return_blocks
from .cache import drop_all
from .heap import announce
from .queues import clear_gone, free_slot
from .state import State


@jit
def write_out(st: State, q: int, status: int, t: float) -> None:
    """The request has ended: its row for the driver. The caller frees its slot."""
    ctl, fly = st.ctl[0], st.fly[q]
    row = st.done[ctl.out]
    row.request = fly.request
    row.status = status
    row.pool = fly.pool
    row.record = fly.record
    row.preemptions = fly.preemptions
    row.restarts = fly.restarts
    row.tries = fly.tries
    row.cached = fly.cached
    row.arrival_s = fly.arrival_s
    row.admitted_s = fly.admitted_s
    row.first_s = fly.first_s
    row.done_s = t
    row.network_s = fly.network_s
    row.hold_s = fly.hold_s
    row.prefilled = fly.prefilled
    row.transfer_s = fly.transfer_s
    ctl.out += 1
    ctl.in_flight -= 1


@jit
def complete(st: State, r: int, q: int, t: float) -> None:
    """q has its last token at t; computed and generated are plain counts."""
    fly, pool = st.fly[q], st.pool[st.rep[r].pool]
    return_blocks(st, r, q)
    count_out(st, r, q)
    pool.completed_output += fly.output
    st.rep[r].surplus += fly.output - fly.foretold
    pool.ttft_s += fly.first_s - fly.arrival_s
    pool.e2e_s += t - fly.arrival_s
    write_out(st, q, c.OK, t)
    note_end(st, st.rep[r].pool, t)
    if st.ctl[0].sessions == 1 and fly.follow >= 0:
        _send_next_turn(st, fly.follow, t)
    free_slot(st, q)


@jit
def note_end(st: State, number: int, t: float) -> None:
    """A request has ended in the pool: counted, and those held there may be released."""
    pool = st.pool[number]
    pool.completed += 1
    if st.ctl[0].holds == 1 and st.ctl[0].release_below >= 0.0:
        if pool.ended_now == 0:
            announce(st, t, k.RELEASE * k.PHASE + number, number, 0)
        pool.ended_now += 1


@jit
def _send_next_turn(st: State, a: int, t: float) -> None:
    """Turn `a` (a row of the arrivals, all of which are in memory) is sent think_s later."""
    q = load(st, a)
    st.fly[q].arrival_s = t + st.arr[a].think_s
    announce(st, st.fly[q].arrival_s, k.ARRIVE * k.PHASE + st.fly[q].request, q, 0)


@jit
def load(st: State, a: int) -> int:
    """Move row `a` of the arrivals into a flight slot; returns the slot."""
    ctl, row = st.ctl[0], st.arr[a]
    ctl.free -= 1
    ctl.in_flight += 1
    q = st.free[ctl.free]
    fly = st.fly[q]
    fly.request = row.number
    fly.input = row.input
    fly.output = row.output
    fly.predicted = row.predicted
    fly.foretold = row.predicted
    fly.kind = row.kind
    fly.tier = row.tier
    fly.computed = 0
    fly.generated = 0
    fly.replica = -1
    fly.record = -1
    fly.pool = row.pool
    fly.home = row.pool
    fly.group = row.group
    fly.origin = row.origin
    fly.phase = k.TRAVELLING
    fly.late_key = -1
    fly.gone = 0
    fly.sends = 0
    fly.held = row.held
    fly.stage = k.NEW
    fly.preemptions = 0
    fly.restarts = 0
    fly.tries = 0
    fly.cached = 0
    fly.hash_at = row.hash_at
    fly.hash_n = row.hash_n
    fly.shared = 0
    fly.session = row.session
    fly.follow = row.follow
    fly.target = -1
    fly.source = -1
    fly.prefilled = 0
    fly.arrival_s = row.arrival_s
    fly.admitted_s = np.inf
    fly.first_s = np.inf
    fly.rank = row.rank
    fly.network_s = 0.0
    fly.hold_s = 0.0
    fly.transfer_s = 0.0
    return q


@jit
def off_if_empty(st: State, r: int, t: float) -> None:
    """A draining replica without requests goes off."""
    rep = st.rep[r]
    if rep.state == k.DRAINING and rep.running == 0 and rep.waiting == 0 and rep.transit == 0:
        end_replica(st, r, t)


@jit
def end_replica(st: State, r: int, t: float) -> None:
    """The replica, empty, is off; what its queue still links has given up, and its cache is gone."""
    st.rep[r].state = k.ENDED
    st.rep[r].off_s = t
    if st.rep[r].awaited == 1:
        st.ctl[0].wanted = 1
    clear_gone(st, r)
    drop_all(st, r)

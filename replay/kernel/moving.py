"""Migration: a request leaves its replica with its KV and queues at another one (docs/replay.md)."""

from .. import columns as c
from ..jit import Route, jit
from . import layout as k
from .arrivals import receive, reconsider, send, stand_still
from .batch import count_out, stop_decoding, take_end_out, unfilled
from .cache import let_go, own_blocks
from .ends import off_if_empty, write_out
from .finish import finish
from .heap import announce
from .holding import travel
from .lanes import fits, received
from .outlive import foretell
from .queues import free_slot
from .start import shorten
from .state import State
from .view import publish


@jit
def migrate(st: State, q: int, t: float) -> None:
    """q, whose target is set, leaves at once where it waits, else at the end of the iteration in progress."""
    fly, r = st.fly[q], st.fly[q].replica
    st.ctl[0].ghosts = 1
    if fly.phase == k.WAITING:
        _leave_queue(st, r, q, t)
    else:
        rep = st.rep[r]
        rep.leaving = 1
        if rep.event_s != float("inf"):
            shorten(st, r, t)
        if rep.event_s == t:  # a run goes on past the tick, but its iteration has ended
            finish(st, r, t)
            stand_still(st, r)
        if rep.event_s == float("inf"):
            depart_all(st, r, t)


@jit
def _leave_queue(st: State, r: int, q: int, t: float) -> None:
    """The slot in the queue stays behind as gone; q goes on in another one."""
    ctl, rep = st.ctl[0], st.rep[r]
    ctl.free -= 1
    moved = st.free[ctl.free]
    st.fly[moved] = st.fly[q]
    st.fly[q].gone = 1
    if ctl.patient == 1 and st.fly[q].first_s == float("inf"):  # its client's patience is known by the old slot
        fly = st.fly[moved]
        announce(st, fly.sent_s + ctl.timeout_s, k.PATIENCE * k.PHASE + fly.request, moved, fly.sends)
    rep.waiting -= 1
    rep.prefill -= unfilled(st, q)
    count_out(st, r, q)
    publish(st, r)
    reconsider(st, r, t)
    off_if_empty(st, r, t)
    st.fly[moved].computed = 0
    _set_out(st, r, moved, t, False)


@jit
def depart_all(st: State, r: int, t: float) -> None:
    """The iteration has ended: whoever runs and has a target goes, its blocks still held here."""
    rep = st.rep[r]
    rep.leaving = 0
    for place in range(rep.stack):
        q = st.stack[r, place]
        fly = st.fly[q]
        running = fly.phase == k.PREFILL or fly.phase == k.DECODE
        if fly.replica != r or fly.place != place or not running or fly.target < 0 or fly.gone == 1:
            continue
        if fly.phase == k.DECODE:
            stop_decoding(st, r, q)
            take_end_out(st, r, q)
        else:
            if rep.partial == q:
                rep.partial = -1
            rep.prefill -= unfilled(st, q)
        rep.running -= 1
        rep.transit += 1
        count_out(st, r, q)
        _set_out(st, r, q, t, True)
    publish(st, r)


@jit
def _set_out(st: State, r: int, q: int, t: float, with_kv: bool) -> None:
    fly, rep = st.fly[q], st.rep[r]
    fly.source = r if with_kv else -1
    fly.source_record = rep.record
    fly.replica = -1
    lag = 0.0
    here, there = st.pool[rep.pool].region, st.pool[fly.target_pool].region
    if len(st.between_s) > 1:
        lag = st.between_s[here, there]
    travel(st, q, t + (lag + fly.computed * st.shape[rep.profile].kv_transfer), k.MOVED)


@jit
def unload(st: State, q: int, t: float) -> None:
    """q's blocks at the replica it left are free."""
    fly = st.fly[q]
    r = fly.source
    if r >= 0 and st.rep[r].record == fly.source_record and st.rep[r].state != k.FREE and st.rep[r].transit > 0:
        rep = st.rep[r]
        rep.used -= own_blocks(st, r, q, fly.computed)
        if st.ctl[0].cached == 1:
            let_go(st, r, q)
        rep.transit -= 1
        publish(st, r)  # its KV, on a replica that may stand still
        reconsider(st, r, t)
        off_if_empty(st, r, t)
    fly.source = -1
    fly.shared = 0


@jit
def _active(st: State, pool: int, index: int) -> int:
    """Slot of the pool's active replica of that number, or -1."""
    first = st.pool[pool].first
    for row in range(first, first + st.pool[pool].active):
        if st.rep[st.slot_of[row]].index == index:
            return st.slot_of[row]
    return -1


@jit
def land(st: State, route: Route, q: int, t: float) -> int:
    """q reaches the replica it migrates to; where that is no longer active its pool's router decides."""
    fly = st.fly[q]
    unload(st, q, t)
    fly.pool = fly.target_pool
    handed = fly.target == k.ANY
    r = _active(st, fly.pool, fly.target)
    fly.target = -1
    foretell(st, q)
    if handed:
        received(st, q, t)
        return send(st, route, q, t)
    if r < 0:
        fly.computed = 0
        return send(st, route, q, t)
    rep = st.rep[r]
    if not fits(st, r, q):
        fly.record = rep.record
        st.pool[fly.pool].rejected += 1
        write_out(st, q, c.REJECTED, t)
        free_slot(st, q)
        return k.DONE_ALL
    receive(st, r, q, t)
    return k.DONE_ALL

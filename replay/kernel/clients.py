"""Clients that lose patience: they leave, and send again while they have tries left."""

from .. import columns as c
from ..jit import jit
from . import layout as k
from .arrivals import reconsider
from .batch import count_out, leave_batch, unfilled
from .ends import off_if_empty, write_out
from .holding import travel
from .moving import unload
from .queues import free_slot
from .state import State
from .view import publish


@jit
def lose_patience(st: State, q: int, request: int, sends: int, t: float) -> None:
    """The client that sent `request` for the sends-th time has waited long enough, if it still waits for a token."""
    fly = st.fly[q]
    # its first try may be long over, and the slot another's
    if fly.request != request or fly.sends != sends or fly.gone == 1 or fly.first_s <= t or fly.phase == k.ELSEWHERE:
        return
    if fly.phase == k.TRAVELLING and fly.stage == k.MOVED:
        unload(st, q, t)
    if fly.phase == k.HELD and fly.admitted_s == float("inf"):
        fly.hold_s += t - fly.since_s
    if st.ctl[0].tries > fly.tries:
        _send_again(st, q, t)
    else:
        write_out(st, q, c.ABANDONED, t)
    _leave(st, q, t)


@jit
def _send_again(st: State, q: int, t: float) -> None:
    """The same request, new, in a slot of its own; the old slot is freed by whoever holds it."""
    ctl = st.ctl[0]
    ctl.free -= 1
    again = st.free[ctl.free]
    st.fly[again] = st.fly[q]
    fly = st.fly[again]
    wait = ctl.backoff_s * ctl.factor**fly.tries
    fly.tries += 1
    fly.held = k.BY_TIER if fly.held == k.RELEASED_ONCE else fly.held
    start_over(st, again)
    travel(st, again, t + wait, k.NEW)


@jit
def start_over(st: State, q: int) -> None:
    """q begins again from nothing, on no replica."""
    fly = st.fly[q]
    fly.sends += 1
    fly.pool = fly.home
    fly.computed = 0
    fly.generated = 0
    fly.predicted = fly.foretold
    fly.replica = -1
    fly.late_key = -1
    fly.shared = 0
    fly.target = -1
    fly.source = -1
    fly.prefilled = 0
    fly.transfer_s = 0.0
    fly.admitted_s = float("inf")
    fly.first_s = float("inf")


@jit
def _leave(st: State, q: int, t: float) -> None:
    """Mark q gone where it is; it no longer counts there. In a batch it stays until the iteration ends."""
    fly = st.fly[q]
    if fly.phase == k.PREFILL and st.rep[fly.replica].event_s == float("inf"):  # its iteration ended at this instant
        r = fly.replica
        leave_batch(st, r, q)
        count_out(st, r, q)
        free_slot(st, q)
        publish(st, r)
        off_if_empty(st, r, t)
        return
    fly.gone = 1
    if fly.phase == k.QUEUED:
        st.pool[fly.pool].queued -= 1
    elif fly.phase == k.HELD:
        st.pool[fly.pool].held -= 1
        st.pool[fly.pool].deferrals -= 0 if fly.held == k.BY_TIER else 1
    elif fly.phase == k.WAITING:
        rep = st.rep[fly.replica]
        rep.waiting -= 1
        rep.prefill -= unfilled(st, q)
        count_out(st, fly.replica, q)
        publish(st, fly.replica)
        reconsider(st, fly.replica, t)
        off_if_empty(st, fly.replica, t)

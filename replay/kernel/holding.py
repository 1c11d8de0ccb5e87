"""Requests on no replica: on their way, in a hold queue, or held by their router until the next heartbeat."""

from ..jit import jit
from . import layout as k
from .heap import announce
from .queues import free_slot, insert, without_first
from .state import State
from .view import utilisation


@jit
def travel(st: State, q: int, t: float, stage: int) -> None:
    """q is on its way and will be there at t."""
    st.fly[q].phase = k.TRAVELLING
    st.fly[q].stage = stage
    announce(st, t, k.ARRIVE * k.PHASE + st.fly[q].request, q, 0)


# --- hold queues, of tiers ---


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
    """Send on the first n requests of the pool's hold queue, as arrivals of this instant."""
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
        fly.held = k.RELEASED_ONCE
        fly.hold_s += t - fly.since_s
        travel(st, q, t, k.RELEASED)


@jit
def release_by_rule(st: State, pool: int, t: float) -> None:
    """Once for each completion of this instant: so many below the lower threshold, so many below the upper."""
    ctl, u = st.ctl[0], utilisation(st, pool, t)
    n = ctl.releases_low if u < ctl.release_low else ctl.releases_mid if u < ctl.release_below else 0
    n *= st.pool[pool].ended_now
    st.pool[pool].ended_now = 0
    release(st, pool, n, t)


# --- held by the router ---


@jit
def defer(st: State, q: int, t: float) -> None:
    """The router holds q: it is asked again at the next heartbeat, and when a replica of the pool becomes active."""
    fly, pool = st.fly[q], st.pool[st.fly[q].pool]
    fly.phase = k.HELD
    fly.since_s = t
    fly.next = pool.deferred
    pool.deferred = q
    pool.deferrals += 1
    pool.held += 1
    keep_beating(st, t)


@jit
def ask_again(st: State, pool: int, t: float) -> int:
    """What the pool's router holds arrives again, now; how many these are."""
    p = st.pool[pool]
    n, q = p.deferrals, p.deferred
    p.deferred = -1
    p.deferrals = 0
    p.refused = 0
    p.held -= n
    while q >= 0:
        fly = st.fly[q]
        following = fly.next
        if fly.gone == 1:
            free_slot(st, q)
        else:
            if fly.admitted_s == float("inf"):  # else between tokens, in a decode lane, or migrated
                fly.hold_s += t - fly.since_s
            travel(st, q, t, k.AGAIN)
        q = following
    return n  # type: ignore[no-any-return]


@jit
def keep_beating(st: State, t: float) -> None:
    """Announce the first heartbeat after t, unless one is in the agenda, or the heart stands still."""
    ctl = st.ctl[0]
    if ctl.beat == 1 or ctl.heartbeat_s <= 0.0 or ctl.fruitless >= ctl.most_fruitless:
        return
    n = max(1, int((t - ctl.begin_s) / ctl.heartbeat_s))
    while ctl.begin_s + n * ctl.heartbeat_s <= t:
        n += 1
    ctl.beat = 1
    announce(st, ctl.begin_s + n * ctl.heartbeat_s, k.RELEASE * k.PHASE + k.ALL_POOLS, 0, 0)


@jit
def take_heart(st: State, t: float) -> None:
    """A request is placed, or may be: it is worth asking again."""
    ctl = st.ctl[0]
    if ctl.fruitless > 0:
        ctl.fruitless = 0
        for pool in range(len(st.pool)):
            if st.pool[pool].deferred >= 0:
                keep_beating(st, t)


@jit
def beat(st: State, t: float) -> None:
    """A heartbeat: every router is asked again; it is fruitless where all requests there are are held."""
    ctl, held, asked = st.ctl[0], 0, 0
    ctl.beat = 0
    for pool in range(len(st.pool)):
        held += st.pool[pool].held
        asked += ask_again(st, pool, t)
    if asked > 0:
        ctl.fruitless = ctl.fruitless + 1 if ctl.next >= ctl.last and held == ctl.in_flight else 0

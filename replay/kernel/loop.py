"""The event loop: all pools in one order of events, resumable, compiled once for all routers.

At one instant: iterations end, held requests are released, replicas become ready, the control tick (the kernel
returns), clients give up, arrivals by request number, idle replicas start. Cost is per request, not per token.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import f8, i8

from lmaas.analysis.compiled import kept

from ..jit import Route, jit, source_digest
from ..linked import whole
from ..shortcuts import swiftly
from . import layout as k
from .arrivals import arrive, reach, send, stand_still, take_arrival
from .clients import lose_patience
from .ends import off_if_empty
from .finish import finish
from .fleetops import activate, arrange, drain, look_at_all, lose, lose_queue, turned_away
from .handle import opened, routed
from .heap import announce, drop_first
from .holding import beat, release, release_by_rule
from .moving import depart_all, land, migrate
from .queues import free_slot
from .start import start
from .state import State
from .view import publish


@jit
def _start_idle(st: State, t: float) -> None:
    for i in range(st.ctl[0].idle):
        r = st.idle[i]
        st.rep[r].idle = 0
        if st.rep[r].state == k.ACTIVE or st.rep[r].state == k.DRAINING:
            start(st, r, t)
    st.ctl[0].idle = 0


@jit
def _due(st: State, route: Route, t: float) -> int:
    """The agenda's first entry happens; DONE_ALL or BAD_ROUTE, or OUT_FULL where it has to wait for room."""
    entry = st.agenda[0]
    slot, stamp, phase, number = entry.slot, entry.stamp, entry.order // k.PHASE, entry.order % k.PHASE
    if phase == k.READY and st.ctl[0].out + st.pool[st.rep[slot].pool].queued > len(st.done):
        return k.OUT_FULL  # all that are queued might be rejected
    drop_first(st)
    if phase == k.RELEASE and number == k.ALL_POOLS:
        beat(st, t)
    elif phase == k.RELEASE:
        release_by_rule(st, slot, t)
    elif phase == k.READY:
        rep = st.rep[slot]
        if rep.record == stamp and rep.state == k.STARTING and rep.ready_s == t:  # else it was cancelled or lost
            return activate(st, route, slot, t)
    elif phase == k.PATIENCE:
        lose_patience(st, slot, number, stamp, t)
    elif st.fly[slot].gone == 1:
        free_slot(st, slot)
    elif st.fly[slot].stage == k.NEW:
        return arrive(st, route, slot, t)
    elif st.fly[slot].stage == k.REACHING:
        return k.DONE_ALL if turned_away(st, slot, t) else reach(st, route, slot, t)
    elif st.fly[slot].stage == k.MOVED:
        return land(st, route, slot, t)
    else:
        return send(st, route, slot, t)
    return k.DONE_ALL


@jit
def _finish(st: State, r: int, t: float, alone: bool) -> None:
    """The replica's run ends at t. Where nothing else happens at t it starts the next at once, which saves time."""
    finish(st, r, t)
    rep = st.rep[r]
    if rep.leaving == 1:
        depart_all(st, r, t)
        alone = False
    if alone and (rep.running > 0 or rep.waiting > 0):
        start(st, r, t)
        return
    stand_still(st, r)
    publish(st, r)
    off_if_empty(st, r, t)


@jit
def loop(route: Route, st: State, until: float, more: int) -> int:
    """Replay up to the control tick at `until`; returns why it stopped (layout.DONE_ALL ... WANTED).

    more: 1 where another chunk of arrivals follows this one.
    """
    ctl = st.ctl[0]
    arrivals, widest = ctl.last, st.ends.shape[1]
    # the end of an iteration may cause arrivals of the same instant only in these (ghosts: once a request has migrated)
    chains = ctl.sessions == 1 or ctl.holds == 1 or ctl.patient == 1 or ctl.lanes == 1 or ctl.ghosts == 1
    eventful = chains or ctl.regions == 1
    while True:
        if ctl.out + widest + 2 > len(st.done):  # one event completes at most max_seqs requests
            return k.OUT_FULL
        if eventful:
            if ctl.free < widest + 2:
                return k.FLIGHT_FULL
            if ctl.agenda + ctl.in_flight + 2 * widest + 8 > len(st.agenda):
                return k.AGENDA_FULL
        event_t = st.events[0].t if ctl.events > 0 else np.inf
        agenda_t = st.agenda[0].t if ctl.agenda > 0 else np.inf
        if ctl.next < arrivals:
            arrival_t = st.arr[ctl.next].arrival_s
        elif more == 1:
            return k.MORE
        else:
            arrival_t = np.inf
        t = min(event_t, min(arrival_t, agenda_t))
        # once all iterations of the instant have ended, and released what they release
        if ctl.wanted == 1 and event_t > ctl.now and (agenda_t > ctl.now or st.agenda[0].order >= k.PHASE):
            ctl.wanted = 0
            return k.WANTED
        if ctl.idle > 0 and t > ctl.now and until > ctl.now:  # a tick at this instant comes first
            _start_idle(st, ctl.now)
        elif ctl.next >= arrivals and ctl.in_flight == 0 and event_t > ctl.now:  # else a last iteration's time is lost
            return k.DONE_ALL
        elif t == np.inf and until == np.inf:
            return k.DONE_ALL  # requests wait for a pool that will never have a replica
        elif t > until or (t == until and event_t > t and (agenda_t > t or st.agenda[0].order >= k.PATIENCE * k.PHASE)):
            ctl.now = until
            return k.TICK
        elif event_t == t:
            ctl.now = t
            _finish(st, st.events[0].slot, t, not chains and arrival_t > t and agenda_t > t and until > t)
        elif agenda_t == t and (arrival_t > t or st.agenda[0].order < k.ARRIVE * k.PHASE + st.arr[ctl.next].number):
            ctl.now = t
            why = _due(st, route, t)
            if why != k.DONE_ALL:
                return why
        else:
            if ctl.free == 0:
                return k.FLIGHT_FULL
            ctl.now = t
            if arrive(st, route, take_arrival(st), t) == k.BAD_ROUTE:
                return k.BAD_ROUTE


@jit
def _command(st: State, route: Route, what: int, t: float, which: int) -> int:
    """What the driver asks for at a tick."""
    if what == k.ACTIVATE:
        return activate(st, route, which, t)
    if what == k.DRAIN:
        drain(st, which, t)
    elif what == k.LOOK:
        look_at_all(st, t)
    elif what == k.LOSE:
        lose(st, which, t)
    elif what == k.LOSE_QUEUE:
        lose_queue(st, which, t)
    elif what == k.STARTS:
        rep = st.rep[which]
        announce(st, t, (k.READY * k.PHASE) + (rep.pool << 24) + rep.index, which, rep.record)
        arrange(st, rep.pool)
    elif what == k.MIGRATE:
        migrate(st, which, t)
    elif what == k.RELEASE_HELD:
        release(st, which // k.PHASE, which % k.PHASE, t)
    else:
        for pool in range(len(st.pool)):
            arrange(st, pool)
    return k.DONE_ALL


def _entry(digest: int) -> Callable[..., Any]:
    def entry(code: int, what: int, t: float, which: int, table: np.ndarray) -> Any:
        # the digest makes a change in any kernel file a miss in numba's cache, which watches this file only;
        # one entry for all the driver asks, since each would compile the replica's steps anew
        st, route = opened(table), routed(code)
        if what == k.RUN:
            return loop(route, st, t, which) if digest != 0 else -1
        return _command(st, route, what, t, which)

    return kept(entry, i8(i8, i8, f8, i8, i8[::1]), nogil=True, **whole)  # type: ignore[no-any-return]


with swiftly():
    kernel = _entry(source_digest())

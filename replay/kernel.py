"""The event loop: all pools in one order of events, resumable, compiled once for all routers.

At one instant: iterations end, replicas become ready, the control tick (the kernel returns), arrivals in
trace order, idle replicas start. Cost is per request, not per token: O(log replicas + log sequences) an
event, plus the router's scan.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import f8, i8, njit

from . import columns as c
from .fleetops import activate, arrange, drain, look_at_all, next_ready, send, take_arrival
from .jit import ROUTE_TYPE, Route, jit, source_digest
from .replica import finish, mark_idle, start
from .state import ARRAYS, State


@jit
def _start_idle(st: State, t: float) -> None:
    for i in range(st.ctl[c.C_IDLE]):
        r = st.idle[i]
        st.is_idle[r] = 0
        start(st, r, t)
    st.ctl[c.C_IDLE] = 0


@jit
def loop(route: Route, st: State, until: float, more: int) -> int:
    """Replay up to the control tick at `until`; returns why it stopped (columns.DONE ... BAD_ROUTE).

    more: 1 where another chunk of arrivals follows this one.
    """
    arrivals, widest = len(st.arrival), st.done_key.shape[1]
    while True:
        if st.ctl[c.C_OUT] + widest + 1 > len(st.done):  # one event completes at most max_seqs requests
            return c.OUT_FULL
        event_t = st.event_t[st.events[0]] if st.ctl[c.C_EVENTS] > 0 else np.inf
        arrival_t = st.arrival[st.ctl[c.C_NEXT]] if st.ctl[c.C_NEXT] < arrivals else np.inf
        ready_t = st.clock[c.T_READY]
        if st.ctl[c.C_NEXT] >= arrivals and more == 1:
            return c.CHUNK
        t = min(event_t, min(arrival_t, ready_t))
        if st.ctl[c.C_IDLE] > 0 and t > st.clock[c.T_NOW]:
            _start_idle(st, st.clock[c.T_NOW])
        elif st.ctl[c.C_NEXT] >= arrivals and st.ctl[c.C_IN_FLIGHT] == 0:
            return c.DONE
        elif t == np.inf and until == np.inf:
            return c.DONE  # requests wait for a pool that will never have a replica
        elif t > until or (t == until and event_t > t and ready_t > t):
            st.clock[c.T_NOW] = until
            return c.TICK
        elif event_t == t:
            st.clock[c.T_NOW] = t
            r = st.events[0]
            finish(st, r, t)
            mark_idle(st, r)
        elif ready_t == t:
            st.clock[c.T_NOW] = t
            if activate(st, route, next_ready(st), t) == c.BAD_ROUTE:
                return c.BAD_ROUTE
            next_ready(st)
        else:
            if st.ctl[c.C_FREE] == 0:
                return c.FLIGHT_FULL
            st.clock[c.T_NOW] = t
            if send(st, route, take_arrival(st), t) == c.BAD_ROUTE:
                return c.BAD_ROUTE


def _entry(digest: int) -> Callable[..., Any]:
    # a plain tuple: numba takes a quarter of a millisecond to recognise a named one at each call
    @njit(i8(ROUTE_TYPE, i8, f8, i8, ARRAYS), cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload]
    def entry(route: Route, what: int, t: float, which: int, arrays: tuple[np.ndarray, ...]) -> Any:
        st = State(*arrays)
        # the digest makes a change in any kernel file a miss in numba's cache, which watches this file only;
        # one entry for all the driver asks, since each would compile the replica's steps anew
        if what == c.RUN:
            return loop(route, st, t, which) if digest != 0 else -1
        if what == c.ACTIVATE:
            activate(st, route, which, t)
            next_ready(st)
        elif what == c.DRAIN:
            drain(st, which, t)
            next_ready(st)
        elif what == c.LOOK:
            look_at_all(st, t)
        else:
            for pool in range(len(st.pool)):
                arrange(st, pool)
            next_ready(st)
        return c.DONE

    return entry  # type: ignore[no-any-return]


kernel = _entry(source_digest())

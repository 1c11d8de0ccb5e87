"""Predictions that were outlived: requests that generated as much as predicted, and go on."""

from . import columns as c
from .heap import pop, push
from .jit import jit, seldom
from .state import State


@seldom
def extend(st: State, r: int, q: int) -> None:
    """q generated as much as predicted and goes on: add the expected rest, at least one token."""
    generated, kind = st.fly[q, c.F_PREDICTED], st.fly[q, c.F_KIND]
    e = 0
    while e + 1 < len(st.extend_at) and st.extend_at[e + 1] <= generated:
        e += 1
    more = max(1, st.extend_by[kind, e])
    st.fly[q, c.F_PREDICTED] += more
    st.rep[r, c.R_PREDICTED] += more


@jit
def watch(st: State, r: int, q: int) -> None:
    """Enter q into the outlive heap under the step at which it reaches its prediction."""
    if st.rep[r, c.R_OUTLIVE] == st.out_key.shape[1]:
        _compact_outlive(st, r)
    key = st.fly[q, c.F_PREDICTED] - st.fly[q, c.F_GENERATED]
    st.fly[q, c.F_OUTLIVES] = key
    st.rep[r, c.R_OUTLIVE] = push(st.out_key[r], st.out_id[r], st.rep[r, c.R_OUTLIVE], key, q)


@seldom
def _compact_outlive(st: State, r: int) -> None:
    """Drop entries of requests that left; a kept request is marked (-key - 2) so that it stays once."""
    n, kept = st.rep[r, c.R_OUTLIVE], 0
    for e in range(n):
        key, q = st.out_key[r, e], st.out_id[r, e]
        if st.fly[q, c.F_REPLICA] == r and st.fly[q, c.F_PHASE] == c.P_DECODE and st.fly[q, c.F_OUTLIVES] == key:
            st.fly[q, c.F_OUTLIVES] = -key - 2
            kept = push(st.out_key[r], st.out_id[r], kept, key, q)
    for e in range(kept):
        st.fly[st.out_id[r, e], c.F_OUTLIVES] = st.out_key[r, e]
    st.rep[r, c.R_OUTLIVE] = kept


@jit
def settle_outlived(st: State, r: int, steps: int) -> None:
    """Re-predict every request that reached its prediction by virtual step `steps`."""
    while st.rep[r, c.R_OUTLIVE] > 0 and st.out_key[r, 0] <= steps:
        key, q = st.out_key[r, 0], st.out_id[r, 0]
        st.rep[r, c.R_OUTLIVE] = pop(st.out_key[r], st.out_id[r], st.rep[r, c.R_OUTLIVE])
        if st.fly[q, c.F_REPLICA] == r and st.fly[q, c.F_PHASE] == c.P_DECODE and st.fly[q, c.F_OUTLIVES] == key:
            extend(st, r, q)
            watch(st, r, q)

"""Predictions that were outlived: requests that generated as much as predicted, and go on."""

from ..jit import jit
from . import layout as k
from .heap import key_in, packed, pop, push, slot_in
from .state import State


@jit
def extend(st: State, r: int, q: int) -> None:
    """q generated as much as predicted and goes on: add the expected rest, at least one token."""
    more = _expected_rest(st, q)
    st.fly[q].predicted += more
    st.rep[r].predicted += more


@jit
def _expected_rest(st: State, q: int) -> int:
    fly, grid = st.fly[q], st.extend
    bucket = 0
    while bucket < st.edges.shape[0] and st.edges[bucket] < fly.foretold:
        bucket += 1
    e = 0
    while e + 1 < grid.shape[1] and grid[0, e + 1] <= fly.predicted:
        e += 1
    return max(1, grid[1 + fly.kind * (st.edges.shape[0] + 1) + bucket, e])


@jit
def foretell(st: State, q: int) -> None:
    """q, on no replica: its prediction at arrival, extended as far as it has outlived it."""
    fly = st.fly[q]
    fly.predicted = fly.foretold
    while fly.predicted <= fly.generated:
        fly.predicted += _expected_rest(st, q)


@jit
def watch(st: State, r: int, q: int) -> None:
    """Enter q into the outlive heap under the step at which it reaches its prediction."""
    if st.rep[r].late == st.late.shape[1]:
        _compact(st, r)
    key = st.fly[q].predicted - st.fly[q].generated
    st.fly[q].late_key = key
    st.rep[r].late = push(st.late[r], st.rep[r].late, packed(key, q))


@jit
def _stands(st: State, r: int, entry: int) -> bool:
    fly = st.fly[slot_in(entry)]
    return fly.replica == r and fly.phase == k.DECODE and fly.late_key == key_in(entry)


@jit
def _compact(st: State, r: int) -> None:
    """Drop entries of requests that left; a kept request is marked (-key - 2) so that it stays once."""
    heap, kept = st.late[r], 0
    for e in range(st.rep[r].late):
        entry = heap[e]
        if _stands(st, r, entry):
            st.fly[slot_in(entry)].late_key = -key_in(entry) - 2
            kept = push(heap, kept, entry)
    for e in range(kept):
        st.fly[slot_in(heap[e])].late_key = key_in(heap[e])
    st.rep[r].late = kept


@jit
def settle_outlived(st: State, r: int, steps: int) -> None:
    """Re-predict every request that reached its prediction by virtual step `steps`."""
    rep, heap = st.rep[r], st.late[r]
    while rep.late > 0 and key_in(heap[0]) <= steps:
        entry = heap[0]
        rep.late = pop(heap, rep.late)
        if _stands(st, r, entry):
            extend(st, r, slot_in(entry))
            watch(st, r, slot_in(entry))

"""Binary heaps in arrays: packed (key, slot) integers, the replicas' next events, the agenda."""

import numpy as np

from ..jit import jit
from .state import State

SLOT_BITS = 24  # of a packed entry: 16.8 million requests in flight; keys are iterations of one replica
SLOT_MASK = (1 << SLOT_BITS) - 1


@jit
def packed(key: int, slot: int) -> int:
    """One integer that orders by key, then slot."""
    return (key << SLOT_BITS) | slot


@jit
def slot_in(entry: int) -> int:
    """The slot of a packed entry."""
    return entry & SLOT_MASK


@jit
def key_in(entry: int) -> int:
    """The key of a packed entry."""
    return entry >> SLOT_BITS


@jit
def push(heap: np.ndarray, n: int, entry: int) -> int:
    """Add an entry to a heap of n; returns n + 1. O(log n)."""
    i = n
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[i] = heap[parent]
        i = parent
    heap[i] = entry
    return n + 1


@jit
def remove_at(heap: np.ndarray, n: int, at: int) -> int:
    """Remove the entry at position `at` of a heap of n; returns n - 1. O(log n)."""
    n -= 1
    if at == n:
        return n
    entry = heap[n]
    i = at
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[i] = heap[parent]
        i = parent
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = entry
    return n


@jit
def pop(heap: np.ndarray, n: int) -> int:
    """Remove the smallest entry of a heap of n; returns n - 1."""
    return remove_at(heap, n, 0)


@jit
def schedule(st: State, slot: int, t: float) -> None:
    """Set the replica's next iteration end (inf: none). Ties keep any order: they are independent of each other."""
    heap, n, rep = st.events, st.ctl[0].events, st.rep
    at = rep[slot].at
    rep[slot].event_s = t
    moved, key = slot, t
    if t == np.inf:
        if at < 0:
            return
        n -= 1
        st.ctl[0].events = n
        rep[slot].at = -1
        if at == n:
            return
        moved, key = heap[n].slot, heap[n].t
    elif at < 0:
        at = n
        n += 1
        st.ctl[0].events = n
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent].t <= key:
            break
        heap[at].t = heap[parent].t
        heap[at].slot = heap[parent].slot
        rep[heap[at].slot].at = at
        at = parent
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        child += int(child + 1 < n and heap[child + 1].t < heap[child].t)
        if heap[child].t >= key:
            break
        heap[at].t = heap[child].t
        heap[at].slot = heap[child].slot
        rep[heap[at].slot].at = at
        at = child
    heap[at].t = key
    heap[at].slot = moved
    rep[moved].at = at


@jit
def _before(t: float, order: int, other_t: float, other_order: int) -> bool:
    return t < other_t or (t == other_t and order < other_order)


@jit
def _copy(heap: np.ndarray, to: int, at: int) -> None:
    heap[to].t = heap[at].t
    heap[to].order = heap[at].order
    heap[to].slot = heap[at].slot
    heap[to].stamp = heap[at].stamp


@jit
def announce(st: State, t: float, order: int, slot: int, stamp: int) -> None:
    """Enter something into the agenda; the loop has seen to it that there is room."""
    heap, i = st.agenda, st.ctl[0].agenda
    st.ctl[0].agenda = i + 1
    while i > 0:
        parent = (i - 1) >> 1
        if not _before(t, order, heap[parent].t, heap[parent].order):
            break
        _copy(heap, i, parent)
        i = parent
    heap[i].t = t
    heap[i].order = order
    heap[i].slot = slot
    heap[i].stamp = stamp


@jit
def drop_first(st: State) -> None:
    """Remove the agenda's first entry."""
    heap, n = st.agenda, st.ctl[0].agenda - 1
    st.ctl[0].agenda = n
    t, order = heap[n].t, heap[n].order
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and _before(heap[child + 1].t, heap[child + 1].order, heap[child].t, heap[child].order):
            child += 1
        if not _before(heap[child].t, heap[child].order, t, order):
            break
        _copy(heap, i, child)
        i = child
    _copy(heap, i, n)

"""Binary heaps in arrays: (key, id) pairs a replica, and the indexed heap of the replicas' next events."""

import numpy as np

from .jit import jit


@jit
def push(keys: np.ndarray, ids: np.ndarray, n: int, key: int, value: int) -> int:
    """Add (key, value) to a heap of n entries; returns n + 1. O(log n)."""
    i = n
    while i > 0:
        parent = (i - 1) >> 1
        if keys[parent] <= key:
            break
        keys[i] = keys[parent]
        ids[i] = ids[parent]
        i = parent
    keys[i] = key
    ids[i] = value
    return n + 1


@jit
def remove_at(keys: np.ndarray, ids: np.ndarray, n: int, at: int) -> int:
    """Remove the entry at position `at` of a heap of n entries; returns n - 1. O(log n)."""
    n -= 1
    if at == n:
        return n
    key, value = keys[n], ids[n]
    i = at
    while i > 0:
        parent = (i - 1) >> 1
        if keys[parent] <= key:
            break
        keys[i] = keys[parent]
        ids[i] = ids[parent]
        i = parent
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[i] = keys[child]
        ids[i] = ids[child]
        i = child
    keys[i] = key
    ids[i] = value
    return n


@jit
def pop(keys: np.ndarray, ids: np.ndarray, n: int) -> int:
    """Remove the smallest entry of a heap of n entries; returns n - 1."""
    return remove_at(keys, ids, n, 0)


@jit
def _place(heap: np.ndarray, where: np.ndarray, at: int, slot: int) -> None:
    heap[at] = slot
    where[slot] = at


@jit
def schedule(heap: np.ndarray, where: np.ndarray, times: np.ndarray, n: int, slot: int, time: float) -> int:
    """Set the next event of `slot` to `time` (inf: none); returns the heap's new size.

    heap: slots, smallest time first; where[slot]: its position or -1; times[slot]: its key. Ties keep any
    order: events of one instant are independent of each other.
    """
    at = where[slot]
    times[slot] = time
    if time == np.inf:
        if at < 0:
            return n
        n -= 1
        where[slot] = -1
        if at == n:
            return n
        moved = heap[n]
    else:
        moved = slot
        if at < 0:
            at = n
            n += 1
    key = times[moved]
    while at > 0:
        parent = (at - 1) >> 1
        if times[heap[parent]] <= key:
            break
        _place(heap, where, at, heap[parent])
        at = parent
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and times[heap[child + 1]] < times[heap[child]]:
            child += 1
        if times[heap[child]] >= key:
            break
        _place(heap, where, at, heap[child])
        at = child
    _place(heap, where, at, moved)
    return n

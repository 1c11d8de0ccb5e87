"""Queues of requests, linked through flight slots: first come first served, or by (rank, order of receipt).

A request that gave up stays in its queue, marked gone, until it comes to the head: leaving the middle costs nothing.
"""

from ..jit import jit
from . import layout as k
from .state import State


@jit
def append(st: State, tail: int, q: int) -> None:
    """Link q behind `tail` (-1: the queue is empty)."""
    st.fly[q].next = -1
    if tail >= 0:
        st.fly[tail].next = q


@jit
def _goes_first(st: State, a: int, b: int) -> bool:
    x, y = st.fly[a], st.fly[b]
    return x.rank < y.rank or (x.rank == y.rank and x.receipt < y.receipt)


@jit
def merge(st: State, a: int, b: int) -> int:
    """Root of the skew heap of two (Sleator and Tarjan 1986), -1 for none; O(log n) amortised."""
    if a < 0:
        return b
    if b < 0:
        return a
    if _goes_first(st, b, a):
        a, b = b, a
    root = a
    while True:
        right = st.fly[a].other
        st.fly[a].other = st.fly[a].next
        if right < 0:
            st.fly[a].next = b
            return root
        if _goes_first(st, b, right):
            right, b = b, right
        st.fly[a].next = right
        a = right


@jit
def insert(st: State, root: int, q: int) -> int:
    """The heap with q in it."""
    st.fly[q].next = -1
    st.fly[q].other = -1
    return merge(st, root, q)


@jit
def without_first(st: State, root: int) -> int:
    """The heap without its root."""
    return merge(st, st.fly[root].next, st.fly[root].other)


# --- a replica's waiting queue ---


@jit
def enqueue(st: State, r: int, q: int) -> None:
    """Put a newly received request into the replica's queue."""
    rep = st.rep[r]
    rep.waiting += 1
    if st.ctl[0].ranked == 1:
        rep.head = insert(st, rep.head, q)
        return
    append(st, rep.tail, q)
    rep.tail = q
    if rep.head < 0:
        rep.head = q


@jit
def put_back(st: State, r: int, q: int) -> None:
    """A preempted request returns to its place; first come first served, that is the front."""
    rep = st.rep[r]
    rep.waiting += 1
    if st.ctl[0].ranked == 1:
        rep.head = insert(st, rep.head, q)
        return
    st.fly[q].next = rep.head
    rep.head = q
    if rep.tail < 0:
        rep.tail = q


@jit
def _unlink_head(st: State, r: int) -> None:
    rep = st.rep[r]
    if st.ctl[0].ranked == 1:
        rep.head = without_first(st, rep.head)
        return
    rep.head = st.fly[rep.head].next
    if rep.head < 0:
        rep.tail = -1


@jit
def dequeue(st: State, r: int) -> None:
    """Take the head out of the replica's queue."""
    _unlink_head(st, r)
    st.rep[r].waiting -= 1


@jit
def clear_gone(st: State, r: int) -> None:
    """Free the requests at the queue's head that gave up; they are no longer counted as waiting."""
    while st.rep[r].head >= 0 and st.fly[st.rep[r].head].gone == 1:
        q = st.rep[r].head
        _unlink_head(st, r)
        free_slot(st, q)


@jit
def free_slot(st: State, q: int) -> None:
    """The flight slot may be used again."""
    fly, ctl = st.fly[q], st.ctl[0]
    fly.replica = -1
    fly.phase = k.ELSEWHERE
    fly.request = -1
    st.free[ctl.free] = q
    ctl.free += 1

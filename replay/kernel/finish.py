"""A replica's run ends, jitted: tokens are emitted, chunks of prompts are done, requests complete (docs/replay.md)."""

import numpy as np

from ..jit import jit
from .batch import begin_decoding, count_out, leave_batch, stop_decoding, waits_for_one_token
from .cache import enter, evict
from .ends import complete
from .heap import key_in, pop, slot_in
from .lanes import hand_over
from .outlive import settle_outlived
from .queues import free_slot
from .runs import grown_blocks
from .state import State


@jit
def finish(st: State, r: int, t: float) -> None:
    """The run in progress ends at t: tokens are emitted, requests complete. The caller sets the next event."""
    rep = st.rep[r]
    count, seqs = rep.count, rep.decodes
    rep.busy_s += t - rep.since
    if rep.planned == 0:
        rep.used += grown_blocks(st, r, count)
        if st.ctl[0].cached == 1:
            evict(st, r, 0)
    rep.steps += count
    rep.context += count * seqs
    rep.generated += count * seqs
    if rep.heap > 0 and key_in(st.ends[r, 0]) == rep.steps:
        _complete_decodes(st, r, t)
    if st.ctl[0].tokens == 1:
        settle_outlived(st, r, rep.steps)
    if rep.planned > 0:
        _finish_chunks(st, r, t)


@jit
def _complete_decodes(st: State, r: int, t: float) -> None:
    """Requests whose last token has come, in admission order where that matters to a prefix cache."""
    rep = st.rep[r]
    first = -1
    while rep.heap > 0 and key_in(st.ends[r, 0]) == rep.steps:
        q = slot_in(st.ends[r, 0])
        rep.heap = pop(st.ends[r], rep.heap)
        if st.ctl[0].cached == 0:
            _complete(st, r, q, t)
        else:
            first = _by_place(st, first, q)
    while first >= 0:
        following = st.fly[first].next
        _complete(st, r, first, t)
        first = following


@jit
def _by_place(st: State, first: int, q: int) -> int:
    """Insert q into a list by admission; returns its first."""
    if first < 0 or st.fly[q].place < st.fly[first].place:
        st.fly[q].next = first
        return q
    at = first
    while st.fly[at].next >= 0 and st.fly[st.fly[at].next].place < st.fly[q].place:
        at = st.fly[at].next
    st.fly[q].next = st.fly[at].next
    st.fly[at].next = q
    return first


@jit
def _complete(st: State, r: int, q: int, t: float) -> None:
    stop_decoding(st, r, q)
    complete(st, r, q, t)


@jit
def _finish_chunks(st: State, r: int, t: float) -> None:
    rep = st.rep[r]
    for e in range(rep.planned):
        q, take = st.plan[r, e].slot, st.plan[r, e].tokens
        fly = st.fly[q]
        rep.prefill -= 0 if waits_for_one_token(st, q) else take
        fly.computed += take
        if st.ctl[0].cached == 1 and fly.hash_n > fly.shared:
            enter(st, r, q)
        if fly.gone == 1:
            leave_batch(st, r, q)
            count_out(st, r, q)
            free_slot(st, q)
            continue
        if fly.computed < fly.input + fly.generated:
            rep.partial = q
            rep.prefill -= 1 if waits_for_one_token(st, q) else 0
            continue
        if rep.partial == q:
            rep.partial = -1
        fly.generated += 1
        rep.generated += 1
        if fly.first_s == np.inf:
            fly.first_s = t
        if fly.generated == fly.output:
            complete(st, r, q, t)
        elif st.pool[rep.pool].onward >= 0 and fly.target < 0:
            hand_over(st, r, q, t)
        else:
            begin_decoding(st, r, q)
    rep.planned = 0

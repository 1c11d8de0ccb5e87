"""A replica starts a run, jitted: one iteration planned, or many at once (docs/replay.md).

A run is either one mixed iteration or `count` decode iterations of an unchanged batch, whose m-th ends at
since + m·first + decode_kv·B·m(m-1)/2. Requests that decode are not touched during a run: what they hold
follows from `steps`, the replica's count of ended iterations.
"""

import numpy as np

from ..jit import jit
from . import layout as k
from .batch import compact_stack, leave_batch, push_stack, waits_for_one_token
from .cache import evict, hit_blocks, own_blocks, share, unused_in
from .heap import key_in, schedule
from .queues import clear_gone, dequeue, put_back
from .runs import blocks_of, end_of, ended_by, iterations_that_fit
from .state import State
from .view import publish


@jit
def start(st: State, r: int, t: float) -> None:
    """Plan the next run of the replica at t and set its next event; nothing where there is no work."""
    rep = st.rep[r]
    rep.planned = 0
    if st.ctl[0].ghosts == 1:
        clear_gone(st, r)
    if rep.running == 0 and rep.waiting == 0:
        schedule(st, r, np.inf)
        return
    preempted = False
    grow, chunk = _running_needs(st, r)
    if grow + chunk > rep.blocks - rep.used:
        before = rep.running
        _make_room(st, r)
        preempted = rep.running < before
        grow, chunk = _running_needs(st, r)
    budget = rep.max_batch - rep.decodes
    if rep.partial >= 0:
        partial = st.fly[rep.partial]
        take = min(partial.input + partial.generated - partial.computed, budget)
        budget -= take
        _plan_chunk(st, r, rep.partial, take)
    rep.used += grow + chunk
    if st.ctl[0].cached == 1:
        evict(st, r, 0)
    # where blocks of requests that migrate away fill it, all may have been preempted: then it plans once more
    if rep.waiting > 0 and (not preempted or rep.running == 0):
        _admit(st, r, budget, t)
    if rep.running == 0:
        schedule(st, r, np.inf)  # until those blocks are free
        publish(st, r)
        return
    _begin_run(st, r, t, grow, preempted)
    publish(st, r)


@jit
def _running_needs(st: State, r: int) -> tuple[int, int]:
    """Blocks the running requests add in the next iteration: (decodes, the partial prompt's chunk)."""
    rep = st.rep[r]
    grow = st.residue[r, (-rep.steps) % rep.block]
    if rep.partial < 0:
        return grow, 0
    partial = st.fly[rep.partial]
    take = min(partial.input + partial.generated - partial.computed, rep.max_batch - rep.decodes)
    return grow, blocks_of(partial.computed + take, rep.block) - blocks_of(partial.computed, rep.block)


@jit
def _make_room(st: State, r: int) -> None:
    """Walk the running requests in admission order, preempting the last for blocks the earlier ones lack."""
    compact_stack(st, r)
    rep = st.rep[r]
    free, budget, taken = rep.blocks - rep.used, rep.max_batch, 0
    i = 0
    while i < rep.stack:
        fly = st.fly[st.stack[r, i]]
        if fly.phase == k.DECODE:
            take = 1
            add = 1 if (fly.computed + rep.steps) % rep.block == 0 else 0
        else:
            take = min(fly.input + fly.generated - fly.computed, budget)
            add = blocks_of(fly.computed + take, rep.block) - blocks_of(fly.computed, rep.block)
        while add > free:
            last = rep.stack - 1
            free += _preempt(st, r, st.stack[r, last])
            rep.stack = last
            if last == i:
                return
        free -= add
        taken += add
        if st.ctl[0].cached == 1:
            evict(st, r, taken)  # before a later request is preempted and lets go of more
        budget -= take
        i += 1


@jit
def _preempt(st: State, r: int, q: int) -> int:
    """Take q's blocks and send it back to its place in the queue; returns the blocks freed."""
    rep, fly = st.rep[r], st.fly[q]
    before = rep.used
    leave_batch(st, r, q)
    rep.prefill += fly.input + fly.generated
    fly.preemptions += 1
    fly.phase = k.WAITING
    put_back(st, r, q)
    return before - rep.used  # type: ignore[no-any-return]


@jit
def _plan_chunk(st: State, r: int, q: int, take: int) -> None:
    chunk = st.plan[r, st.rep[r].planned]
    chunk.slot = q
    chunk.tokens = take
    st.rep[r].planned += 1


@jit
def _admit(st: State, r: int, budget: int, t: float) -> None:
    """Admit from the head of the queue while its whole remaining prompt has free blocks."""
    rep, ctl = st.rep[r], st.ctl[0]
    while budget > 0 and rep.running < rep.max_seqs and rep.waiting > 0:
        if ctl.ghosts == 1:
            clear_gone(st, r)
        q = rep.head
        fly = st.fly[q]
        need, hit, unused = fly.input + fly.generated - fly.computed, 0, 0
        if ctl.cached == 1 and fly.hash_n > 0 and fly.computed == 0:  # one that migrated here brings its KV
            hit = hit_blocks(st, r, q)
            unused = unused_in(st, r, q, hit)
        room = rep.blocks - rep.used - unused * rep.per_hash
        if blocks_of(fly.input + fly.generated, rep.block) - hit * rep.per_hash > room:
            return
        dequeue(st, r)
        if hit > 0:
            share(st, r, q, hit)
            need -= fly.computed
            rep.prefill -= fly.computed
        fly.phase = k.PREFILL
        rep.running += 1
        push_stack(st, r, q)
        if fly.admitted_s == np.inf:
            fly.admitted_s = t
        take = min(need, budget)
        rep.used += own_blocks(st, r, q, fly.computed + take)
        if ctl.cached == 1:
            evict(st, r, 0)
        budget -= take
        _plan_chunk(st, r, q, take)


@jit
def _begin_run(st: State, r: int, t: float, grow: int, preempted: bool) -> None:
    """Duration of the planned iteration, how many like it follow, and the time of the next event."""
    rep = st.rep[r]
    seqs, prefix, pairs = rep.decodes, 0, 0.0
    n, context = seqs, rep.context + seqs
    for e in range(rep.planned):
        q, take = st.plan[r, e].slot, st.plan[r, e].tokens
        computed = st.fly[q].computed
        n += take
        if waits_for_one_token(st, q):
            seqs += 1
            context += computed + 1
        else:
            prefix += computed
            pairs += take * computed + take * (take + 1) / 2
    shape = st.shape[rep.profile]
    rep.since = t
    rep.first = (
        shape.fixed
        + st.token_s[rep.profile, n]
        + shape.attn_pair * pairs
        + shape.prefix_kv * prefix
        + shape.decode_seq * seqs
        + shape.decode_kv * context
    )
    rep.count = 1
    if rep.planned == 0:
        rep.used -= grow  # a run's blocks are taken when it ends, or looked at
        if not preempted:
            rep.count = iterations_that_fit(st, r, key_in(st.ends[r, 0]) - rep.steps)
    schedule(st, r, end_of(st, r, rep.count))


@jit
def shorten(st: State, r: int, t: float) -> None:
    """End the run in progress at the first iteration boundary at or after t."""
    rep = st.rep[r]
    if rep.planned > 0 or rep.count == 1:
        return
    m = ended_by(st, r, t)
    if m == 0 or end_of(st, r, m) < t:
        m += 1
    if m < rep.count:
        rep.count = m
        schedule(st, r, end_of(st, r, m))

"""One replica, jitted: queueing, planning an iteration, running many at once, ending them (docs/replay.md).

A run is either one mixed iteration or R_COUNT decode iterations of an unchanged batch, whose m-th ends at
since + m·first + decode_kv·B·m(m-1)/2. Requests that decode are not touched during a run: what they hold
follows from R_STEPS, the replica's count of ended iterations.
"""

import numpy as np

from . import columns as c
from .heap import pop, push, remove_at, schedule
from .jit import jit, seldom
from .outlive import extend, settle_outlived, watch
from .runs import blocks_of, end_of, ended_by, grown_blocks, iterations_that_fit
from .state import State


@jit
def publish(st: State, r: int) -> None:
    """Write the always-current columns of the replica's view row."""
    row = st.rep[r, c.R_ROW]
    st.rows[row, c.WAITING] = st.rep[r, c.R_WAITING]
    st.rows[row, c.RUNNING] = st.rep[r, c.R_RUNNING]
    st.rows[row, c.PREFILL_TOKENS] = st.rep[r, c.R_PREFILL]


# --- requests move ---


@jit
def append_waiting(st: State, r: int, q: int) -> None:
    """Put request q at the back of the replica's queue."""
    st.fly[q, c.F_NEXT] = -1
    if st.rep[r, c.R_TAIL] < 0:
        st.rep[r, c.R_HEAD] = q
    else:
        st.fly[st.rep[r, c.R_TAIL], c.F_NEXT] = q
    st.rep[r, c.R_TAIL] = q
    st.rep[r, c.R_WAITING] += 1


@jit
def _prepend_waiting(st: State, r: int, q: int) -> None:
    st.fly[q, c.F_NEXT] = st.rep[r, c.R_HEAD]
    st.rep[r, c.R_HEAD] = q
    if st.rep[r, c.R_TAIL] < 0:
        st.rep[r, c.R_TAIL] = q
    st.rep[r, c.R_WAITING] += 1


@jit
def _take_waiting(st: State, r: int) -> int:
    q = st.rep[r, c.R_HEAD]
    st.rep[r, c.R_HEAD] = st.fly[q, c.F_NEXT]
    if st.rep[r, c.R_HEAD] < 0:
        st.rep[r, c.R_TAIL] = -1
    st.rep[r, c.R_WAITING] -= 1
    return q


@jit
def _is_running(st: State, r: int, q: int, place: int) -> bool:
    """Whether the admission stack's entry at `place` still stands (flight slots are reused)."""
    return st.fly[q, c.F_REPLICA] == r and st.fly[q, c.F_PLACE] == place and st.fly[q, c.F_PHASE] != c.P_WAITING


@seldom
def _compact_stack(st: State, r: int) -> None:
    n = 0
    for place in range(st.rep[r, c.R_STACK]):
        q = st.stack[r, place]
        if _is_running(st, r, q, place):
            st.stack[r, n] = q
            st.fly[q, c.F_PLACE] = n
            n += 1
    st.rep[r, c.R_STACK] = n


@jit
def _push_stack(st: State, r: int, q: int) -> None:
    if st.rep[r, c.R_STACK] == st.stack.shape[1]:  # twice max_seqs: O(1) a request, amortised
        _compact_stack(st, r)
    place = st.rep[r, c.R_STACK]
    st.stack[r, place] = q
    st.fly[q, c.F_PLACE] = place
    st.rep[r, c.R_STACK] = place + 1


@jit
def finished(st: State, q: int, status: int, t: float) -> None:
    """Write the request's output row and free its flight slot."""
    n = st.ctl[c.C_OUT]
    st.done[n, c.O_REQUEST] = st.fly[q, c.F_REQUEST]
    st.done[n, c.O_STATUS] = status
    st.done[n, c.O_POOL] = st.fly[q, c.F_POOL]
    st.done[n, c.O_RECORD] = st.fly[q, c.F_RECORD]
    st.done[n, c.O_PREEMPTIONS] = st.fly[q, c.F_PREEMPTIONS]
    st.done_t[n, c.O_ADMITTED] = st.fly_t[q, c.F_ADMITTED]
    st.done_t[n, c.O_FIRST] = st.fly_t[q, c.F_FIRST]
    st.done_t[n, c.O_DONE] = t
    st.ctl[c.C_OUT] = n + 1
    st.fly[q, c.F_REPLICA] = -1
    st.free[st.ctl[c.C_FREE]] = q
    st.ctl[c.C_FREE] += 1
    st.ctl[c.C_IN_FLIGHT] -= 1


@jit
def _complete(st: State, r: int, q: int, t: float) -> None:
    held = st.fly[q, c.F_INPUT] + st.fly[q, c.F_OUTPUT] - 1
    st.rep[r, c.R_USED] -= blocks_of(held, st.rep[r, c.R_BLOCK])
    st.rep[r, c.R_RUNNING] -= 1
    st.rep[r, c.R_PREDICTED] -= st.fly[q, c.F_PREDICTED]
    st.rep[r, c.R_GENERATED] -= st.fly[q, c.F_OUTPUT]
    st.rep[r, c.R_INPUT] -= st.fly[q, c.F_INPUT]
    pool = st.rep[r, c.R_POOL]
    st.pool[pool, c.Q_COMPLETED] += 1
    st.pool[pool, c.Q_COMPLETED_OUTPUT] += st.fly[q, c.F_OUTPUT]
    finished(st, q, c.OK, t)


@jit
def _join_decode(st: State, r: int, q: int) -> None:
    """q has emitted a token and needs one more pass a token: it leaves explicit bookkeeping."""
    steps, block = st.rep[r, c.R_STEPS], st.rep[r, c.R_BLOCK]
    computed, generated = st.fly[q, c.F_COMPUTED], st.fly[q, c.F_GENERATED]
    st.rep[r, c.R_DECODES] += 1
    st.rep[r, c.R_CONTEXT] += computed
    st.fly[q, c.F_PHASE] = c.P_DECODE
    st.fly[q, c.F_COMPUTED] = computed - steps
    st.fly[q, c.F_GENERATED] = generated - steps
    st.residue[r, (computed - steps) % block] += 1
    key = st.fly[q, c.F_OUTPUT] - (generated - steps)
    st.rep[r, c.R_HEAP] = push(st.done_key[r], st.done_id[r], st.rep[r, c.R_HEAP], key, q)
    if st.ctl[c.C_TOKENS] == 1:
        while st.fly[q, c.F_PREDICTED] <= generated:
            extend(st, r, q)
        watch(st, r, q)


@jit
def _leave_decode(st: State, r: int, q: int) -> None:
    """Undo `_join_decode`, but for the completion heap; F_COMPUTED and F_GENERATED become plain counts."""
    steps, block = st.rep[r, c.R_STEPS], st.rep[r, c.R_BLOCK]
    st.residue[r, st.fly[q, c.F_COMPUTED] % block] -= 1
    st.fly[q, c.F_COMPUTED] += steps
    st.fly[q, c.F_GENERATED] += steps
    st.rep[r, c.R_DECODES] -= 1
    st.rep[r, c.R_CONTEXT] -= st.fly[q, c.F_COMPUTED]
    st.fly[q, c.F_OUTLIVES] = -1


@jit
def look(st: State, r: int, t: float) -> None:
    """Bring the replica's token and KV columns to time t (events at t itself have been applied)."""
    row, m, ahead = st.rep[r, c.R_ROW], 0, 0
    if st.event_t[r] != np.inf:
        if st.rep[r, c.R_PLANNED] == 0:
            m = min(ended_by(st, r, t), st.rep[r, c.R_COUNT] - 1)
            ahead = grown_blocks(st, r, m + 1)
        settle_outlived(st, r, st.rep[r, c.R_STEPS] + m)
    predicted = st.rep[r, c.R_PREDICTED]
    generated = st.rep[r, c.R_GENERATED] + m * st.rep[r, c.R_DECODES]
    st.rows[row, c.OUTSTANDING_TOKENS] = st.rep[r, c.R_PREFILL] + predicted - generated
    st.rows[row, c.EXPECTED_TOKENS] = st.rep[r, c.R_INPUT] + predicted
    st.rows[row, c.KV_TOKENS] = (st.rep[r, c.R_USED] + ahead) * st.rep[r, c.R_BLOCK]


# --- start and finish ---


@seldom
def _preempt(st: State, r: int, q: int) -> int:
    """Take q's blocks and send it back to the front of the queue; returns the blocks freed."""
    if st.fly[q, c.F_PHASE] == c.P_DECODE:
        _leave_decode(st, r, q)
        n = st.rep[r, c.R_HEAP]
        at = 0
        while st.done_id[r, at] != q:
            at += 1
        st.rep[r, c.R_HEAP] = remove_at(st.done_key[r], st.done_id[r], n, at)
        st.rep[r, c.R_PREFILL] += st.fly[q, c.F_INPUT] + st.fly[q, c.F_GENERATED]
    else:
        st.rep[r, c.R_PARTIAL] = -1
        st.rep[r, c.R_PREFILL] += st.fly[q, c.F_COMPUTED] + (1 if _last_token_decodes(st, q) else 0)
    freed = blocks_of(st.fly[q, c.F_COMPUTED], st.rep[r, c.R_BLOCK])
    st.rep[r, c.R_USED] -= freed
    st.rep[r, c.R_RUNNING] -= 1
    st.fly[q, c.F_COMPUTED] = 0
    st.fly[q, c.F_PREEMPTIONS] += 1
    st.fly[q, c.F_PHASE] = c.P_WAITING
    _prepend_waiting(st, r, q)
    return freed


@seldom
def _make_room(st: State, r: int) -> None:
    """Walk the running requests in admission order, preempting the last for blocks the earlier ones lack."""
    _compact_stack(st, r)
    block, steps = st.rep[r, c.R_BLOCK], st.rep[r, c.R_STEPS]
    free = st.rep[r, c.R_BLOCKS] - st.rep[r, c.R_USED]
    budget = st.rep[r, c.R_MAX_BATCH]
    i = 0
    while i < st.rep[r, c.R_STACK]:
        q = st.stack[r, i]
        if st.fly[q, c.F_PHASE] == c.P_DECODE:
            take = 1
            add = 1 if (st.fly[q, c.F_COMPUTED] + steps) % block == 0 else 0
        else:
            computed = st.fly[q, c.F_COMPUTED]
            take = min(st.fly[q, c.F_INPUT] + st.fly[q, c.F_GENERATED] - computed, budget)
            add = blocks_of(computed + take, block) - blocks_of(computed, block)
        while add > free:
            last = st.rep[r, c.R_STACK] - 1
            free += _preempt(st, r, st.stack[r, last])
            st.rep[r, c.R_STACK] = last
            if last == i:
                return
        free -= add
        budget -= take
        i += 1


@jit
def _plan_chunk(st: State, r: int, q: int, take: int) -> None:
    n = st.rep[r, c.R_PLANNED]
    st.plan_id[r, n] = q
    st.plan_take[r, n] = take
    st.rep[r, c.R_PLANNED] = n + 1


@jit
def _admit(st: State, r: int, budget: int, t: float) -> None:
    """Admit from the head of the queue while its whole remaining prompt has free blocks."""
    block = st.rep[r, c.R_BLOCK]
    while budget > 0 and st.rep[r, c.R_RUNNING] < st.rep[r, c.R_MAX_SEQS] and st.rep[r, c.R_WAITING] > 0:
        q = st.rep[r, c.R_HEAD]
        need = st.fly[q, c.F_INPUT] + st.fly[q, c.F_GENERATED]
        if blocks_of(need, block) > st.rep[r, c.R_BLOCKS] - st.rep[r, c.R_USED]:
            return
        _take_waiting(st, r)
        st.fly[q, c.F_PHASE] = c.P_PREFILL
        st.rep[r, c.R_RUNNING] += 1
        _push_stack(st, r, q)
        if st.fly_t[q, c.F_ADMITTED] == np.inf:
            st.fly_t[q, c.F_ADMITTED] = t
        take = min(need, budget)
        st.rep[r, c.R_USED] += blocks_of(take, block)
        budget -= take
        _plan_chunk(st, r, q, take)


@jit
def start(st: State, r: int, t: float) -> None:
    """Plan the next run of the replica at t and set its next event; nothing where there is no work."""
    st.rep[r, c.R_PLANNED] = 0
    if st.rep[r, c.R_RUNNING] == 0 and st.rep[r, c.R_WAITING] == 0:
        _set_event(st, r, np.inf)
        return
    preempted = False
    grow, chunk = _running_needs(st, r)
    if grow + chunk > st.rep[r, c.R_BLOCKS] - st.rep[r, c.R_USED]:
        before = st.rep[r, c.R_RUNNING]
        _make_room(st, r)
        preempted = st.rep[r, c.R_RUNNING] < before
        grow, chunk = _running_needs(st, r)
    budget = st.rep[r, c.R_MAX_BATCH] - st.rep[r, c.R_DECODES]
    decode_blocks = grow
    partial = st.rep[r, c.R_PARTIAL]
    if partial >= 0:
        left = st.fly[partial, c.F_INPUT] + st.fly[partial, c.F_GENERATED] - st.fly[partial, c.F_COMPUTED]
        take = min(left, budget)
        budget -= take
        _plan_chunk(st, r, partial, take)
    st.rep[r, c.R_USED] += decode_blocks + chunk
    if not preempted:
        _admit(st, r, budget, t)
    _begin_run(st, r, t, decode_blocks, preempted)
    publish(st, r)


@jit
def _running_needs(st: State, r: int) -> tuple[int, int]:
    """Blocks the running requests add in the next iteration: (decodes, the partial prompt's chunk)."""
    block = st.rep[r, c.R_BLOCK]
    grow = grown_blocks(st, r, 1)
    partial = st.rep[r, c.R_PARTIAL]
    if partial < 0:
        return grow, 0
    computed = st.fly[partial, c.F_COMPUTED]
    left = st.fly[partial, c.F_INPUT] + st.fly[partial, c.F_GENERATED] - computed
    take = min(left, st.rep[r, c.R_MAX_BATCH] - st.rep[r, c.R_DECODES])
    return grow, blocks_of(computed + take, block) - blocks_of(computed, block)


@jit
def _begin_run(st: State, r: int, t: float, decode_blocks: int, preempted: bool) -> None:
    """Duration of the planned iteration, how many like it follow, and the time of the next event."""
    profile, seqs = st.rep[r, c.R_PROFILE], st.rep[r, c.R_DECODES]
    n, prefix, pairs = seqs, 0, 0.0
    context = st.rep[r, c.R_CONTEXT] + seqs
    for e in range(st.rep[r, c.R_PLANNED]):
        q, take = st.plan_id[r, e], st.plan_take[r, e]
        computed = st.fly[q, c.F_COMPUTED]
        n += take
        if _last_token_decodes(st, q):
            seqs += 1
            context += computed + 1
        else:
            prefix += computed
            pairs += take * computed + take * (take + 1) / 2
    st.rep_t[r, c.R_SINCE] = t
    st.rep_t[r, c.R_FIRST] = (
        st.latency[profile, c.L_BASE]
        + st.token_s[profile, n]
        + st.latency[profile, c.L_ATTN_PAIR] * pairs
        + st.latency[profile, c.L_PREFIX_KV] * prefix
        + st.latency[profile, c.L_DECODE_SEQ] * seqs
        + st.latency[profile, c.L_DECODE_KV] * context
    )
    count = 1
    if st.rep[r, c.R_PLANNED] == 0:
        st.rep[r, c.R_USED] -= decode_blocks  # a run's blocks are taken when it ends, or looked at
        if not preempted:
            count = iterations_that_fit(st, r, st.done_key[r, 0] - st.rep[r, c.R_STEPS])
    st.rep[r, c.R_COUNT] = count
    _set_event(st, r, end_of(st, r, count))


@jit
def _set_event(st: State, r: int, t: float) -> None:
    st.ctl[c.C_EVENTS] = schedule(st.events, st.event_at, st.event_t, st.ctl[c.C_EVENTS], r, t)


@jit
def finish(st: State, r: int, t: float) -> None:
    """The run in progress ends at t: tokens are emitted, requests complete, the replica may start again."""
    count = st.rep[r, c.R_COUNT]
    st.rep_t[r, c.R_BUSY] += t - st.rep_t[r, c.R_SINCE]
    seqs = st.rep[r, c.R_DECODES]
    if st.rep[r, c.R_PLANNED] == 0:
        st.rep[r, c.R_USED] += grown_blocks(st, r, count)
    st.rep[r, c.R_STEPS] += count
    st.rep[r, c.R_CONTEXT] += count * seqs
    st.rep[r, c.R_GENERATED] += count * seqs
    steps = st.rep[r, c.R_STEPS]
    while st.rep[r, c.R_HEAP] > 0 and st.done_key[r, 0] == steps:
        q = st.done_id[r, 0]
        st.rep[r, c.R_HEAP] = pop(st.done_key[r], st.done_id[r], st.rep[r, c.R_HEAP])
        _leave_decode(st, r, q)
        _complete(st, r, q, t)
    if st.ctl[c.C_TOKENS] == 1:
        settle_outlived(st, r, steps)
    _finish_chunks(st, r, t)
    _set_event(st, r, np.inf)
    publish(st, r)
    if st.rep[r, c.R_STATE] == c.DRAINING and st.rep[r, c.R_RUNNING] == 0 and st.rep[r, c.R_WAITING] == 0:
        st.rep[r, c.R_STATE] = c.ENDED
        st.rep_t[r, c.R_OFF] = t


@jit
def _last_token_decodes(st: State, q: int) -> bool:
    """A preempted request whose recomputation lacks one token counts as decoding (it has emitted before)."""
    left = st.fly[q, c.F_INPUT] + st.fly[q, c.F_GENERATED] - st.fly[q, c.F_COMPUTED]
    return st.fly[q, c.F_GENERATED] > 0 and left == 1


@jit
def _finish_chunks(st: State, r: int, t: float) -> None:
    for e in range(st.rep[r, c.R_PLANNED]):
        q, take = st.plan_id[r, e], st.plan_take[r, e]
        st.rep[r, c.R_PREFILL] -= 0 if _last_token_decodes(st, q) else take
        st.fly[q, c.F_COMPUTED] += take
        if st.fly[q, c.F_COMPUTED] < st.fly[q, c.F_INPUT] + st.fly[q, c.F_GENERATED]:
            st.rep[r, c.R_PARTIAL] = q
            st.rep[r, c.R_PREFILL] -= 1 if _last_token_decodes(st, q) else 0
            continue
        if st.rep[r, c.R_PARTIAL] == q:
            st.rep[r, c.R_PARTIAL] = -1
        st.fly[q, c.F_GENERATED] += 1
        st.rep[r, c.R_GENERATED] += 1
        if st.fly_t[q, c.F_FIRST] == np.inf:
            st.fly_t[q, c.F_FIRST] = t
        if st.fly[q, c.F_GENERATED] == st.fly[q, c.F_OUTPUT]:
            _complete(st, r, q, t)
        else:
            _join_decode(st, r, q)
    st.rep[r, c.R_PLANNED] = 0


@jit
def receive(st: State, r: int, q: int, t: float) -> None:
    """Request q is routed to the replica at t: it joins at the first iteration boundary at or after t."""
    st.fly[q, c.F_REPLICA] = r
    st.fly[q, c.F_RECORD] = st.rep[r, c.R_RECORD]
    st.fly[q, c.F_PHASE] = c.P_WAITING
    append_waiting(st, r, q)
    st.rep[r, c.R_PREFILL] += st.fly[q, c.F_INPUT]
    st.rep[r, c.R_INPUT] += st.fly[q, c.F_INPUT]
    st.rep[r, c.R_PREDICTED] += st.fly[q, c.F_PREDICTED]
    publish(st, r)
    if st.event_t[r] == np.inf:
        mark_idle(st, r)
    elif st.rep[r, c.R_WAITING] == 1 and st.rep[r, c.R_PLANNED] == 0 and st.rep[r, c.R_COUNT] > 1:
        if st.rep[r, c.R_RUNNING] >= st.rep[r, c.R_MAX_SEQS]:
            return  # nobody is admitted before a completion, where the run ends anyway
        m = ended_by(st, r, t)
        if m == 0 or end_of(st, r, m) < t:
            m += 1
        if m < st.rep[r, c.R_COUNT]:
            st.rep[r, c.R_COUNT] = m
            _set_event(st, r, end_of(st, r, m))


@jit
def mark_idle(st: State, r: int) -> None:
    """The replica may start an iteration once everything else of this instant has happened."""
    if st.is_idle[r] == 0:
        st.is_idle[r] = 1
        st.idle[st.ctl[c.C_IDLE]] = r
        st.ctl[c.C_IDLE] += 1

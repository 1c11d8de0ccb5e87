"""Who is in a replica's batch: the admission stack, joining and leaving the decoding requests, blocks given back."""

from ..jit import jit
from . import layout as k
from .cache import let_go, own_blocks
from .heap import packed, push, remove_at, slot_in
from .outlive import extend, watch
from .state import State


@jit
def waits_for_one_token(st: State, q: int) -> bool:
    """A request that has emitted before and lacks one token counts as decoding, also in a planned chunk."""
    fly = st.fly[q]
    return fly.generated > 0 and fly.input + fly.generated - fly.computed == 1


@jit
def unfilled(st: State, q: int) -> int:
    """Tokens of q yet to be prefilled; the one that a decoding request waits for is not."""
    fly = st.fly[q]
    need = fly.input + fly.generated - fly.computed
    return 0 if fly.generated > 0 and need == 1 else need  # type: ignore[no-any-return]


# --- the admission stack ---


@jit
def stands_at(st: State, r: int, place: int) -> bool:
    """Whether the stack's entry is that of a running request (its place is the request's: slots are reused)."""
    fly = st.fly[st.stack[r, place]]
    running = fly.phase == k.PREFILL or fly.phase == k.DECODE
    return running and fly.replica == r and fly.place == place  # type: ignore[no-any-return]


@jit
def compact_stack(st: State, r: int) -> None:
    """Close the gaps that requests left."""
    n = 0
    for place in range(st.rep[r].stack):
        if stands_at(st, r, place):
            q = st.stack[r, place]
            st.stack[r, n] = q
            st.fly[q].place = n
            n += 1
    st.rep[r].stack = n


@jit
def push_stack(st: State, r: int, q: int) -> None:
    """q is the last admitted."""
    if st.rep[r].stack == st.stack.shape[1]:  # twice max_seqs: O(1) a request, amortised
        compact_stack(st, r)
    place = st.rep[r].stack
    st.stack[r, place] = q
    st.fly[q].place = place
    st.rep[r].stack = place + 1


# --- joining and leaving ---


@jit
def begin_decoding(st: State, r: int, q: int) -> None:
    """q has emitted a token and needs one more pass a token: it leaves explicit bookkeeping."""
    rep, fly = st.rep[r], st.fly[q]
    generated = fly.generated
    rep.decodes += 1
    rep.context += fly.computed
    fly.phase = k.DECODE
    fly.computed -= rep.steps
    fly.generated -= rep.steps
    st.residue[r, fly.computed % rep.block] += 1
    rep.heap = push(st.ends[r], rep.heap, packed(fly.output - fly.generated, q))
    if st.ctl[0].tokens == 1:
        while fly.predicted <= generated:
            extend(st, r, q)
        watch(st, r, q)


@jit
def stop_decoding(st: State, r: int, q: int) -> None:
    """Undo `begin_decoding`, but for the completion heap; computed and generated become plain counts."""
    rep, fly = st.rep[r], st.fly[q]
    st.residue[r, fly.computed % rep.block] -= 1
    fly.computed += rep.steps
    fly.generated += rep.steps
    rep.decodes -= 1
    rep.context -= fly.computed
    fly.late_key = -1


@jit
def return_blocks(st: State, r: int, q: int) -> None:
    """q leaves the batch and holds nothing any more; only its counts of tokens stay."""
    rep = st.rep[r]
    rep.used -= own_blocks(st, r, q, st.fly[q].computed)
    rep.running -= 1
    if st.ctl[0].cached == 1:
        let_go(st, r, q)


@jit
def take_end_out(st: State, r: int, q: int) -> None:
    """Remove q's entry from the completion heap. O(sequences)."""
    at = 0
    while slot_in(st.ends[r, at]) != q:
        at += 1
    st.rep[r].heap = remove_at(st.ends[r], st.rep[r].heap, at)


@jit
def leave_batch(st: State, r: int, q: int) -> None:
    """q, running, goes before it is complete: its blocks are free, nothing of it is computed."""
    rep, fly = st.rep[r], st.fly[q]
    if fly.phase == k.DECODE:
        stop_decoding(st, r, q)
        take_end_out(st, r, q)
    else:
        if rep.partial == q:
            rep.partial = -1
        rep.prefill -= unfilled(st, q)
    return_blocks(st, r, q)
    fly.computed = 0


@jit
def count_out(st: State, r: int, q: int) -> None:
    """The replica's sums no longer include q (its prompt still to be prefilled is the caller's)."""
    rep, fly = st.rep[r], st.fly[q]
    rep.predicted -= fly.predicted
    rep.generated -= fly.generated
    rep.input -= fly.input

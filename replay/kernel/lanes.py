"""Prefill and decode lanes: a request that has its first token leaves for a decode pool (docs/replay.md)."""

from ..jit import jit
from . import layout as k
from .batch import count_out
from .ends import note_end
from .heap import announce
from .runs import blocks_of
from .state import State


@jit
def nearest_up(st: State, group: int) -> int:
    """Which of the group's pools is home: that of its own region, else the nearest that is up (docs/replay.md)."""
    own = st.own_at[group]
    if own >= 0 and st.pool[st.choices[group, own]].down == 0:
        return own  # type: ignore[no-any-return]
    for at in range(st.choices.shape[1]):
        if st.choices[group, at] >= 0 and st.pool[st.choices[group, at]].down == 0:
            return at
    return max(own, 0)


@jit
def fits(st: State, r: int, q: int) -> bool:
    """Whether the replica can ever hold q, and where its lane is prefill, some decode pool what follows."""
    fly, rep = st.fly[q], st.rep[r]
    tokens = fly.input + fly.output - 1
    if st.pool[rep.pool].onward >= 0:
        if fly.generated + 1 < fly.output and tokens > st.pool[rep.pool].onward_tokens:
            return False
        tokens = fly.input + fly.generated
    return blocks_of(tokens, rep.block) <= rep.blocks


@jit
def hand_over(st: State, r: int, q: int, t: float) -> None:
    """q emitted a token in a prefill lane: it leaves for the decode pool, its blocks still held here."""
    fly, rep = st.fly[q], st.rep[r]
    pool = st.pool[rep.pool]
    at = nearest_up(st, pool.onward)
    count_out(st, r, q)
    rep.running -= 1
    rep.transit += 1
    note_end(st, rep.pool, t)
    fly.target = k.ANY
    fly.target_pool = st.choices[pool.onward, at]
    fly.source = r
    fly.source_record = rep.record
    fly.prefilled = 1 + rep.record
    fly.replica = -1
    fly.since_s = t
    fly.phase = k.TRAVELLING
    fly.stage = k.MOVED
    lag = st.lag_s[pool.onward, at] + fly.computed * st.shape[rep.profile].kv_transfer
    announce(st, t + lag, k.ARRIVE * k.PHASE + fly.request, q, 0)


@jit
def received(st: State, q: int, t: float) -> None:
    """q, handed over, has come to its decode pool."""
    fly, pool = st.fly[q], st.pool[st.fly[q].pool]
    fly.transfer_s += t - fly.since_s
    pool.arrived += 1
    pool.arrived_input += fly.input
    pool.arrived_batch += fly.input if fly.tier == k.BATCH else 0

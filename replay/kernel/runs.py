"""Time and blocks within a run: when its iterations end, how many fit, what they add (docs/replay.md).

The m-th of `count` decode iterations of an unchanged batch ends at since + m·first + decode_kv·B·m(m-1)/2.
"""

import math

from ..jit import jit
from .state import State


@jit
def blocks_of(tokens: int, block: int) -> int:
    """KV blocks that `tokens` tokens occupy."""
    return (tokens + block - 1) // block


@jit
def end_of(st: State, r: int, m: int) -> float:
    """End of the run's m-th iteration, in seconds."""
    rep = st.rep[r]
    growth = st.shape[rep.profile].decode_kv * rep.decodes
    return rep.since + (m * rep.first + growth * (m * (m - 1) / 2))


@jit
def ended_by(st: State, r: int, t: float) -> int:
    """How many iterations of the run have ended at or before t: the inverse of `end_of`."""
    rep = st.rep[r]
    x = t - rep.since
    if x <= 0.0:
        return 0
    growth = st.shape[rep.profile].decode_kv * rep.decodes
    b = rep.first - growth / 2
    m = int(2.0 * x / (b + math.sqrt(b * b + 2.0 * growth * x)))  # the stable root; exact for growth = 0
    count = rep.count
    m = min(m, count)
    while m < count and end_of(st, r, m + 1) <= t:  # rounding of the root: at most a step or two
        m += 1
    while m > 0 and end_of(st, r, m) > t:
        m -= 1
    return m


@jit
def grown_blocks(st: State, r: int, m: int) -> int:
    """Blocks the decoding requests add in the next m iterations after `steps`."""
    rep = st.rep[r]
    block = rep.block
    cycles = m // block
    total = cycles * rep.decodes
    due = (-rep.steps) % block  # the class that needs a block next; one division, not one an iteration
    for _ in range(m - cycles * block):
        total += st.residue[r, due]
        due = due - 1 if due > 0 else block - 1
    return total


@jit
def iterations_that_fit(st: State, r: int, limit: int) -> int:
    """The most decode iterations, up to `limit`, for which the free blocks surely suffice."""
    rep = st.rep[r]
    block, seqs = rep.block, rep.decodes
    left = rep.blocks - rep.used
    if blocks_of(limit, block) * seqs <= left:
        return limit
    cycles = left // seqs
    m = cycles * block
    left -= cycles * seqs
    due = (-rep.steps) % block
    while m < limit and st.residue[r, due] <= left:
        left -= st.residue[r, due]
        due = due - 1 if due > 0 else block - 1
        m += 1
    return min(m, limit)

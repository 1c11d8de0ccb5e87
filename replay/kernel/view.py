"""What routers and policies see of a replica, kept only as fresh as somebody looks.

The counts of a row are current at every event. Its token and KV columns change with each iteration, so they are
brought to t when asked for and hold until the next iteration ends (`valid_s`). A score that is a weighted sum of
columns is kept in a tournament tree: a choice costs O(log replicas), plus a refresh for each iteration that ended.
"""

import numpy as np

from .. import columns as c
from ..jit import jit
from . import layout as k
from .cache import evict
from .inflight import look_deep
from .outlive import settle_outlived
from .runs import end_of, ended_by, grown_blocks
from .state import State


@jit
def publish(st: State, r: int) -> None:
    """Write the always-current columns of the replica's row; its token columns are out of date."""
    rep = st.rep[r]
    st.rows[rep.row, c.WAITING] = rep.waiting
    st.rows[rep.row, c.RUNNING] = rep.running
    st.rows[rep.row, c.PREFILL_TOKENS] = rep.prefill
    rep.valid_s = -np.inf
    if st.ctl[0].linear == 1 and rep.state == k.ACTIVE:
        if st.ctl[0].look == 1:  # refreshed by the next arrival
            st.expires[rep.row] = -np.inf
            _climb(st, st.expires, 2, r)
        else:
            rescore(st, r)


@jit
def look(st: State, r: int, t: float) -> None:
    """Bring the replica's token and KV columns to time t (events at t itself have been applied)."""
    rep = st.rep[r]
    if t < rep.valid_s:
        return
    m, ahead = 0, 0
    rep.valid_s = rep.event_s
    if rep.event_s != np.inf:
        if rep.planned == 0:
            m = min(ended_by(st, r, t), rep.count - 1)
            between = m > 0 and end_of(st, r, m) == t  # at t one iteration has ended and the next not begun
            ahead = grown_blocks(st, r, m if between else m + 1)
            rep.valid_s = np.nextafter(t, np.inf) if between else end_of(st, r, m + 1)
            if st.ctl[0].cached == 1:
                evict(st, r, ahead)
        if st.ctl[0].tokens == 1:
            settle_outlived(st, r, rep.steps + m)
    row, generated = rep.row, rep.generated + m * rep.decodes
    st.rows[row, c.OUTSTANDING_TOKENS] = rep.prefill + rep.predicted - generated
    st.rows[row, c.EXPECTED_TOKENS] = rep.input + rep.predicted
    st.rows[row, c.ANSWER_TOKENS] = rep.predicted
    st.rows[row, c.KV_TOKENS] = (rep.used + ahead) * rep.block
    if st.ctl[0].deep == 1:
        look_deep(st, r, rep.steps + m)


@jit
def since(st: State, r: int, t: float) -> int:
    """Iterations of the replica's run in progress that have ended by t, yet to be applied."""
    rep = st.rep[r]
    if rep.event_s == np.inf or rep.planned > 0:
        return 0
    return min(ended_by(st, r, t), rep.count - 1)


@jit
def utilisation(st: State, pool: int, t: float) -> float:
    """KV held over KV capacity of the pool's active replicas at t; 1 where there is none. O(replicas)."""
    first, active = st.pool[pool].first, st.pool[pool].active
    held, capacity = 0.0, 0.0
    for row in range(first, first + active):
        look(st, st.slot_of[row], t)
        held += st.rows[row, c.KV_TOKENS]
        capacity += st.rows[row, c.KV_CAPACITY_TOKENS]
    return held / capacity if capacity > 0.0 else 1.0


@jit
def lowest(scores: np.ndarray) -> int:
    """The row with the lowest score, ties to the lowest; NO_ROW where all are infinite, NO_NUMBER where one is NaN."""
    best, least = k.NO_ROW, np.inf
    for i in range(len(scores)):
        if not scores[i] >= least:
            if scores[i] != scores[i]:
                return k.NO_NUMBER
            best, least = i, scores[i]
    return best


# --- scores that are a weighted sum of columns ---


@jit
def _score(st: State, row: int) -> float:
    total = 0.0
    for term in range(len(st.weights)):
        total += st.weights[term, 1] * st.rows[row, int(st.weights[term, 0])]
    return total


@jit
def _climb(st: State, keys: np.ndarray, half: int, r: int) -> None:
    """The key of the replica's row has changed: choose anew on its way to the root.

    A pool has two trees of rows, by score and by expiry, in its stretch of `tree`: 2 · leaves entries each.
    """
    pool, row = st.pool[st.rep[r].pool], st.rep[r].row
    base = pool.tree + half * pool.leaves
    node = (pool.leaves + row - pool.first) >> 1
    while node >= 1:
        at = base + 2 * node
        lower = keys[st.tree[at + 1]] < keys[st.tree[at]]  # ties to the lower row
        winner = st.tree[at + int(lower)]  # no branch: which of the two wins cannot be foretold
        if winner == st.tree[base + node] and winner != row:
            return  # nothing changes further up
        st.tree[base + node] = winner
        node >>= 1


@jit
def rescore(st: State, r: int) -> None:
    """Score the replica's row again."""
    row = st.rep[r].row
    score = _score(st, row)
    if score != st.scores[row]:  # most iterations end without a change of the counts
        st.scores[row] = score
        if st.pool[st.rep[r].pool].leaves > st.ctl[0].scanned:
            _climb(st, st.scores, 0, r)


@jit
def plant(st: State, pool: int) -> None:
    """Make the pool's trees anew: its rows have moved."""
    p = st.pool[pool]
    for row in range(p.first, p.first + p.slots):
        active = row - p.first < p.active
        st.scores[row] = _score(st, row) if active else np.inf
        st.expires[row] = -np.inf if active else np.inf
    for half, keys in ((0, st.scores), (2, st.expires)):
        base = p.tree + half * p.leaves
        for i in range(p.leaves):
            st.tree[base + p.leaves + i] = p.first + min(i, p.slots - 1)
        for node in range(p.leaves - 1, 0, -1):
            a, b = st.tree[base + 2 * node], st.tree[base + 2 * node + 1]
            st.tree[base + node] = b if keys[b] < keys[a] else a


@jit
def best_row(st: State, pool: int, t: float) -> int:
    """The active row with the lowest score at t, ties to the lowest, counted within the pool; NO_ROW: all infinite."""
    p = st.pool[pool]
    if st.ctl[0].look == 1:
        root = p.tree + 2 * p.leaves + 1
        while st.expires[st.tree[root]] <= t:
            r = st.slot_of[st.tree[root]]
            look(st, r, t)
            st.expires[st.rep[r].row] = st.rep[r].valid_s
            _climb(st, st.expires, 2, r)
            rescore(st, r)
    if p.leaves <= st.ctl[0].scanned:
        return lowest(st.scores[p.first : p.first + p.active])
    best = st.tree[p.tree + 1]
    return best - p.first if st.scores[best] < np.inf else k.NO_ROW

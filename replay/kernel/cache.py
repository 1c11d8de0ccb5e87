"""Prefix cache: whole hash blocks of computed prompts, shared while in use, evicted by age (docs/replay.md).

A node is a hash block of one replica, known by the replica's record. Nodes without users form the replica's list from
oldest to newest. Ancestors of a prefix are used whenever a descendant is and are let go after it, so what is cached
is closed under prefixes and the length of a hit can be found by bisection.
"""

from ..jit import jit
from .runs import blocks_of
from .state import State


@jit
def bucket_of(size: int, owner: int, value: int) -> int:
    """Where a replica's hash block is looked for; size: of the table, a power of two."""
    low = (value ^ (value >> 31)) & 0x7FFFFFFF
    mixed = ((low + owner * 40503) & 0x7FFFFFFF) * 0x45D9F3B  # below 2^58: no overflow, interpreted neither
    return (mixed >> 16) & (size - 1)


@jit
def find(st: State, owner: int, value: int) -> int:
    """The node of a hash in a replica's cache, or -1."""
    n = st.bucket[bucket_of(len(st.bucket), owner, value)]
    while n >= 0 and (st.node[n].hash != value or st.node[n].owner != owner):
        n = st.node[n].chain
    return n


@jit
def _new_node(st: State, owner: int, value: int) -> None:
    n = st.ctl[0].nodes  # head of the unused ones
    b = bucket_of(len(st.bucket), owner, value)
    node = st.node[n]
    st.ctl[0].nodes = node.chain
    node.hash = value
    node.owner = owner
    node.users = 1
    node.chain = st.bucket[b]
    st.bucket[b] = n


@jit
def _forget(st: State, n: int) -> None:
    b = bucket_of(len(st.bucket), st.node[n].owner, st.node[n].hash)
    if st.bucket[b] == n:
        st.bucket[b] = st.node[n].chain
    else:
        before = st.bucket[b]
        while st.node[before].chain != n:
            before = st.node[before].chain
        st.node[before].chain = st.node[n].chain
    st.node[n].chain = st.ctl[0].nodes
    st.ctl[0].nodes = n


# --- the list of nodes without users, by age ---


@jit
def _retire(st: State, r: int, n: int) -> None:
    """The node has lost its last user: the newest of those that may be evicted."""
    rep, node = st.rep[r], st.node[n]
    node.older = rep.newest
    node.newer = -1
    if rep.newest >= 0:
        st.node[rep.newest].newer = n
    else:
        rep.oldest = n
    rep.newest = n
    rep.used -= rep.per_hash
    rep.evictable += rep.per_hash


@jit
def _unlist(st: State, r: int, n: int) -> None:
    rep, node = st.rep[r], st.node[n]
    if node.older >= 0:
        st.node[node.older].newer = node.newer
    else:
        rep.oldest = node.newer
    if node.newer >= 0:
        st.node[node.newer].older = node.older
    else:
        rep.newest = node.older
    rep.evictable -= rep.per_hash


@jit
def _use(st: State, r: int, n: int) -> None:
    if st.node[n].users == 0:
        _unlist(st, r, n)
        st.rep[r].used += st.rep[r].per_hash
    st.node[n].users += 1


@jit
def _let_go_of(st: State, r: int, q: int, first: int, last: int) -> None:
    """Hash blocks first..last-1 of q, the deepest first."""
    owner, at = st.rep[r].record, st.fly[q].hash_at
    for h in range(last - 1, first - 1, -1):
        n = find(st, owner, st.hashes[at + h])
        st.node[n].users -= 1
        if st.node[n].users == 0:
            _retire(st, r, n)


# --- what a replica does with it ---


@jit
def hit_blocks(st: State, r: int, q: int) -> int:
    """Leading hash blocks of q's prompt that the replica has, at most floor((input - 1) / H). O(log hashes)."""
    owner, at = st.rep[r].record, st.fly[q].hash_at
    most = min(st.fly[q].hash_n, (st.fly[q].input - 1) // st.ctl[0].hash_tokens)
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if find(st, owner, st.hashes[at + middle - 1]) >= 0:
            low = middle
        else:
            high = middle - 1
    return low


@jit
def unused_in(st: State, r: int, q: int, hit: int) -> int:
    """How many of the hit's blocks have no users: pinning them takes them from the free ones."""
    unused = 0
    for h in range(hit):
        unused += st.node[find(st, st.rep[r].record, st.hashes[st.fly[q].hash_at + h])].users == 0
    return unused


@jit
def share(st: State, r: int, q: int, hit: int) -> None:
    """q is admitted: it starts behind its hit, whose blocks it shares."""
    fly = st.fly[q]
    for h in range(hit):
        _use(st, r, find(st, st.rep[r].record, st.hashes[fly.hash_at + h]))
    fly.shared = hit
    fly.computed = hit * st.ctl[0].hash_tokens
    fly.cached += fly.computed


@jit
def enter(st: State, r: int, q: int) -> None:
    """The iteration has ended: whole hash blocks of q's prompt computed by now are present and shared."""
    fly, rep = st.fly[q], st.rep[r]
    whole = min(fly.hash_n, min(fly.computed, fly.input) // st.ctl[0].hash_tokens)
    while fly.shared < whole:
        value = st.hashes[fly.hash_at + fly.shared]
        n = find(st, rep.record, value)
        if n < 0:
            _new_node(st, rep.record, value)
        else:  # computed twice: share that one, free the own copy
            _use(st, r, n)
            rep.used -= rep.per_hash
        fly.shared += 1


@jit
def let_go(st: State, r: int, q: int) -> None:
    """q completes, is preempted or aborted: it no longer uses its hash blocks."""
    _let_go_of(st, r, q, 0, st.fly[q].shared)
    st.fly[q].shared = 0


@jit
def evict(st: State, r: int, ahead: int) -> None:
    """Evict the oldest blocks without users until what is held, and `ahead` blocks more, has room."""
    rep = st.rep[r]
    while rep.used + ahead + rep.evictable > rep.blocks and rep.oldest >= 0:
        n = rep.oldest
        _unlist(st, r, n)
        _forget(st, n)


@jit
def drop_all(st: State, r: int) -> None:
    """The replica is gone, and its cache with it; no request uses it any more."""
    while st.rep[r].oldest >= 0:
        n = st.rep[r].oldest
        _unlist(st, r, n)
        _forget(st, n)


@jit
def own_blocks(st: State, r: int, q: int, tokens: int) -> int:
    """Blocks that q holds alone when `tokens` of it are computed: all but those it shares."""
    rep = st.rep[r]
    return blocks_of(tokens, rep.block) - st.fly[q].shared * rep.per_hash

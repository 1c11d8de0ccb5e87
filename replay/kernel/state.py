"""Everything a replay remembers, as arrays: made once, grown between kernel calls."""

from typing import Any, NamedTuple

import numpy as np
from numba import f8, from_dtype, i8, types

from .. import columns as c
from . import layout as k

Records = Any  # a recarray: fields by name, of the array or of one record


class State(NamedTuple):
    """Arrays of one replay: R replica slots, S sequences, Q pools, F in flight, A arrivals, N outputs, P profiles."""

    ctl: Records  # CONTROL[1]
    rep: Records  # REPLICA[R]
    pool: Records  # POOL[Q]
    fly: Records  # FLIGHT[F]
    free: np.ndarray  # i8[F], unused flight slots
    arr: Records  # ARRIVAL[A], a chunk of the trace; with true outputs, so the kernel's alone
    done: Records  # DONE[N], finished requests in the order they finished
    stack: np.ndarray  # i8[R, 2S], admission order, with gaps of requests that left
    ends: np.ndarray  # i8[R, S], completion heap: (R_STEPS at which it is complete, slot), packed
    late: np.ndarray  # i8[R, 2S], outlive heap: (steps at which a prediction is outlived, slot), packed
    plan: Records  # CHUNK[R, S + 1], prefill chunks of the iteration in progress
    residue: np.ndarray  # i8[R, largest block], decoding requests by (computed - steps) mod block
    events: Records  # EVENT[R], heap of the replicas' next iteration ends
    idle: np.ndarray  # i8[R], slots that may start an iteration at this instant
    agenda: Records  # ENTRY[G], heap of all other things that will happen
    slot_of: np.ndarray  # i8[R], view row -> replica slot
    rows: np.ndarray  # f8[R, VIEW_COLUMNS], rows as routers see them
    scores: np.ndarray  # f8[R], by view row
    expires: np.ndarray  # f8[R], by view row: until when its score holds
    tree: np.ndarray  # i8[T], tournament trees over each pool's rows, by score and by expiry
    seen: np.ndarray  # f8[Q, SEEN_COLUMNS], filled when the driver looks
    memory: np.ndarray  # f8[Q, 8], the router's own, a row a pool
    ahead: np.ndarray  # f8[R + 1, horizon], by view row: the projected KV map; the last row is scratch
    coming: np.ndarray  # f8[R + 1, horizon], by slot: the projected KV map as policies see it; the last row is scratch
    flight: np.ndarray  # f8[:, FLIGHT_COLUMNS], requests at replicas, each replica's together, with gaps
    flight_start: np.ndarray  # i8[R], by view row
    request: np.ndarray  # f8[REQUEST_COLUMNS], scratch
    params: np.ndarray  # f8[:], the router's parameters
    weights: np.ndarray  # f8[terms, 2], of a linear score: column, weight
    shape: Records  # SHAPE[P]
    token_s: np.ndarray  # f8[P, largest max_batch_tokens + 1], G(n)
    extend: (
        np.ndarray
    )  # i8[1 + kinds * buckets, E]: grid of tokens generated, then what an outlived prediction grows by
    edges: np.ndarray  # i8[buckets - 1], rising: of predictions at arrival, which part each kind's rows of `extend`
    choices: np.ndarray  # i8[groups, most], pools that serve a group, nearest first, -1: no more
    lag_s: np.ndarray  # f8[groups, most], one way
    between_s: np.ndarray  # f8[regions, regions], one way
    own_at: np.ndarray  # i8[groups], which of the choices is the origin's own region, -1: none
    hashes: np.ndarray  # i8[:], block hashes of all requests, one after another
    node: Records  # NODE[:], hash blocks in the replicas' prefix caches
    bucket: np.ndarray  # i8[:], hash table of chains through node


_RECORDS = {
    "ctl": k.CONTROL, "rep": k.REPLICA, "pool": k.POOL, "fly": k.FLIGHT, "arr": k.ARRIVAL, "done": k.DONE,
    "plan": k.CHUNK, "events": k.EVENT, "agenda": k.ENTRY, "shape": k.SHAPE, "node": k.NODE,
}  # fmt: skip
_FLOATS = (
    "rows",
    "scores",
    "expires",
    "seen",
    "memory",
    "ahead",
    "coming",
    "flight",
    "request",
    "params",
    "weights",
    "token_s",
    "lag_s",
    "between_s",
)
_TABLES = (
    "stack",
    "ends",
    "late",
    "plan",
    "residue",
    "rows",
    "seen",
    "memory",
    "ahead",
    "coming",
    "flight",
    "token_s",
    "weights",
    "extend",
    "choices",
    "lag_s",
    "between_s",
)


def _array_type(field: str) -> types.Array:
    item = from_dtype(_RECORDS[field]) if field in _RECORDS else f8 if field in _FLOATS else i8
    return types.Array(item, 2 if field in _TABLES else 1, "C")


ARRAY_TYPES = {field: _array_type(field) for field in State._fields}
# whole arrays within kernels too: handed to routers, sliced, or kept beside such
FOR_ROUTERS = (
    "slot_of", "rows", "scores", "expires", "seen", "memory", "request", "params", "ahead", "coming", "flight",
    "flight_start",
)  # fmt: skip


def zeros(field: str, *shape: int) -> Any:
    """An array of zeros for a field of State; records are seen by name (recarray)."""
    if field in _RECORDS:
        return np.zeros(shape, _RECORDS[field]).view(np.recarray)
    return np.zeros(shape, np.float64 if field in _FLOATS else np.int64)


def empty_state(slots: int, seqs: int, block: int, pools: int, flights: int, outputs: int) -> State:
    """A state with room for `slots` replicas of up to `seqs` sequences and `flights` requests in flight.

    The caller fills profiles, extension tables, the router's numbers, pools and arrivals, then adds replicas.
    """
    shapes = {
        "ctl": (1,), "rep": (slots,), "pool": (pools,), "fly": (flights,), "free": (flights,), "arr": (0,),
        "done": (outputs,), "stack": (slots, 2 * seqs), "ends": (slots, seqs), "late": (slots, 2 * seqs),
        "plan": (slots, seqs + 1), "residue": (slots, block), "events": (slots,), "idle": (slots,),
        "agenda": (2 * slots + 64,), "slot_of": (slots,), "rows": (slots, c.VIEW_COLUMNS), "scores": (slots,),
        "expires": (slots,), "tree": (1,), "seen": (pools, k.SEEN_COLUMNS), "memory": (pools, 8),
        "ahead": (1, 1), "coming": (1, 1), "flight": (1, c.FLIGHT_COLUMNS), "flight_start": (slots,),
        "request": (c.REQUEST_COLUMNS,), "params": (1,), "weights": (1, 2), "shape": (1,),
        "token_s": (1, 1), "extend": (2, 1), "edges": (0,),
        "choices": (1, 1), "lag_s": (1, 1), "between_s": (1, 1), "own_at": (1,),
        "hashes": (1,), "node": (1,), "bucket": (1,),
    }  # fmt: skip
    state = State(**{field: zeros(field, *shapes[field]) for field in State._fields})
    state.free[:] = np.arange(flights)[::-1]
    state.slot_of[:] = np.arange(slots)
    state.fly.request, state.fly.phase = -1, k.ELSEWHERE
    state.memory[:] = -1.0
    state.extend[1] = 1
    state.bucket[:] = -1
    state.ctl.free, state.ctl.now = flights, -np.inf
    state.rep.row = np.arange(slots)
    _nowhere(state.rep)
    for field in ("head", "tail", "hold", "onward", "deferred"):
        state.pool[field] = -1
    return state


def _nowhere(rep: Records) -> None:
    for field in ("at", "head", "tail", "partial", "oldest", "newest"):
        rep[field] = -1
    for field in ("event_s", "ready_s", "off_s"):
        rep[field] = np.inf


def fresh_replica(state: State, slot: int) -> Records:
    """The slot's record, emptied, its place in lists kept; the caller fills in whose it is."""
    rep = state.rep[slot : slot + 1]
    row, idle = int(rep.row[0]), int(rep.idle[0])
    rep[...] = np.zeros(1, k.REPLICA)
    _nowhere(rep)
    rep.row, rep.idle = row, idle  # the slot may still stand in the list of those that may start
    state.residue[slot] = 0
    return rep


def longer(state: State, field: str, rows: int) -> Any:
    """The field's array with room for `rows`."""
    array = getattr(state, field)
    grown = zeros(field, rows, *array.shape[1:])
    grown[: len(array)] = array
    return grown


def more_flights(state: State, flights: int) -> State:
    """The same state with room for `flights` requests in flight."""
    have, n = len(state.fly), int(state.ctl.free[0])
    free = longer(state, "free", flights)
    free[n : n + flights - have] = np.arange(flights - 1, have - 1, -1)
    state.ctl.free = n + flights - have
    fly = longer(state, "fly", flights)
    fly.request[have:], fly.phase[have:] = -1, k.ELSEWHERE
    return with_views(state._replace(fly=fly, free=free))


_BY_SLOT = ("rep", "stack", "ends", "late", "plan", "residue")


def more_slots(state: State, counts: np.ndarray) -> State:
    """The same state with counts[p] replica slots for pool p; the caller then arranges every pool's rows.

    counts: i8[Q], none below what the pool has. Slots of a pool are contiguous, so all of them may move.
    """
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    before = list(zip(state.pool.first.tolist(), state.pool.slots.tolist(), strict=True))
    old = np.concatenate([np.arange(n) + at for at, n in before])
    moved = np.concatenate([np.arange(n) + to for (_, n), to in zip(before, first, strict=True)])
    seqs, block = state.ends.shape[1], state.residue.shape[1]
    fresh = empty_state(int(counts.sum()), seqs, block, len(state.pool), 0, 0)
    grown: dict[str, Any] = {}
    for name in _BY_SLOT:
        grown[name] = getattr(fresh, name)
        grown[name][moved] = getattr(state, name)[old]
    to = np.full(len(state.rep), -1, np.int64)
    to[old] = moved
    ctl = state.ctl[0]
    for name, n in (("events", int(ctl.events)), ("idle", int(ctl.idle))):
        grown[name] = getattr(fresh, name)
        grown[name][:n] = getattr(state, name)[:n]
    grown["events"].slot[: int(ctl.events)] = to[state.events.slot[: int(ctl.events)]]
    grown["idle"][: int(ctl.idle)] = to[state.idle[: int(ctl.idle)]]
    _renumber(state, to)
    state.pool.first, state.pool.slots = first, counts
    for p, (at, n) in enumerate(zip(first, counts, strict=True)):
        grown["rep"].pool[at : at + n] = p
    grown["rep"].row = np.arange(len(grown["rep"]))
    moved_state = state._replace(
        **grown, rows=fresh.rows, slot_of=fresh.slot_of, scores=fresh.scores, expires=fresh.expires
    )
    return with_coming(with_views(with_trees(moved_state)))


def with_views(state: State) -> State:
    """The same state with room for what its router sees of single requests, where that declares it."""
    ahead, flight, slots = int(state.ctl.ahead[0]), int(state.ctl.flight[0]), len(state.rep)
    if not ahead and not flight:
        return state
    state.rep.flight_room = 0
    state.rep.valid_s = -np.inf
    return state._replace(
        ahead=zeros("ahead", slots + 1, max(ahead, 1)),
        flight=zeros("flight", 2 * len(state.fly) + 16 * slots if flight else 1, c.FLIGHT_COLUMNS),
        flight_start=zeros("flight_start", slots),
    )


def with_coming(state: State) -> State:
    """The same state with room for what its policy sees of the KV to come, where that declares it."""
    horizon = int(state.ctl.anticipated[0])
    return state._replace(coming=zeros("coming", len(state.rep) + 1, horizon)) if horizon else state


def with_trees(state: State) -> State:
    """The same state with room for two tournament trees a pool; the caller arranges the rows."""
    leaves = 1 << np.ceil(np.log2(np.maximum(state.pool.slots, 1))).astype(np.int64)
    state.pool.leaves = leaves
    state.pool.tree = np.concatenate([[0], np.cumsum(4 * leaves)[:-1]])
    return state._replace(tree=zeros("tree", int(4 * leaves.sum())))


def _renumber(state: State, to: np.ndarray) -> None:
    """Replica slots in flights and agenda after they moved (the cache knows replicas by record)."""
    for field in ("replica", "source"):
        here = state.fly[field] >= 0
        state.fly[field][here] = to[state.fly[field][here]]
    entries = state.agenda[: int(state.ctl.agenda[0])]
    ready = entries.order // k.PHASE == k.READY
    entries.slot[ready] = to[entries.slot[ready]]

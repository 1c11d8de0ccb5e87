"""What replicas hold, checked: queues and batches, tokens, KV blocks (`conservation.py`)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .kernel import layout as k
from .kernel.heap import SLOT_BITS, SLOT_MASK
from .kernel.state import State


class ConservationError(RuntimeError):
    """A law of conservation is broken: a defect of the replay, whatever its input. Names law, place, time, values."""


class Sight:
    """What stands when the kernel has returned: its arrays, the flight slots in use, and names for places."""

    def __init__(self, st: State, pools: list[str]) -> None:
        self.st, self.pools = st, pools
        self.ctl: Any = np.asarray(st.ctl)[0]
        self.rep, self.pool, self.flights = st.rep.view(np.ndarray), st.pool.view(np.ndarray), st.fly.view(np.ndarray)
        self.number = st.arr.view(np.ndarray)["number"]
        self.t = max(float(self.ctl["now"]), float(self.ctl["begin_s"]))  # now is -inf before the first event
        used = np.ones(len(st.fly), bool)
        free = st.free[: int(self.ctl["free"])]
        used[free] = False
        self.slots = np.flatnonzero(used)
        self.same("requests", "flight slots not free", len(st.fly) - len(free), [len(self.slots)])
        self.fly = self.flights[self.slots]
        phase = self.fly["phase"]
        self.same("requests", "in no place", False, phase == k.ELSEWHERE, self.request_name)
        self.running = (phase == k.PREFILL) | (phase == k.DECODE)
        self.decoding = phase == k.DECODE
        self.waiting = phase == k.WAITING
        source = self.fly["source"]
        at = self.rep[np.maximum(source, 0)]
        alive = (at["state"] == k.ACTIVE) | (at["state"] == k.DRAINING)
        # migrating, with blocks at a source that still is
        self.transit = (phase == k.TRAVELLING) & (source >= 0) & alive & (at["record"] == self.fly["source_record"])
        # while decoding, counts are less the replica's steps
        steps = np.where(self.decoding, self.rep["steps"][np.maximum(self.fly["replica"], 0)], 0)
        self.computed, self.generated = self.fly["computed"] + steps, self.fly["generated"] + steps
        self.live = (self.rep["state"] == k.ACTIVE) | (self.rep["state"] == k.DRAINING)

    # --- names ---

    def pool_name(self, p: int) -> str:
        """Of pool p."""
        return f"pool {self.pools[p]}"

    def replica_name(self, r: int) -> str:
        """Of the replica in slot r."""
        return f"replica {int(self.rep['index'][r])} of pool {self.pools[int(self.rep['pool'][r])]}"

    def request_name(self, i: int) -> str:
        """Of the i-th flight in use."""
        return f"request {int(self.fly['request'][i])}"

    # --- comparing ---

    def same(
        self, law: str, what: str, expected: Any, found: Any, place: Callable[[int], str] = lambda i: "the replay"
    ) -> None:
        """Raise where `found` is not `expected`, entry by entry; place(i) names where entry i is."""
        wrong = np.not_equal(expected, found)
        if wrong.any():
            i = int(np.argmax(wrong))
            expected, found = np.broadcast_to(expected, wrong.shape)[i], np.asarray(found)[i]
            raise ConservationError(
                f"conservation of {law} is broken at t={self.t:.9g} s, {place(i)}: "
                f"{what}: expected {expected}, found {found}"
            )

    def by_replica(self, which: np.ndarray, values: np.ndarray | None = None, at: str = "replica") -> np.ndarray:
        """Sum of values (1 each) of the flights in `which` by the replica slot they are on."""
        weights = None if values is None else values[which].astype(np.float64)
        return np.bincount(self.fly[at][which], weights, len(self.rep)).astype(np.int64)


def check_batches(sight: Sight) -> None:
    """Queues, batches, completion heaps and the agenda list exactly the requests that are counted there."""
    st, rep, fly, same = sight.st, sight.rep, sight.fly, sight.same
    here = sight.waiting | sight.running
    same("requests", "on a live replica", True, sight.live[fly["replica"][here]], lambda i: _nth(sight, here, i))
    for field, which in (
        ("waiting", sight.waiting & (fly["gone"] == 0)), ("running", sight.running), ("decodes", sight.decoding),
    ):  # fmt: skip
        same(
            "requests",
            field,
            np.where(sight.live, sight.by_replica(which), 0),
            _of_live(sight, field),
            sight.replica_name,
        )
    leaving = sight.by_replica(sight.transit, at="source")
    same("requests", "in transit", leaving, _of_live(sight, "transit"), sight.replica_name)
    stuck = sight.live & (rep["running"] > 0) & (rep["event_s"] == np.inf) & (rep["idle"] == 0)
    same("requests", "running without a next iteration", False, stuck, sight.replica_name)
    same("requests", "replicas with a next event", int((rep["event_s"] < np.inf).sum()), [int(sight.ctl["events"])])

    slots = sight.slots[sight.running]
    r, place = fly["replica"][sight.running], fly["place"][sight.running]
    fits = place < rep["stack"][r]
    stands = fits & (st.stack[r, np.where(fits, place, 0)] == slots)
    same("requests", "in its replica's order of admission", True, stands, lambda i: _nth(sight, sight.running, i))
    _check_ends(sight)
    coming = st.agenda.view(np.ndarray)[: int(sight.ctl["agenda"])]
    coming = np.sort(coming["slot"][coming["order"] // k.PHASE == k.ARRIVE])
    travelling = sight.slots[fly["phase"] == k.TRAVELLING]
    same("requests", "on their way in the agenda", len(travelling), [len(coming)])
    same("requests", "slots on their way in the agenda", travelling, coming)

    ranked = bool(sight.ctl["ranked"])
    order = ("rank", "receipt") if ranked else ("receipt",)
    _check_links(sight, "waiting queue", sight.waiting, rep["head"][sight.live], ranked, order)
    held = fly["phase"] == k.HELD
    tier = held & (fly["held"] == k.BY_TIER)
    _check_links(sight, "hold queue", tier, sight.pool["hold"], True, ("rank", "receipt"))
    _check_links(sight, "list held by the router", held & ~tier, sight.pool["deferred"], False, ())
    _check_links(sight, "pool's queue", fly["phase"] == k.QUEUED, sight.pool["head"], False, ())


def _nth(sight: Sight, which: np.ndarray, i: int) -> str:
    return sight.request_name(int(np.flatnonzero(which)[i]))


def _of_live(sight: Sight, field: str) -> np.ndarray:
    counts: np.ndarray = np.where(sight.live, sight.rep[field], 0)
    return counts


def _check_ends(sight: Sight) -> None:
    """Every decoding request stands once in its replica's heap of completions."""
    rep, fly, ends = sight.rep, sight.fly, sight.st.ends
    r, e = np.nonzero(np.arange(ends.shape[1])[None] < np.where(sight.live, rep["heap"], 0)[:, None])
    slots = ends[r, e] & SLOT_MASK
    order = np.argsort(slots)
    mine = sight.slots[sight.decoding]
    sight.same("requests", "completions to come", len(mine), [len(slots)])
    sight.same("requests", "slots with a completion to come", mine, slots[order])
    steps = (fly["output"] - fly["generated"])[sight.decoding]
    key = (ends[r, e] >> SLOT_BITS)[order]
    sight.same("tokens", "iteration of its completion", steps, key, lambda i: _nth(sight, sight.decoding, i))


def _check_links(
    sight: Sight, what: str, which: np.ndarray, heads: np.ndarray, heap: bool, order: tuple[str, ...]
) -> None:
    """The list (or heap) holds each request of `which` once, from its head on, in order."""
    size = len(sight.flights)
    heads = heads[heads >= 0]
    nodes = sight.fly[which]
    times = np.bincount(heads, minlength=size)
    for field in ("next", "other") if heap else ("next",):
        link = nodes[field]
        times += np.bincount(link[link >= 0], minlength=size)
        if order:
            _check_order(sight, what, nodes[link >= 0], sight.flights[link[link >= 0]], order)
    inside = np.zeros(size, np.int64)
    inside[sight.slots[which]] = 1
    sight.same("requests", f"times in a {what}", inside, times, lambda i: f"request {int(sight.flights['request'][i])}")


def _check_order(sight: Sight, what: str, before: np.ndarray, after: np.ndarray, order: tuple[str, ...]) -> None:
    late = np.zeros(len(before), bool)
    for field in reversed(order):
        late = (before[field] > after[field]) | ((before[field] == after[field]) & late)
    sight.same("requests", f"out of order in a {what}", False, late, lambda i: f"request {int(before['request'][i])}")


def check_tokens(sight: Sight) -> None:
    """Tokens computed and generated are within bounds, and each replica's sums are those of its requests."""
    fly, computed, generated = sight.fly, sight.computed, sight.generated
    need = fly["input"] + generated - computed
    here = sight.waiting | sight.running
    same, name = sight.same, sight.request_name
    same("tokens", "computed within prompt and output", True, ~here | ((computed >= 0) & (need >= 1)), name)
    same("tokens", "generated within output", True, ~here | ((generated >= 0) & (generated < fly["output"])), name)
    same("tokens", "to compute while it decodes", np.where(sight.decoding, 1, need), need, name)
    same("tokens", "generated with its first one", fly["first_s"] < np.inf, (generated > 0) & (fly["phase"] >= 0), name)
    unfilled = np.where((generated > 0) & (need == 1), 0, need)
    counted = sight.running | (sight.waiting & (fly["gone"] == 0))
    for field, which, values in (
        ("prefill", counted & ~sight.decoding, unfilled), ("context", sight.decoding, computed),
        ("generated", counted, generated), ("input", counted, fly["input"]), ("predicted", counted, fly["predicted"]),
    ):  # fmt: skip
        total = np.where(sight.live, sight.by_replica(which, values), 0)
        same("tokens", f"sum of {field}", total, _of_live(sight, field), sight.replica_name)


def check_blocks(sight: Sight) -> None:
    """KV blocks held are those of requests there or in transit, cached ones counted once; never more than there are."""
    st, rep, fly = sight.st, sight.rep, sight.fly
    tokens = sight.computed.copy()
    in_plan = np.arange(st.plan.shape[1])[None] < np.where(sight.live, rep["planned"], 0)[:, None]
    planned = st.plan.view(np.ndarray)[in_plan]
    take = np.bincount(planned["slot"], planned["tokens"].astype(np.float64), len(st.fly)).astype(np.int64)
    tokens += take[sight.slots]
    mixed = (rep["planned"] > 0)[np.maximum(fly["replica"], 0)]
    tokens += sight.decoding & mixed  # a run of decodes takes its blocks when it ends
    holder = np.where(sight.transit, fly["source"], fly["replica"])
    holds = sight.running | sight.transit
    block = np.maximum(rep["block"], 1)[np.maximum(holder, 0)]
    own = -(-tokens // block) - fly["shared"] * rep["per_hash"][np.maximum(holder, 0)]
    sight.same("blocks", "of its own", True, ~holds | (own >= 0), sight.request_name)
    held = np.bincount(holder[holds], own[holds].astype(np.float64), len(rep)).astype(np.int64)
    if int(sight.ctl["cached"]):
        held += _check_cache(sight, holder, holds) * rep["per_hash"]
    sight.same("blocks", "held", np.where(sight.live, held, 0), _of_live(sight, "used"), sight.replica_name)
    occupied = _of_live(sight, "used") + _of_live(sight, "evictable")
    most = np.minimum(occupied, rep["blocks"])
    sight.same("blocks", "held or cached, of those it has", np.where(sight.live, most, 0), occupied, sight.replica_name)


def _check_cache(sight: Sight, holder: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """Hash blocks in use by replica slot, by what requests share; the cache counts the same users."""
    st, rep, fly = sight.st, sight.rep, sight.fly
    shared = np.where(holds, fly["shared"], 0)
    first = np.repeat(fly["hash_at"] - np.cumsum(shared) + shared, shared)
    value = st.hashes[first + np.arange(len(first))]
    slot = np.repeat(holder, shared)
    pairs = np.stack([rep["record"][slot], value])
    wanted, at, users = np.unique(pairs, axis=1, return_index=True, return_counts=True)
    node = st.node.view(np.ndarray)
    node = node[node["users"] != 0]
    order = np.lexsort((node["hash"], node["owner"]))
    sight.same("blocks", "cached blocks in use", wanted.shape[1], [len(node)])
    for what, mine, cached in (
        ("owner", wanted[0], node["owner"]), ("hash", wanted[1], node["hash"]), ("users", users, node["users"]),
    ):  # fmt: skip
        sight.same(
            "blocks", f"{what} of a cached block", mine, cached[order], lambda i: sight.replica_name(int(slot[at[i]]))
        )
    return np.bincount(slot[at], minlength=len(rep))

"""The fleet as the kernel's arrays: profiles in use, pools, regions, room for what will happen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import columns as c
from .anticipation import LATE, Anticipation
from .fleet import DECODE, PREFILL, SILOS, Fleet, Pool, preferences
from .kernel import layout as k
from .kernel.state import State, empty_state, with_coming, with_trees, with_views, zeros
from .profile import Profile
from .requests import Extension, Requests
from .routers import Router
from .steplaw import step_law

# Linear scores are kept, and the router not called, where they are of counts, or from so many slots on where they
# change with every iteration; up to SCANNED_SLOTS all are looked at, beyond that a tree is kept
# (benchmarks/routers.py). Choices are the same.
TREE_SLOTS = 1024
SCANNED_SLOTS = 32
# Heartbeats in a row that place nothing while nothing else is left; then routers that hold are not asked again.
FRUITLESS = 10_000
COEFFICIENTS = ("attn_pair", "prefix_kv", "decode_seq", "decode_kv")
LAW = ("prefill_s", "token_s", "decode_s", "seq_s", "context_s", "kv_tokens")
LANE_CODES = {PREFILL: c.PREFILL, DECODE: c.DECODE}  # all others are shared


@dataclass(frozen=True)
class World:
    """A fleet's profiles by row, and which pools serve whom.

    own i8[pools], row of each pool's profile; group_of i8[pools, regions], row of choices (None: no network); onward
    i8[pools], row of choices with a prefill pool's decode pools (-1: another lane); choices, lag_s [groups, most],
    own_at [groups]: as in State.
    """

    fleet: Fleet
    profiles: tuple[Profile, ...]
    own: np.ndarray
    group_of: np.ndarray | None
    onward: np.ndarray
    choices: np.ndarray
    lag_s: np.ndarray
    own_at: np.ndarray


def world_of(fleet: Fleet, extra: Sequence[Profile] = ()) -> World:
    """What of the fleet does not change during a replay; `extra`: profiles that replicas may be reshaped to."""
    profiles: list[Profile] = []
    for profile in [p for pool in fleet.pools for p in pool.profiles] + list(extra):
        if profile not in profiles:
            profiles.append(profile)
    rows = np.array([profiles.index(pool.profile) for pool in fleet.pools], np.int64)
    kinds = sorted({_kind(pool) for pool in fleet.pools})
    pairs = [(service, origin) for service, _ in kinds for origin in fleet.regions]
    ranked = [preferences(fleet, s, origin, silo=silo or None) for s, silo in kinds for origin in fleet.regions]
    onward = np.full(len(fleet.pools), -1, np.int64)
    for number, pool in enumerate(fleet.pools):
        if pool.lane == PREFILL:
            onward[number] = len(pairs)
            pairs.append((pool.service, pool.region))
            ranked.append(preferences(fleet, pool.service, pool.region, decode=True))
    choices, lag_s, own_at = _choices(fleet, pairs, ranked)
    group_of = None
    if fleet.regions:
        regions = np.arange(len(fleet.regions))
        group_of = np.array([kinds.index(_kind(pool)) * len(regions) + regions for pool in fleet.pools])
    return World(fleet, tuple(profiles), rows, group_of, onward, choices, lag_s, own_at)


def _kind(pool: Pool) -> tuple[str, str]:
    """(service, silo) of a pool: requests choose among the regions' pools of the same kind; "": of no silo."""
    return pool.service, pool.lane if pool.lane in SILOS else ""


def _choices(
    fleet: Fleet, pairs: Sequence[tuple[str, str]], ranked: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(choices, lag_s, own_at) of groups given as (service, region) and their pools, nearest first."""
    most = max([len(pools) for pools in ranked], default=1)
    choices = np.full((max(len(pairs), 1), max(most, 1)), -1, np.int64)
    lag_s, own_at = np.zeros(choices.shape), np.full(len(choices), -1, np.int64)
    for row, ((_, origin), pools) in enumerate(zip(pairs, ranked, strict=True)):
        where = [fleet.pools[p].region for p in pools]
        choices[row, : len(pools)] = pools
        lag_s[row, : len(pools)] = [fleet.network_s(origin, region) for region in where]
        own_at[row] = where.index(origin) if origin in where else -1
    return choices, lag_s, own_at


def onward_tokens(fleet: Fleet, pool: Pool) -> int:
    """The most tokens that a replica of any decode pool of the pool's service holds."""
    decodes = [other for other in fleet.pools if other.lane == DECODE and other.service == pool.service]
    return max((p.kv_tokens // p.block * p.block for other in decodes for p in other.profiles), default=0)


def state_of(
    world: World, requests: Requests, slots: Sequence[int], router: Router, extension: Extension, tokens: bool, out: int
) -> State:
    """A state for the world with `slots` replica slots a pool and `out` rows of results; no arrivals yet."""
    fleet, shapes = world.fleet, world.profiles
    flights = min(max(1024, len(requests) // 8), 1 << 20)
    widest, block = max(p.max_seqs for p in shapes), max(p.block for p in shapes)
    st = empty_state(int(sum(slots)), widest, block, len(fleet.pools), flights, out + 2 * widest + 2)
    st.pool.first = np.concatenate([[0], np.cumsum(slots)[:-1]])
    st.pool.slots = slots
    regions = [fleet.regions.index(p.region) if p.region in fleet.regions else -1 for p in fleet.pools]
    st.pool.region = regions
    st.pool.onward = world.onward
    st.pool.lane = [LANE_CODES.get(pool.lane, c.SHARED) for pool in fleet.pools]
    st.pool.onward_tokens = [onward_tokens(fleet, pool) for pool in fleet.pools]
    shape = zeros("shape", len(shapes))
    shape.fixed = [p.latency.base for p in shapes]
    for name in COEFFICIENTS:
        shape[name] = [getattr(p.latency, name) for p in shapes]
    for name in LAW if router.flight else ():  # few routers go by it
        shape[f"law_{name}"] = [getattr(step_law(p), name) for p in shapes]
    if fleet.kv_bandwidth_gb_s is not None:
        shape.kv_transfer = [(p.kv_bytes_per_token or 0) / (fleet.kv_bandwidth_gb_s * 1e9) for p in shapes]
    most = max(p.max_batch_tokens for p in shapes)
    grid = np.vstack([np.asarray(extension.generated, np.int64), np.asarray(extension.tokens, np.int64)])
    st = st._replace(
        shape=shape,
        token_s=np.stack([p.latency.token_s(most) for p in shapes]),
        extend=np.ascontiguousarray(grid),
        edges=np.asarray(extension.edges, np.int64),
        params=params_of(router),
        weights=np.array(sorted(router.linear.items()), np.float64).reshape(-1, 2),
        choices=world.choices,
        lag_s=world.lag_s,
        own_at=world.own_at,
        between_s=np.array(fleet.latency_s, np.float64).reshape(-1, len(fleet.regions) or 1),
    )
    _switch_on(st, world, requests, router, tokens)
    return with_views(with_trees(_with_cache(st, world, requests)))


def params_of(router: Router) -> np.ndarray:
    """f8[:], the router's parameters as the kernel hands them over."""
    return np.array([*router.numbers, 0.0], np.float64)


def _switch_on(st: State, world: World, requests: Requests, router: Router, tokens: bool) -> None:
    """Say which features this replay uses."""
    fleet, ctl = world.fleet, st.ctl
    ctl.tokens, ctl.look, ctl.match = int(tokens), int(router.reads_tokens), int(router.prefix)
    ctl.ahead, ctl.flight = router.horizon, int(router.flight)
    ctl.deep = int(router.horizon > 0 or router.flight)
    ctl.linear = int(router.weights is not None and (not router.tokens or int(st.pool.slots.max()) >= TREE_SLOTS))
    ctl.scanned = SCANNED_SLOTS
    ctl.ranked = int(requests.rank is not None)
    ctl.ghosts = int(fleet.clients is not None)
    ctl.sessions = int(requests.follow is not None)
    ctl.lanes = int((world.onward >= 0).any())
    ctl.regions = int(world.group_of is not None and requests.origin is not None)
    ctl.rule = k.THRESHOLD if fleet.region_choice.rule == "threshold" else k.HOME
    ctl.threshold = fleet.region_choice.threshold
    ctl.holds, ctl.reroute = int(requests.held is not None or router.holds), int(router.holds)
    ctl.heartbeat_s, ctl.most_fruitless = router.number(router.heartbeat_s), FRUITLESS
    ctl.most_refused = router.most_refused
    lower = fleet.hold.lower if fleet.hold else None
    upper = fleet.hold.upper if fleet.hold else None
    ctl.release_low = -1.0 if lower is None else lower
    ctl.release_below = max(-1.0 if upper is None else upper, ctl.release_low[0])
    ctl.releases_low, ctl.releases_mid = fleet.hold.releases if fleet.hold else (2, 1)
    if fleet.clients is not None:
        ctl.patient, ctl.tries = 1, fleet.clients.retries
        ctl.timeout_s, ctl.backoff_s, ctl.factor = (
            fleet.clients.timeout_s,
            fleet.clients.backoff_s,
            fleet.clients.factor,
        )


def anticipated(state: State, asked: Anticipation) -> State:
    """The same state, its policy's map as asked."""
    state.ctl.anticipated = int(asked.iterations)
    state.ctl.late_share, state.ctl.late_tokens, state.ctl.late_after = LATE[asked.extension]
    return with_coming(state)


def _with_cache(st: State, world: World, requests: Requests) -> State:
    """Room for the replicas' prefix caches, where the trace has hashes and every profile's blocks divide them."""
    tokens = requests.hash_tokens
    if (
        requests.hashes is None
        or requests.hash_n is None
        or not world.fleet.prefix_cache
        or not all(p.prefix_cache and tokens % p.block == 0 for p in _serving(world, requests.pool, requests.hash_n))
    ):
        st.ctl.match = 0  # nothing is cached, so nothing matches
        return st
    st.ctl.cached, st.ctl.hash_tokens = 1, tokens
    return st._replace(hashes=np.require(requests.hashes, np.uint64, ["C", "W"]).view(np.int64))


def _serving(world: World, pool: np.ndarray, hash_n: np.ndarray) -> list[Profile]:
    """Profiles that a request with hashes may meet: those of the pools of its service, and those of no pool."""
    pools = world.fleet.pools
    services = {pools[p].service for p in np.unique(pool[hash_n > 0])}
    others = {p.name for pool in pools if pool.service not in services for p in pool.profiles}
    met = {p.name for pool in pools if pool.service in services for p in pool.profiles}
    return [p for p in world.profiles if p.name in met or p.name not in others]


def cache_room(st: State, needed: int) -> State:
    """The same state with room for `needed` cached hash blocks over all replicas."""
    have = len(st.node) if int(st.ctl.cached[0]) and len(st.bucket) > 1 else 0
    if have >= needed:
        return st
    size = max(needed, 2 * have)
    used = _in_buckets(st) if have else np.zeros(0, np.int64)
    node = zeros("node", size)
    node[:have] = st.node[:have]
    node.chain[have:] = np.arange(have + 1, size + 1)
    node.chain[-1] = int(st.ctl.nodes[0]) if have else -1
    st.ctl.nodes = have
    return _hashed(st._replace(node=node), used)


def _in_buckets(st: State) -> np.ndarray:
    """Numbers of the nodes that stand for a cached block, i8: those the buckets lead to."""
    found, at = [], st.bucket[st.bucket >= 0]
    while len(at):
        found.append(at)
        at = st.node.chain[at]
        at = at[at >= 0]
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _hashed(st: State, used: np.ndarray) -> State:
    """The buckets anew, twice the nodes; cached blocks, nodes `used`, are entered again."""
    from .kernel.cache import bucket_of

    bucket = getattr(bucket_of, "py_func", bucket_of)  # a kernel's step has no way in from Python
    st = st._replace(bucket=np.full(1 << int(np.ceil(np.log2(2 * len(st.node)))), -1, np.int64))
    where = bucket(len(st.bucket), st.node.owner[used].astype(np.int64), st.node.hash[used])
    order = np.argsort(where, kind="stable")
    where, used = where[order], used[order]
    follows = np.concatenate([np.zeros(1, bool), where[1:] == where[:-1]])[: len(used)]
    st.node.chain[used] = np.where(follows, np.roll(used, 1), -1)
    st.bucket[where] = used  # of several in a bucket the last one leads it
    return st

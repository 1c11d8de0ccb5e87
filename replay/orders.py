"""What a policy orders: refused where it cannot be meant, else carried out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .kernel import layout as k
from .lifecycle import Lifecycle
from .protocol import Actions
from .room import grow
from .routers import Router
from .world import params_of


def carry_out(actions: Actions, life: Lifecycle, router: Router, t: float, have: Sequence[float] = ()) -> None:
    """Do what a policy wants done at t, which is now, in the order of docs/replay.md.

    have: replicas starting or active, by pool, where that is known: who ticks often mostly wants just these.
    ValueError for what cannot be meant: a pool or profile that is not there, a number that is none.
    """
    _counts(actions, life, t, have)
    for pool, replica, name in actions.reshape:
        _valid(life, pool, replica, "as a replica to reshape", t)
        life.reshape(int(pool), int(replica), _profile(life, name, t), t)
    for pool, replicas, followers, start_s in actions.regroup:
        for replica in replicas:
            _valid(life, pool, replica, "as a replica to regroup", t)
        follow = [_profile(life, name, t) for name in followers]
        life.regroup(int(pool), [int(r) for r in replicas], follow, start_s, t)
    for request, pool, replica in actions.migrate:
        _valid(life, pool, replica, "as a replica to migrate to", t)
        _migrate(life, int(request), int(pool), int(replica), t)
    for pool, n in actions.release.items():
        _valid(life, pool, n, "held requests to release", t)
        held = int(life.state.pool.held[pool])  # more would not fit beside the pool in one number
        life.ask(k.RELEASE_HELD, t, int(pool) * k.PHASE + min(int(n), held))
    if actions.weights is not None:
        _reweigh(life, router, actions.weights)


def _counts(actions: Actions, life: Lifecycle, t: float, have: Sequence[float]) -> None:
    """The orders that say how many: to have, and to lend."""
    for pool, wanted in actions.replicas.items():
        if not _as_it_is(life, pool, wanted, have):
            _valid(life, pool, wanted, "replicas", t)
            life.scale(int(pool), int(wanted), t)
    for (pool, name), wanted in actions.replicas_of.items():
        _valid(life, pool, wanted, f"replicas of {name}", t)
        life.scale(int(pool), int(wanted), t, _profile(life, name, t))
    for pool, n in actions.donate.items():
        _valid(life, pool, n, "replicas to donate", t)
        life.drain(int(pool), int(n), t, lend=True)
    for (pool, name), n in actions.donate_of.items():
        _valid(life, pool, n, f"replicas of {name} to donate", t)
        life.drain(int(pool), int(n), t, lend=True, profile=_profile(life, name, t))


def _as_it_is(life: Lifecycle, pool: int, wanted: float, have: Sequence[float]) -> bool:
    """Whether the pool needs no look at all: it has what is wanted, within its bounds, and nothing gives way."""
    if not 0 <= pool < len(have) or have[int(pool)] != wanted or life.reshaping or life.regroups.of:
        return False
    return life.world.fleet.pools[int(pool)].clamp(int(wanted)) == wanted


def _valid(life: Lifecycle, pool: int, n: float, what: str, t: float) -> None:
    if not np.isfinite(n) or n < 0 or not 0 <= pool < len(life.world.fleet.pools):
        raise ValueError(f"asked for {n} {what} in pool {pool} at t={t:g} s")


def _profile(life: Lifecycle, name: str, t: float) -> int:
    """Row of the profile of that name."""
    names = [profile.name for profile in life.world.profiles]
    if name not in names:
        raise ValueError(f"asked for replicas of profile {name!r} at t={t:g} s; the fleet has {', '.join(names)}")
    return names.index(name)


def _migrate(life: Lifecycle, request: int, pool: int, replica: int, t: float) -> None:
    """A request that waits or runs on a replica leaves for another one; others stay where they are."""
    if int(life.state.ctl.free[0]) < 2:
        grow(life, k.FLIGHT_FULL)
    fly, rep = life.state.fly, life.state.rep
    here = (fly.request == request) & (fly.gone == 0) & np.isin(fly.phase, (k.WAITING, k.PREFILL, k.DECODE))
    for q in np.flatnonzero(here):
        at = rep[int(fly.replica[q])]
        if (int(at.pool), int(at.index)) != (pool, replica):
            fly.target[q], fly.target_pool[q] = replica, pool
            life.ask(k.MIGRATE, t, int(q))


def _reweigh(life: Lifecycle, router: Router, weights: Sequence[Sequence[float]]) -> None:
    """The router goes by these weights from now on; ValueError where it has none, or not such."""
    if "weights" not in router.params:
        raise ValueError(f"router {router.route.__name__} has no weights to be set")
    params = {**router.params, "weights": [list(row) for row in weights]}
    life.state = life.state._replace(params=params_of(replace(router, params=params)))


def check_migrations(orders: Sequence[tuple[int, int, int]], life: Lifecycle, t: float) -> None:
    """ValueError for a request (request, pool, replica) that cannot go there: see `_unfit`. O(requests in flight)."""
    if not orders:
        return
    fly = life.state.fly
    moving = np.isin(fly.request, [int(request) for request, *_ in orders]) & (fly.gone == 0)
    moving &= np.isin(fly.phase, (k.WAITING, k.PREFILL, k.DECODE))
    places = {int(fly.request[q]): int(q) for q in np.flatnonzero(moving)}
    for request, pool, replica in orders:
        why = _unfit(life, places.get(int(request)), int(pool), int(replica))
        if why:
            raise ValueError(
                f"asked to migrate request {request} to replica {replica} of pool {pool} at t={t:g} s: {why}"
            )


def _unfit(life: Lifecycle, q: int | None, pool: int, replica: int) -> str:
    """Why the request in slot q cannot migrate there, or nothing.

    There never was such a replica; it is of another service or lane; or its KV is of another size a token, which
    matters to a request that brings some. None: on no replica, and so it is no order (docs/replay.md).
    """
    pools, profiles, rep = life.world.fleet.pools, life.world.profiles, life.state.rep
    if not 0 <= pool < len(pools) or not 0 <= replica < life.born[pool]:
        return "there is none"
    if q is None:
        return ""
    fly = life.state.fly[q]
    here = pools[int(fly.pool)]
    if (here.service, here.lane) != (pools[pool].service, pools[pool].lane):
        return f"it is at {here}, that is {pools[pool]}"
    there = [int(s) for s in life.live(pool, k.STARTING, k.ACTIVE, k.DRAINING) if int(rep.index[s]) == replica]
    shapes = [profiles[int(rep.profile[s])] for s in (int(fly.replica), *there)]
    if fly.phase != k.WAITING and len({shape.kv_bytes_per_token for shape in shapes}) > 1:
        sizes = " and ".join(f"{shape.kv_bytes_per_token} in {shape.name}" for shape in shapes)
        return f"kv_bytes_per_token is {sizes}"
    return ""

"""What a policy orders that its fleet cannot do at this instant: refused before any of it is carried out."""

from collections.abc import Sequence

import numpy as np

from .kernel import layout as k
from .lifecycle import Lifecycle


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

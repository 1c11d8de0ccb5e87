"""What faults take away: replicas and whole regions, with what runs there."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .kernel import layout as k
from .lifecycle import Lifecycle


def faults_due(life: Lifecycle) -> list[tuple[float, Callable[[float], None]]]:
    """(time, what) of the fleet's faults and of regions that return, in time order."""
    due: list[tuple[float, Callable[[float], None]]] = []
    for fault in life.world.fleet.faults:
        if fault.region is not None:
            due.append((fault.at_s, partial(lose_region, life, fault.region, fault.until_s)))
            due.append((fault.until_s, partial(restore, life, fault.region)))
        elif fault.pool is not None and fault.replica is not None:
            due.append((fault.at_s, partial(lose_replica, life, fault.pool, fault.replica)))
    return sorted((entry for entry in due if np.isfinite(entry[0])), key=lambda entry: entry[0])


def lose(life: Lifecycle, slots: Sequence[int], t: float) -> None:
    """These replicas are gone at t, lent or not, and their requests start again."""
    for slot in slots:
        record = int(life.state.rep.record[slot])
        life.lending.discard(record)
        life.reshaping.pop(record, None)
        if group := life.regroups.given_up(record):
            life.denied[group.pool] += len(group.profiles)
            life.switch_off(group.empty, t)
        life.ask(k.LOSE, t, int(slot))
    life.harvest()


def lose_region(life: Lifecycle, region: str, until_s: float, t: float) -> None:
    """Every replica of the region is gone; it starts none until until_s."""
    life.down[region] = max(until_s, life.down.get(region, until_s))
    pools = [p for p, pool in enumerate(life.world.fleet.pools) if pool.region == region]
    life.state.pool.down[pools] = 1
    for pool in pools:
        lose(life, [int(s) for s in life.live(pool, k.STARTING, k.ACTIVE, k.DRAINING)], t)
        life.ask(k.LOSE_QUEUE, t, pool)
    for record in [r for r in life.lent if life.lives.who[r][0] in pools]:
        life.vacate(record, t)


def lose_replica(life: Lifecycle, pool: int, index: int, t: float) -> None:
    """One replica of the pool is gone, if it lives."""
    live = life.live(pool, k.STARTING, k.ACTIVE, k.DRAINING)
    lose(life, [int(s) for s in live if int(life.state.rep.index[s]) == index], t)
    for record in [r for r in life.lent if life.lives.who[r][:2] == (pool, index)]:
        life.vacate(record, t)


def restore(life: Lifecycle, region: str, t: float) -> None:
    """The region is up again at t, empty."""
    if t < life.down.get(region, t):
        return  # another fault lasts longer
    life.down.pop(region, None)
    for p, pool in enumerate(life.world.fleet.pools):
        if pool.region == region:
            life.state.pool.down[p] = 0

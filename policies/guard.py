"""A policy's answers, checked where it gives them: what cannot be meant ends the policy, with the time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.errors import UserError
from lmaas.replay.engine import NEVER, Controller
from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import NOTHING, Actions, Seen

from .static import MOST

PLAN = ("start_s", "service", "region", "replicas")
COUNTS = {"replicas": "replicas", "donate": "replicas to donate", "release": "held requests to release"}
ORDERS = {
    "reshape": "(pool, replica, profile)",
    "regroup": "(pool, replicas, profiles, start_s)",
    "migrate": "(request, pool, replica)",
}
LONGEST_S = 86_400.0  # a start
MOST_NUMBER = 1 << 30  # of a replica; from there on the kernel's numbers mean something else


def guarded(controller: Controller, fleet: Fleet) -> Controller:
    """The same controller; its mistakes become errors that say when (RuntimeError, ValueError or TypeError)."""
    if controller is NEVER:
        return controller

    def after(t: float) -> float:
        due = controller.next_after(t)
        if not due > t:
            raise ValueError(f"its tick after t={t:g} s is at {due}; needs a later time")
        return due

    def act(t: float, seen: Seen) -> Actions:
        try:
            return _checked(controller.act(t, seen), fleet)
        except UserError:
            raise
        except Exception as error:
            raise RuntimeError(f"at t={t:g} s: {type(error).__name__}: {error}") from error

    return Controller(after, act)


def _checked(actions: Any, fleet: Fleet) -> Actions:
    """The same actions; TypeError or ValueError for what no fleet could do (replay.orders: what this one cannot)."""
    if not isinstance(actions, Actions):
        raise TypeError(f"answered {str(actions)[:60]}; needs Actions")
    for field, what in COUNTS.items():
        asked = getattr(actions, field)
        if not isinstance(asked, Mapping):
            raise TypeError(f"answered {field}={str(asked)[:60]}; needs {{pool: number}}")
        for pool, n in asked.items():
            if not (_is_pool(pool, fleet) and _is_whole(n)):
                raise ValueError(f"asked for {str(n)[:60]} {what} in pool {str(pool)[:60]}")
    for pool, n in actions.replicas.items():
        if n > MOST:
            many = f"{n:,}" if n < 1e15 else "over 10^15"
            raise ValueError(f"asked for {many} replicas of {fleet.pools[int(pool)]}; at most {MOST:,}")
    profiles = [profile.name for pool in fleet.pools for profile in pool.profiles]
    for field, what in {"replicas_of": "replicas", "donate_of": "replicas to donate"}.items():
        asked = getattr(actions, field)
        if not isinstance(asked, Mapping) or not all(isinstance(key, tuple) and len(key) == 2 for key in asked):
            raise TypeError(f"answered {field}={str(asked)[:60]}; needs {{(pool, profile): number}}")
        for (pool, name), n in asked.items():
            if not (_is_pool(pool, fleet) and _is_whole(n) and n <= MOST) or name not in profiles:
                raise ValueError(f"asked for {str(n)[:60]} {what} of {str(name)[:60]} in pool {str(pool)[:60]}")
    for pool, replica, name in _orders(actions, "reshape"):
        if not (_is_pool(pool, fleet) and _is_replica(replica)) or name not in profiles:
            raise ValueError(f"asked to reshape replica {replica} of pool {pool} to {str(name)[:60]}")
    for pool, replicas, names, start_s in _orders(actions, "regroup"):
        if not (_is_pool(pool, fleet) and _is_list(replicas) and all(map(_is_replica, replicas))):
            raise ValueError(f"asked to regroup replicas {str(replicas)[:60]} of pool {str(pool)[:60]}")
        if not _is_list(names) or len(names) > MOST or not all(name in profiles for name in names):
            raise ValueError(f"asked to regroup replicas {str(replicas)[:60]} of pool {pool} to {str(names)[:60]}")
        if start_s is not None and not (_is_number(start_s) and 0 <= start_s <= LONGEST_S):
            raise ValueError(f"asked for a start of {str(start_s)[:60]} s in pool {pool}; from 0 to {LONGEST_S:,.0f}")
    if actions.weights is not None and not _is_table(actions.weights):
        raise ValueError(
            f"asked for weights {str(actions.weights)[:60]}; needs rows of equal length, of numbers from 0"
        )
    for request, pool, replica in _orders(actions, "migrate"):
        if not (_is_whole(request) and _is_pool(pool, fleet) and _is_replica(replica)):
            raise ValueError(f"asked to migrate request {request} to replica {replica} of pool {pool}")
    return actions


def _orders(actions: Actions, field: str) -> Sequence[Any]:
    orders = getattr(actions, field)
    parts = ORDERS[field].count(",") + 1
    if not isinstance(orders, Sequence) or not all(isinstance(o, Sequence) and len(o) == parts for o in orders):
        raise TypeError(f"answered {field}={str(orders)[:60]}; needs a list of {ORDERS[field]}")
    return orders


def _is_pool(n: Any, fleet: Fleet) -> bool:
    return _is_whole(n) and n < len(fleet.pools)


def _is_replica(n: Any) -> bool:
    return _is_whole(n) and n < MOST_NUMBER


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str)


def _is_table(given: Any) -> bool:
    """Whether it is rows of equal length, of finite numbers from 0, one of them above it."""
    if not _is_list(given) or not all(_is_list(row) and len(row) for row in given):
        return False
    each = [x for row in given for x in row]
    return len({len(row) for row in given}) == 1 and all(_is_number(x) and x >= 0 for x in each) and any(each)


def _is_number(n: Any) -> bool:
    return isinstance(n, int | float | np.integer | np.floating) and bool(np.isfinite(n))


def _is_whole(n: Any) -> bool:
    """Whether n is a whole number from 0."""
    if type(n) is int:  # what nearly every answer is, at every tick
        return n >= 0
    return _is_number(n) and n >= 0 and n % 1 == 0


def checked_plan(plan: Any) -> pl.DataFrame:
    """What `plan_all` answered; ValueError or TypeError naming the first window that cannot be meant."""
    if not isinstance(plan, pl.DataFrame):
        raise TypeError(f"plan_all answered {str(plan)[:60]}; needs a table of {', '.join(PLAN)}")
    if lacks := [name for name in PLAN if name not in plan.columns]:
        raise ValueError(f"plan_all answered a table without {', '.join(lacks)}; it has {', '.join(plan.columns)}")
    if not plan["replicas"].dtype.is_numeric():
        raise ValueError(f"plan_all answered replicas of type {plan['replicas'].dtype}; needs numbers")
    count = plan["replicas"].cast(pl.Float64)
    bad = plan.filter(~(count.is_finite() & (count >= 0)).fill_null(False))
    if bad.height:
        t, service, region, n = bad.select(PLAN).row(0)
        raise ValueError(f"plan_all asked for {n} replicas of {service}/{region} in the window from t={t:g} s")
    return plan


def together(first: Actions, second: Actions) -> Actions:
    """Both answers; the second's word on a pool counts."""
    return replace(
        second,
        replicas={**first.replicas, **second.replicas},
        replicas_of={**first.replicas_of, **second.replicas_of},
        donate={**first.donate, **second.donate},
        donate_of={**first.donate_of, **second.donate_of},
        reshape=(*first.reshape, *second.reshape),
        regroup=(*first.regroup, *second.regroup),
        migrate=(*first.migrate, *second.migrate),
        release={**first.release, **second.release},
        weights=first.weights if second.weights is None else second.weights,
    )


def both(first: Controller, second: Controller) -> Controller:
    """Two controllers as one; where both are due, the second's word on a pool counts."""
    due = [-np.inf, -np.inf]

    def after(t: float) -> float:
        due[:] = first.next_after(t), second.next_after(t)
        return min(due)

    def act(t: float, seen: Seen) -> Actions:
        said = NOTHING
        for part, when in zip((first, second), due, strict=True):
            if when <= t:
                said = together(said, part.act(t, seen))
        return said

    return Controller(after, act)

"""A policy's answers, checked where it gives them: what cannot be meant ends the policy, with the time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.errors import UserError
from lmaas.replay.engine import NEVER, Controller
from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import Actions, Seen

from .static import MOST

PLAN = ("start_s", "service", "region", "replicas")
COUNTS = {"replicas": "replicas", "donate": "replicas to donate", "release": "held requests to release"}


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
            actions = controller.act(t, seen)
        except UserError:
            raise
        except Exception as error:
            raise RuntimeError(f"at t={t:g} s: {type(error).__name__}: {error}") from error
        return _checked(actions, fleet, t)

    return Controller(after, act)


def _checked(actions: Any, fleet: Fleet, t: float) -> Actions:
    if not isinstance(actions, Actions):
        raise TypeError(f"answered {str(actions)[:60]} at t={t:g} s; needs Actions")
    for field, what in COUNTS.items():
        asked = getattr(actions, field)
        if not isinstance(asked, Mapping):
            raise TypeError(f"answered {field}={str(asked)[:60]} at t={t:g} s; needs {{pool: number}}")
        for pool, n in asked.items():
            if not (_is_whole(pool) and pool < len(fleet.pools) and _is_whole(n)):
                raise ValueError(f"asked for {str(n)[:60]} {what} in pool {pool} at t={t:g} s")
    for pool, n in actions.replicas.items():
        if n > MOST:
            raise ValueError(f"asked for {n:,} replicas of {fleet.pools[pool]} at t={t:g} s; at most {MOST:,}")
    profiles = [profile.name for pool in fleet.pools for profile in pool.profiles]
    for pool, replica, name in actions.reshape:
        if not (_is_whole(pool) and _is_whole(replica)) or name not in profiles:
            raise ValueError(f"asked to reshape replica {replica} of pool {pool} to {str(name)[:60]} at t={t:g} s")
    return actions


def _is_whole(n: Any) -> bool:
    """Whether n is a whole number from 0."""
    return isinstance(n, int | float | np.integer | np.floating) and bool(np.isfinite(n) and n >= 0 and n % 1 == 0)


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
        donate={**first.donate, **second.donate},
        reshape=(*first.reshape, *second.reshape),
        migrate=(*first.migrate, *second.migrate),
        release={**first.release, **second.release},
    )

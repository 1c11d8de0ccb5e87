"""What a pool may run on: its own profile and those of other GPU types that the fleet file mixes in, each a slot."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lmaas.replay.fleet import SHARED, Fleet
from lmaas.replay.profile import Profile
from lmaas.replay.protocol import History, Seen

from ..measured import measured_rates
from ..prepare import Prepared
from .base import ordered

if TYPE_CHECKING:
    from ..inputs import Inputs

Slot = tuple[int, Profile]  # pool, profile


def slots_of(fleet: Fleet) -> tuple[Slot, ...]:
    """Those of pools that have one profile are the pools themselves, in their order, as far as there are no others.

    ValueError, which ends the policy and no other, for two profiles of one GPU type in a pool: the ILP counts GPUs of
    a type, and cannot tell them apart.
    """
    found = []
    for p, pool in enumerate(fleet.pools):
        profiles = tuple({profile.name: profile for profile in pool.profiles}.values())
        types = [profile.gpu for profile in profiles]
        if len(set(types)) < len(types):
            names = ", ".join(profile.name for profile in profiles)
            raise ValueError(f"sageserve plans one profile a GPU type; {pool} has {names}")
        found += [(p, profile) for profile in profiles]
    return tuple(found)


def several(fleet: Fleet) -> bool:
    """Whether some pool has more than one."""
    return any(pool.mixed for pool in fleet.pools)


def sustained(fleet: Fleet, history: History) -> np.ndarray:
    """θ, f8[slots]: the prompt tokens/s that a replica sustains within the SLO (μ of History.rates; of mixed in: own).

    ValueError, which ends the policy and no other, for a fleet with lanes.
    """
    if odd := [str(pool) for pool in fleet.pools if pool.lane != SHARED]:
        raise ValueError(f"sageserve plans shared pools; {odd[0]} is a lane: give the service pools without `lane`")
    rates = {(row["service"], row["lane"]): row["prompt_tokens_s"] for row in history.rates.iter_rows(named=True)}
    found = []
    for p, profile in slots_of(fleet):
        pool = fleet.pools[p]
        own = rates[pool.service, pool.lane]
        found.append(own if profile == pool.profile else history.own[pool.service, profile.name])
    return np.array(found)


def measured(ready: Prepared, inputs: "Inputs") -> Prepared:
    """The same with History.own: θ of the profiles mixed in, by (service, profile's name), on the training requests."""
    if not several(ready.fleet):
        return ready
    known = ready.requests.filter(pl.col("done_s") < ready.cut_s)
    how = (ready.attain, ready.seed, ready.prefixes, ready.cached)
    own: dict[tuple[str, str], float] = {}
    mixed = {profile.name: profile for pool in ready.fleet.pools for profile, _ in pool.mixed}
    for profile in mixed.values():
        pools = tuple(replace(p, profile=profile, mixed=()) for p in ready.fleet.pools if profile in p.profiles[1:])
        its = replace(ready.fleet, pools=pools)
        key = ("rates", profile.model_dump_json(), *(pool.service for pool in pools))
        rates, _ = inputs.once(key, partial(measured_rates, known, its, *how))
        own |= {(service, profile.name): rate.prompt_tokens_s for (service, _), rate in rates.items()}
    return replace(ready, history=replace(ready.history, own=own))


def standing(fleet: Fleet, seen: Seen) -> np.ndarray:
    """Replicas that start or are active, i8[slots]."""
    if not several(fleet):
        return np.array([ordered(seen, p) for p in range(len(fleet.pools))])
    there = seen.replicas
    up = there.state != "draining"
    return np.array(
        [int((up & (there.pool == p) & (there.profile == profile.name)).sum()) for p, profile in slots_of(fleet)]
    )

"""Aladdin's worker configuration: of the shapes of a model, the one that serves the most requests per GPU."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from lmaas.replay.fleet import SHARED, Fleet, Pool
from lmaas.replay.profile import Profile, find_profile, profiles
from lmaas.replay.protocol import History
from lmaas.replay.steplaw import step_law

from ..measured import measured_rates, rates_frame
from ..prepare import Prepared
from .drift import FEW
from .limits import NONE_S, Placement
from .relation import Relation, relations

COVER = 0.95  # share of the simulated time that the workers counted suffice


@dataclass(frozen=True)
class Shape:
    """A worker of a service: its profile, and requests/s a GPU of a fleet of such workers, packed by best fit."""

    profile: Profile
    relation: Relation

    @property
    def per_gpu(self) -> float:
        """1 / (k5 · GPUs)."""
        return 1 / (self.relation.k5 * self.profile.gpus_per_replica)


def shapes_of(profile: Profile) -> list[Profile]:
    """The profile, and shipped ones of the same model, GPU and type with another TP; all at its price a GPU-hour."""
    rows = profiles().filter(model=profile.model, gpu=profile.gpu, dtype=profile.dtype) if profile.model else None
    names = [] if rows is None else rows.sort("gpus_per_replica")["name"].to_list()
    found = [find_profile(name) for name in names]
    return [
        profile,
        *(f.model_copy(update={"usd_per_gpu_hour": profile.usd_per_gpu_hour}) for f in found if f.tp != profile.tp),
    ]


def guess(profile: Profile, known: pl.DataFrame, atgt_s: float, gamma: float) -> tuple[float, float]:
    """(requests/s, requests at once) of a worker with as many mean requests as (b) and (d) allow: where to look."""
    law = step_law(profile)
    prompt, answer = float(known["input_tokens"].mean()), float(known["output_tokens"].mean())  # type: ignore[arg-type]
    each_s = law.seq_s + law.context_s * (prompt + gamma * answer)
    by_time = (atgt_s - law.decode_s) / each_s if each_s > 0 else math.inf
    at_once = max(1.0, min(by_time, profile.kv_tokens / (prompt + answer), profile.max_seqs))
    busy_s = law.token_s * prompt + answer * (law.decode_s + each_s * at_once) / at_once
    return 1 / busy_s, at_once


def shapes(fleet: Fleet, service: str, known: pl.DataFrame, placement: Placement) -> list[Shape]:
    """Every shape that the regions of the service can hold, with its relation. A second or two each."""
    pools = [pool for pool in fleet.pools if pool.service == service]
    atgt_s = min(atgt for _, atgt in placement.limits[service])
    found = []
    for profile in shapes_of(pools[0].profile):
        if all(_holds(fleet, pool, profile) for pool in pools):
            worker_s, running = guess(profile, known, min(atgt_s, NONE_S), placement.gamma)
            one = [replace(pools[0], profile=profile)]
            (relation,) = relations(fleet, one, known, placement.alone(service), worker_s, running, COVER)
            found.append(Shape(profile, relation))
    return found


def _holds(fleet: Fleet, pool: Pool, profile: Profile) -> bool:
    """Whether the pool's region has GPUs for one worker, or any number."""
    gpus = fleet.inventory.get(pool.region)
    return gpus is None or profile.gpus_per_replica <= gpus.get(profile.gpu or "", 0)


def best_profiles(ready: Prepared, placement: Callable[[Fleet, History], Placement]) -> dict[str, Profile]:
    """service -> the profile with the most requests/s a GPU, where that is not the one it has.

    Of services with shared pools of one profile; lanes, mixed replicas and services with few known requests keep it.
    """
    found: dict[str, Profile] = {}
    said = placement(ready.fleet, ready.history)
    for service in said.limits:
        pools = [pool for pool in ready.fleet.pools if pool.service == service]
        known = ready.history.known
        known = known.filter(pl.col("service") == service) if known.height else known
        plain = all(pool.lane == SHARED and not pool.mixed for pool in pools)
        if plain and known.height >= FEW and len({pool.profile.name for pool in pools}) == 1:
            best = max(shapes(ready.fleet, service, known, said), key=lambda shape: shape.per_gpu)
            if best.profile.name != pools[0].profile.name:
                found[service] = best.profile
    return found


def reshaped(ready: Prepared, profile_of: Mapping[str, Profile]) -> Prepared:
    """The same with other workers in some services: as many GPUs at the start and in the bounds, μ measured anew."""
    fleet = ready.fleet
    pools = tuple(
        _with_profile(pool, profile_of[pool.service]) if pool.service in profile_of else pool for pool in fleet.pools
    )
    fleet = replace(fleet, pools=pools)
    training = ready.requests.filter(pl.col("done_s") < ready.cut_s)
    rates, _ = measured_rates(training, fleet, ready.attain, ready.seed, ready.prefixes, ready.cached)
    return replace(ready, fleet=fleet, rates=rates, history=replace(ready.history, rates=rates_frame(rates)))


def _with_profile(pool: Pool, profile: Profile) -> Pool:
    share = pool.profile.gpus_per_replica / profile.gpus_per_replica
    return replace(
        pool,
        profile=profile,
        initial=None if pool.initial is None else math.ceil(pool.initial * share),
        minimum=math.ceil(pool.minimum * share),
        maximum=None if pool.maximum is None else max(1, math.floor(pool.maximum * share)),
    )

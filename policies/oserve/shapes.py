"""Which shapes a pool's replicas can have, and how many GPUs there are to divide among them."""

import math
from collections.abc import Sequence
from contextlib import suppress

from lmaas.analysis.errors import UserError
from lmaas.replay.estimating.estimate import estimate
from lmaas.replay.fleet import Fleet, Pool, gpus_taken
from lmaas.replay.profile import Profile, shipped


def shapes_of(pool: Pool, most_tp: int = 8, most_pp: int = 1, estimated: bool = True) -> tuple[Profile, ...]:
    """The pool's own profile, those mixed in, and others of the same weights on the same GPU, by GPUs; one a (TP, PP).

    Weights are the same where model and dtype are. Others stand beside a shipped profile alone, since who brings one of
    their own has another engine; with its price and start-up times: those that ship, and where there is none those of a
    roofline (`estimated`), TP by powers of two up to most_tp and PP up to most_pp.
    """
    own = pool.profile
    found = {parts(profile): profile for profile in reversed(pool.profiles) if alike(profile, own)}
    if _is_shipped(own):
        others = [profile for profile in shipped().values() if alike(profile, own)]
        others += _estimates(own, most_tp, most_pp) if estimated else []
        for other in others:
            found.setdefault(parts(other), _as_given(other, own))
    return tuple(sorted(found.values(), key=lambda p: (p.gpus_per_replica, parts(p))))


def _estimates(own: Profile, most_tp: int, most_pp: int) -> list[Profile]:
    """Of every (TP, PP) that has room for the weights and some KV; none for a model or GPU that the table has not."""
    found = []
    for pp in _doubling(most_pp):
        for tp in _doubling(most_tp):
            with suppress(UserError):
                found.append(estimate(own.model or "", own.gpu or "", tp, pp, own.dtype))
    return found


def _doubling(most: int) -> list[int]:
    return [1 << n for n in range(most.bit_length())]


def alike(one: Profile, other: Profile) -> bool:
    """Whether they are replicas of the same weights on the same kind of GPU; of an unknown model it is itself alone."""
    if one == other:
        return True
    return one.model is not None and (one.model, one.dtype, one.gpu) == (other.model, other.dtype, other.gpu)


def parts(profile: Profile) -> tuple[int, int]:
    """(TP, PP); a replica of another number of GPUs is taken to split its weights among all of them."""
    gpus = profile.gpus_per_replica
    return (profile.tp, profile.pp) if profile.tp * profile.pp == gpus else (gpus, 1)


def _is_shipped(profile: Profile) -> bool:
    known = shipped().get(profile.name)
    return known is not None and _as_given(known, profile) == profile


def _as_given(known: Profile, own: Profile) -> Profile:
    """With what a fleet file may say of a service's replicas."""
    return known.model_copy(update={"usd_per_gpu_hour": own.usd_per_gpu_hour, "startup_s": own.startup_s})


def budgets(fleet: Fleet, counts: Sequence[int], gpus: int | None, headroom: float) -> list[int]:
    """GPUs a pool: `gpus` where given, at most its share of the region's; else that share; else those of `counts`.

    counts: replicas of its own kind of a fleet of one shape (planning.common_start), the mixed ones beside them. A
    region's GPUs are shared by their pools as those of `counts` are; headroom: share added where nothing bounds it.
    """
    taken = [sum(gpus_taken(Fleet((pool,)), [n]).values()) for pool, n in zip(fleet.pools, counts, strict=True)]
    found = []
    for p, pool in enumerate(fleet.pools):
        bound = math.inf
        if pool.region in fleet.inventory:
            together = [
                q for q, o in enumerate(fleet.pools) if (o.region, o.profile.gpu) == (pool.region, pool.profile.gpu)
            ]
            share = taken[p] / max(sum(taken[q] for q in together), 1) if len(together) > 1 else 1.0
            bound = int(fleet.inventory[pool.region].get(pool.profile.gpu or "", 0) * share + 1e-9)
        least = max(pool.profile.gpus_per_replica, taken[p])
        wanted = gpus if gpus is not None else bound if bound < math.inf else math.ceil(least * (1 + headroom) - 1e-9)
        found.append(int(max(min(wanted, bound), 1)))
    return found

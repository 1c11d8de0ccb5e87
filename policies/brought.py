"""What a policy brings of the world around it, where the fleet file is silent: queues, holds, regions, silos."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.analysis.trace import TIERS
from lmaas.replay.fleet import BATCH, INTERACTIVE, SHARED, Fleet, Hold, Order, Pool, RegionChoice, gpus_taken
from lmaas.replay.profile import Profile

from .planning import common_start
from .prepare import Prepared

if TYPE_CHECKING:
    from .inputs import Inputs

FIELDS = ("order", "region_choice", "hold", "kv_bandwidth_gb_s")


@dataclass(frozen=True)
class Brings:
    """A policy's attribute `brings`: fields of a fleet file that it sets unless the file does; None: not its business.

    silo: share of every pool's replicas that serve the tier batch alone, in a lane of their own; the rest serve the
    others (Fleet has no such field: a pool in silos is two pools). profiles: what workers each service has, by
    service, worked out of what is prepared, and how that is prepared with them.
    """

    order: Order | None = None
    region_choice: RegionChoice | None = None
    hold: Hold | None = None
    silo: float | None = None
    kv_bandwidth_gb_s: float | None = None
    profiles: Callable[[Prepared], dict[str, Profile]] | None = None
    reshaped: Callable[[Prepared, Mapping[str, Profile]], Prepared] | None = None


def suited(ready: Prepared, policy: Any, inputs: "Inputs | None" = None) -> tuple[Prepared, dict[str, Any]]:
    """(what the policy is run on, what it set of it by name); the same where it brings nothing or the file says it.

    A policy with a method `fitted(ready, inputs) -> Prepared` then fits it to itself from the training part: kinds of
    requests, shapes of replicas (policies.oserve.fitted); what it learned goes into History.own.
    """
    brings: Brings | None = getattr(policy, "brings", None)
    if brings is None:
        return ready, {}
    fields = {name: getattr(brings, name) for name in FIELDS}
    sets = {name: value for name, value in fields.items() if value is not None and name not in ready.given}
    if brings.silo is not None:
        ready = in_silos(ready, brings.silo)
    ready = replace(ready, fleet=replace(ready.fleet, **sets))
    sets |= {} if brings.silo is None else {"silo": brings.silo}
    if brings.profiles is not None and brings.reshaped is not None and "services" not in ready.given:
        found = brings.profiles(ready)
        if found:
            ready = brings.reshaped(ready, found)
            sets |= {"profiles": {service: profile.name for service, profile in found.items()}}
    if inputs is not None and hasattr(policy, "fitted"):
        ready = policy.fitted(ready, inputs)
    return ready, sets


def said(sets: dict[str, Any]) -> str:
    """What a policy set, as part of a sentence."""
    words = []
    if "order" in sets:
        words.append(f"queues in order of {sets['order']}")
    if "region_choice" in sets:
        rule = sets["region_choice"]
        words.append(f"regions by {rule.rule}" + (f" {rule.threshold:g}" if rule.rule == "threshold" else ""))
    if "hold" in sets:
        hold = sets["hold"]
        words.append(
            f"{', '.join(hold.tiers)} held, a completion releasing {hold.releases[0]} below {hold.lower:g} of the KV "
            f"cache and {hold.releases[1]} below {hold.upper:g}"
        )
    if "kv_bandwidth_gb_s" in sets:
        words.append(f"KV moves between replicas at {sets['kv_bandwidth_gb_s']:g} GB/s")
    if "profiles" in sets:
        words.append(", ".join(f"{service} on {name}" for service, name in sorted(sets["profiles"].items())))
    if "silo" in sets:
        words.append(f"{sets['silo']:.0%} of every pool for the tier batch alone")
    return "; ".join(words)


def in_silos(ready: Prepared, share: float) -> Prepared:
    """Every pool split in two, lanes interactive and batch; batch requests come to the latter.

    Both have their part of the common start and of the bounds, at least one each where the pool has one, and the shared
    pool's rates. The interactive ones keep the pools' numbers (faults name them) and mixed replicas.
    """
    fleet = ready.fleet
    if any(pool.lane != SHARED for pool in fleet.pools):
        raise ValueError("silos split shared pools; this fleet has prefill and decode lanes")
    if small := [str(pool) for pool in fleet.pools if pool.maximum == 1]:
        raise ValueError(f"silos need two replicas; {small[0]} has at most one")
    counts = common_start(fleet, ready.history)
    pairs = [_split(pool, n, share) for pool, n in zip(fleet.pools, counts, strict=True)]
    split = replace(fleet, pools=tuple(one for one, _ in pairs) + tuple(other for _, other in pairs))
    _check_room(split)
    requests = ready.requests.with_columns(
        pool=pl.col("pool") + pl.when(pl.col("scored_tier") == TIERS[-1]).then(len(pairs)).otherwise(0)
    )
    rates = {(s, lane): rate for (s, _), rate in ready.rates.items() for lane in (SHARED, INTERACTIVE, BATCH)}
    rows = [ready.history.rates.with_columns(lane=pl.lit(lane)) for lane in (SHARED, INTERACTIVE, BATCH)]
    history = replace(ready.history, rates=pl.concat(rows))
    return replace(ready, fleet=split, requests=requests, rates=rates, history=history)


def _check_room(fleet: Fleet) -> None:
    """ValueError where a region's GPUs do not hold a replica of each of its pools: one of them would never serve."""
    for (region, gpu), needs in gpus_taken(fleet, [1] * len(fleet.pools)).items():
        have = fleet.inventory[region].get(gpu or "", 0) if region in fleet.inventory else needs
        if needs > have:
            raise ValueError(
                f"silos need a replica for each half of every pool: {needs} GPUs of {gpu} in {region}, which has {have}"
            )


def _split(pool: Pool, replicas: int, share: float) -> tuple[Pool, Pool]:
    def parts(n: int) -> tuple[int, int]:
        batch = min(max(round(n * share), 1), max(n - 1, 1))
        return max(n - batch, 1), batch

    begin, most = parts(replicas), (None, None) if pool.maximum is None else parts(pool.maximum)
    least = parts(pool.minimum) if pool.minimum > 1 else (pool.minimum, pool.minimum)
    return (
        replace(pool, lane=INTERACTIVE, initial=begin[0], minimum=least[0], maximum=most[0]),
        replace(pool, lane=BATCH, initial=begin[1], minimum=least[1], maximum=most[1], mixed=()),
    )


def no_windows(policy: Any) -> None:
    """ValueError for a policy that window fidelity would follow in part only."""
    if getattr(policy, "brings", None) is not None:
        raise ValueError(
            "holds tiers, chooses regions, lends replicas or plans on what it sees: windows know none of that; take "
            "--fidelity request"
        )


def plain(sets: dict[str, Any], fleet: Fleet) -> dict[str, Any]:
    """What a policy set, as it would stand in a fleet file."""
    from lmaas.replay.fleettold import conditions

    found = conditions(fleet)
    return {name: value if name in ("silo", "profiles") else found[name] for name, value in sets.items()}

"""From a fleet file and the services and regions of a trace to a fleet: which pools there are, and where."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from lmaas.analysis.errors import Exit, UserError

from .fleet import DECODE, NO_REGION, PREFILL, SHARED, Fault, Fleet, Pool
from .fleetfile import FaultSpec, FleetSpec, PoolSpec, ReplicaSpec, ServiceSpec, nearest
from .profile import DEFAULT, Profile, default_profile, find_profile, profiles

Key = tuple[str, str]  # service, region
PoolKey = tuple[str, str, str]  # service, region, lane


def refuse(where: str, why: str) -> NoReturn:
    """UserError (exit 5): a fleet that cannot be, opening with the field of the fleet file."""
    raise UserError(f"fleet: {where}: {why} (docs/fleet.md)", Exit.CONFIG)


def make_fleet(
    served: Sequence[tuple[str, str | None]],
    spec: FleetSpec | None = None,
    profile: Profile | None = None,
    epoch: datetime | None = None,
) -> Fleet:
    """A pool for each service in each region that can run it, with what the fleet file says of it.

    served: (service, region) pairs of the trace. profile: for services the file gives none. epoch: the instant of
    second 0 of the trace, where known. UserError (exit 5) where the file names what there is not, or where no region
    can host a service.
    """
    spec = spec or FleetSpec()
    keys = {(service, region or NO_REGION) for service, region in served}
    services = sorted({service for service, _ in keys})
    for name in spec.services:
        if name not in services:
            refuse(f"services.{name}", f"no service '{name}' in the trace{nearest(name, services)}")
    where = {service: _may_run(service, spec, keys) for service in services}
    regions = _regions(spec, keys, where)
    kinds = {s: _profile(f"services.{s}", spec.services.get(s), profile or default_profile(s)) for s in services}
    _check_gpu_names(spec, kinds)
    hosted = [(s, r) for s in services for r in _hosts(s, kinds[s], where[s], spec)]
    told = _said(spec, hosted, kinds)
    pools = tuple(_pool(key, kinds[key[0]], told.get(key), spec) for key in _lanes(hosted, told))
    _check_lanes(told, pools, spec)
    return Fleet(
        pools,
        regions=regions,
        latency_s=_latencies(spec, regions),
        inventory={name: dict(region.gpus) for name, region in spec.regions.items() if region.gpus is not None},
        faults=_faults(spec, pools, epoch),
        clients=spec.clients,
        order=spec.order,
        region_choice=spec.region_choice,
        hold=spec.hold,
        prefix_cache=spec.prefix_cache,
        sessions=spec.sessions,
        kv_bandwidth_gb_s=spec.kv_bandwidth_gb_s,
    )


# --- where services run ---


def _may_run(service: str, spec: FleetSpec, keys: set[Key]) -> list[str]:
    """The regions a service names, else those its requests come from."""
    said = spec.services.get(service, ServiceSpec()).regions
    origins = {region for _, region in keys}
    if said is None:
        return sorted(region for name, region in keys if name == service)
    for region in said:
        if region not in origins and region not in spec.regions:
            why = f"no request comes from '{region}' and regions does not name it"
            refuse(f"services.{service}.regions", why + nearest(region, origins | set(spec.regions)))
    return sorted(set(said))


def _regions(spec: FleetSpec, keys: set[Key], where: Mapping[str, list[str]]) -> tuple[str, ...]:
    """All regions, by name; one that neither sends nor hosts is a slip of the pen."""
    known = {region for _, region in keys}.union(*where.values())
    for name, region in spec.regions.items():
        if name not in known:
            refuse(f"regions.{name}", f"no request comes from '{name}' and no service runs there{nearest(name, known)}")
        for other in region.latency_s:
            if other not in known:
                refuse(f"regions.{name}.latency_s.{other}", f"no region '{other}'{nearest(other, known)}")
    return tuple(sorted(known))


def _latencies(spec: FleetSpec, regions: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """One way, s, as given; a pair given in one direction holds in both, others are 0."""
    given = {(a, b): s for a, region in spec.regions.items() for b, s in region.latency_s.items()}
    for (a, b), s in given.items():
        if a == b and s > 0:
            refuse(f"regions.{a}.latency_s.{a}", f"{s:g} s from a region to itself; it is 0, name other regions")
    if not given:
        return ()
    return tuple(tuple(given.get((a, b), given.get((b, a), 0.0)) for b in regions) for a in regions)


def _holds(region: str, profile: Profile, spec: FleetSpec) -> bool:
    said = spec.regions.get(region)
    return said is None or said.gpus is None or said.gpus.get(profile.gpu or "", 0) >= profile.gpus_per_replica


def _hosts(service: str, profile: Profile, where: Sequence[str], spec: FleetSpec) -> list[str]:
    """Those of the regions whose GPUs hold at least one replica; refused where none does."""
    hosts = [region for region in where if _holds(region, profile, spec)]
    if hosts:
        return hosts
    if profile.gpu is None:
        refuse(f"services.{service}", f"profile {profile.name} names no gpu, which regions with gpus need")
    there = "; ".join(f"{region} has {spec.regions[region].gpus.get(profile.gpu, 0)}" for region in where)  # type: ignore[union-attr]
    why = f"no region can host '{service}': a replica of {profile.name} takes {profile.gpus_per_replica} {profile.gpu}"
    refuse(f"services.{service}", f"{why}; {there}")


def _check_gpu_names(spec: FleetSpec, kinds: Mapping[str, Profile]) -> None:
    """A GPU type that no profile uses is a slip of the pen."""
    mixed = [_mixed(n, k, spec) for n, pool in enumerate(spec.pools) for k in range(len(pool.mixed))]
    known = {*profiles()["gpu"].drop_nulls(), *(kind.gpu for kind in (*kinds.values(), *mixed) if kind.gpu)}
    for name, region in spec.regions.items():
        for gpu in region.gpus or {}:
            if gpu not in known:
                refuse(f"regions.{name}.gpus.{gpu}", f"no profile runs on a GPU '{gpu}'{nearest(gpu, known)}")


# --- pools ---


def _profile(field: str, said: ReplicaSpec | None, default: Profile) -> Profile:
    """The profile named, else the default, with the price and start-up times given."""
    said = said or ReplicaSpec()
    try:
        profile = default if said.profile is None else find_profile(said.profile)
    except UserError as error:
        refuse(f"{field}.profile", str(error))
    given: dict[str, Any] = {"usd_per_gpu_hour": said.usd_per_gpu_hour, "startup_s": said.startup_s}
    return profile.model_copy(update={name: value for name, value in given.items() if value is not None})


def _mixed(n: int, k: int, spec: FleetSpec) -> Profile:
    """The profile of pools.n.mixed.k; start-up times are the service's where its own are not given, prices are not."""
    said = spec.pools[n].mixed[k]
    service = spec.services.get(spec.pools[n].service, ServiceSpec())
    if said.startup_s is None:
        said = said.model_copy(update={"startup_s": service.startup_s})
    return _profile(f"pools.{n}.mixed.{k}", said, find_profile(DEFAULT))


def _said(spec: FleetSpec, hosted: Sequence[Key], kinds: Mapping[str, Profile]) -> dict[PoolKey, tuple[int, PoolSpec]]:
    """What the file says of each pool, with its place in the list."""
    found: dict[PoolKey, tuple[int, PoolSpec]] = {}
    names = [f"{service}/{region}" for service, region in hosted]
    for n, said in enumerate(spec.pools):
        key = (said.service, said.region or NO_REGION)
        name = f"{key[0]}/{key[1]}"
        for (*place, lane), (other, _) in found.items():
            if tuple(place) == key and lane == said.lane:
                refuse(f"pools.{n}", f"pool {name}{_of(lane)} is there already, as pools.{other}")
            if tuple(place) == key and SHARED in (lane, said.lane):
                why = f"{name} has a {lane} pool, pools.{other}; in a region a service has one shared pool, or lanes"
                refuse(f"pools.{n}.lane", why)
        if key not in hosted:
            kind = kinds.get(key[0])
            full = kind is not None and not _holds(key[1], kind, spec)
            why = f": regions.{key[1]}.gpus hold no replica of {kind.name}" if kind and full else ""
            refuse(f"pools.{n}", f"no pool {name}{why}{nearest(name, names)} services.*.regions say where services run")
        found[(*key, said.lane)] = (n, said)
    return found


def _of(lane: str) -> str:
    return "" if lane == SHARED else f" of lane {lane}"


def _lanes(hosted: Sequence[Key], told: Mapping[PoolKey, Any]) -> list[PoolKey]:
    """The pools of each place: the lanes named there, else one that is shared."""
    named = {key: [lane for lane in (PREFILL, DECODE) if (*key, lane) in told] for key in hosted}
    return [(*key, lane) for key in hosted for lane in named[key] or [SHARED]]


def _check_lanes(told: Mapping[PoolKey, tuple[int, PoolSpec]], pools: Sequence[Pool], spec: FleetSpec) -> None:
    """A prefill lane needs a decode lane of its service and a way for the KV; a decode lane needs a prefill lane."""
    for (service, region, lane), (n, _) in told.items():
        if lane == SHARED:
            continue
        other = DECODE if lane == PREFILL else PREFILL
        mine = [pool for pool in pools if pool.service == service and pool.lane in (PREFILL, DECODE)]
        if all(pool.lane == lane for pool in mine):
            example = f"{{service: {service}, region: {region}, lane: {other}}}"
            refuse(
                f"pools.{n}.lane", f"'{service}' has no {other} lane in any region; add one to pools, such as {example}"
            )
        if spec.kv_bandwidth_gb_s is None:
            why = f"pools.{n} is a {lane} lane, and KV goes from prefill to decode replicas"
            refuse("kv_bandwidth_gb_s", f"{why}; give its bandwidth, GB/s (50 for InfiniBand of 400 Gbit/s)")
        sizes = {profile.kv_bytes_per_token: profile.name for pool in mine for profile in pool.profiles}
        if None in sizes:
            refuse(f"pools.{n}.lane", f"profile {sizes[None]} has no kv_bytes_per_token, which the transfer needs")
        if len(sizes) > 1:
            said = " and ".join(f"{size:,} ({name})" for size, name in sizes.items())
            refuse(f"pools.{n}.lane", f"one KV cache cannot go from replica to replica: {said} bytes a token")


def _pool(key: PoolKey, profile: Profile, said: tuple[int, PoolSpec] | None, spec: FleetSpec) -> Pool:
    service, region, lane = key
    if said is None:
        return Pool(service, region, profile, lane)
    n, pool = said
    kinds = [_mixed(n, k, spec) for k in range(len(pool.mixed))]
    for k, kind in enumerate(kinds):
        if not _holds(key[1], kind, spec):
            refuse(f"pools.{n}.mixed.{k}", f"regions.{key[1]}.gpus hold no replica of {kind.name}")
    mixed = tuple((kind, other.replicas) for kind, other in zip(kinds, pool.mixed, strict=True))
    return Pool(service, region, profile, lane, pool.replicas, pool.min, pool.max, mixed)


# --- faults ---


def _faults(spec: FleetSpec, pools: Sequence[Pool], epoch: datetime | None) -> tuple[Fault, ...]:
    """By time; those of one instant in the file's order."""
    made = [_fault(f"faults.{n}", said, pools, epoch) for n, said in enumerate(spec.faults)]
    for n, late in enumerate(made):
        for k, early in enumerate(made):
            same = k != n and late.region is not None and late.region == early.region
            if same and early.at_s <= late.at_s < early.until_s:
                refuse(f"faults.{n}.at", f"region {late.region} is down already then, by faults.{k}")
    return tuple(sorted(made, key=lambda fault: fault.at_s))


def _fault(field: str, said: FaultSpec, pools: Sequence[Pool], epoch: datetime | None) -> Fault:
    if isinstance(said.at, float):
        at_s = said.at
    elif epoch is None:
        refuse(f"{field}.at", "a date, but the trace's times are not dates; write seconds of the trace, or 2d4h")
    else:
        epoch = epoch if epoch.tzinfo else epoch.replace(tzinfo=UTC)
        at_s = (said.at - epoch).total_seconds()
        if at_s < 0:
            refuse(
                f"{field}.at",
                f"{said.at:%Y-%m-%d %H:%M:%S %Z} is before the trace begins, {epoch:%Y-%m-%d %H:%M:%S %Z}",
            )
    if said.region is not None:
        regions = {pool.region for pool in pools}
        if said.region not in regions:
            refuse(f"{field}.region", f"no pool runs in '{said.region}'{nearest(said.region, regions)}")
        return Fault(at_s, region=said.region, until_s=math.inf if said.lasts_s is None else at_s + said.lasts_s)
    short = [str(pool).removesuffix(f"/{SHARED}") for pool in pools]
    names = {name: n for n, pool in enumerate(pools) for name in (str(pool), short[n])}
    if said.pool not in names:
        refuse(f"{field}.pool", f"no pool '{said.pool}'{nearest(str(said.pool), short)}")
    return Fault(at_s, pool=names[said.pool], replica=said.replica)

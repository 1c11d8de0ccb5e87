"""Whether a fleet can serve a trace: what needs the requests to tell, refused before anything runs, or noted."""

from collections.abc import Collection, Sequence

import polars as pl

from lmaas.analysis.errors import Exit, UserError

from .fleet import NO_REGION, PREFILL, Fleet, gpus_taken, preferences
from .fleetmake import refuse
from .profile import Profile


def check_counts(fleet: Fleet, counts: Sequence[int], scales: bool) -> None:
    """UserError (exit 5) where a pool begins with fewer than none, or with none and nothing adds any.

    scales: whether the policy or the router can add replicas later. The mixed replicas stand beside the counts.
    """
    for pool, count in zip(fleet.pools, counts, strict=True):
        if count < 0:
            raise UserError(f"pool {pool}: {count} replicas to begin with", Exit.CONFIG)
        if count == 0 and not pool.beside and not scales:
            raise UserError(f"pool {pool}: no replica to begin with and a policy that never adds one", Exit.CONFIG)


def check_start(fleet: Fleet, counts: Sequence[int], scales: bool) -> None:
    """As `check_counts`; UserError (exit 5) too where the regions' GPUs do not hold them."""
    check_counts(fleet, counts, scales)
    for (region, gpu), taken in gpus_taken(fleet, counts).items():
        there = fleet.inventory.get(region)
        if there is not None and taken > there.get(gpu or "", 0):
            pools = ", ".join(
                f"{count} {pool.service}"
                for pool, count in zip(fleet.pools, counts, strict=True)
                if pool.region == region and gpu in [profile.gpu for profile in pool.profiles]
            )
            refuse(
                f"regions.{region}.gpus.{gpu or '(profile without gpu)'}",
                f"{there.get(gpu or '', 0)} are fewer than the {taken} that the replicas to begin with take ({pools})",
            )


def check_requests(
    fleet: Fleet,
    requests: pl.DataFrame,
    *,
    start_s: float,
    end_s: float,
    columns: Collection[str] | None = None,
    block_size: int | None = None,
) -> tuple[str, ...]:
    """Notes on where fleet and requests do not fit each other; UserError (exit 5) where that leaves nothing to replay.

    requests: service, region, tier, input_tokens, output_tokens, arrival_s, of the whole trace. start_s, end_s: the
    part that is replayed, s of the trace. columns: those of the trace that hold anything (None: not known).
    block_size: tokens of its hash blocks.
    """
    least = [max(0, p.minimum - p.beside) if p.initial is None else p.initial for p in fleet.pools]
    check_start(fleet, least, scales=True)
    _check_faults(fleet, start_s, end_s)
    notes = [*_too_large(fleet, requests, start_s), *_crossings(fleet, requests), *_caches(fleet, block_size)]
    return (*notes, *_lacking(fleet, requests, columns))


def _check_faults(fleet: Fleet, start_s: float, end_s: float) -> None:
    for fault in fleet.faults:
        if start_s <= fault.at_s <= end_s:
            continue
        what = f"region {fault.region}" if fault.pool is None else f"{fleet.pools[fault.pool]} replica {fault.replica}"
        side = "before the replay begins" if fault.at_s < start_s else "after the last arrival"
        span = f"the trace is replayed from {start_s:,.10g} s to {end_s:,.10g} s"
        refuse("faults.at", f"{what} at {fault.at_s:,.10g} s is {side}; {span}")


def holds_tokens(profile: Profile) -> int:
    """Tokens of the largest request that fits the replica's KV cache, prompt + output - 1."""
    return profile.kv_tokens // profile.block * profile.block


def _too_large(fleet: Fleet, requests: pl.DataFrame, start_s: float) -> list[str]:
    """Services some of whose requests no replica's KV cache holds; refused where it holds none of a service's."""
    most: dict[str, Profile] = {}
    for pool in fleet.pools:
        if pool.lane == PREFILL:  # holds prompts alone
            continue
        for profile in pool.profiles:
            if pool.service not in most or holds_tokens(profile) > holds_tokens(most[pool.service]):
                most[pool.service] = profile
    limits = pl.DataFrame({"service": list(most), "limit": [holds_tokens(p) for p in most.values()]})
    tokens = pl.col("input_tokens").cast(pl.Int64) + pl.col("output_tokens").cast(pl.Int64) - 1
    fits, replayed = tokens <= pl.col("limit"), pl.col("arrival_s") >= start_s
    counted = (
        requests.join(limits, on="service")
        .group_by("service")
        .agg(fit=fits.sum(), least=tokens.min(), n=replayed.sum(), out=(~fits & replayed).sum())
        .sort("service")
    )
    notes = []
    for service, fit, least, n, out in counted.iter_rows():
        profile = most[service]
        if fit == 0:
            refuse(
                f"services.{service}.profile",
                f"the KV cache of {profile.name} holds {holds_tokens(profile):,} tokens and so none of the requests of "
                f"'{service}', the smallest of {least:,}; use a profile with more kv_tokens",
            )
        if out:
            notes.append(
                f"{service}: {out:,} of {n:,} replayed requests exceed the {holds_tokens(profile):,} tokens of "
                f"{profile.name}'s KV cache: they are rejected and miss their SLO"
            )
    return notes


def _crossings(fleet: Fleet, requests: pl.DataFrame) -> list[str]:
    """Which requests leave their region because their service is not there."""
    pairs = requests.group_by("service", origin=pl.col("region").fill_null(NO_REGION)).len().sort("service", "origin")
    notes = []
    for service, origin, n in pairs.iter_rows():
        nearest = preferences(fleet, service, origin)[0]
        region = fleet.pools[nearest].region
        if region != origin:
            away_s = fleet.network_s(origin, region)
            far = f"{away_s * 1000:,.4g} ms away" if away_s else "no latency given, taken as 0 s"
            only = {pool.lane for pool in fleet.pools if (pool.service, pool.region) == (service, origin)}
            why = "has only a decode lane" if only else "does not run"
            notes.append(f"{service} {why} in {origin}: its {n:,} requests go to {region} ({far})")
    rule = fleet.region_choice.rule
    regions = {pool.region for pool in fleet.pools}
    if rule == "threshold" and not fleet.latency_s and len(regions) > 1:
        notes.append("region_choice is threshold and no latency_s is given: regions are taken to be 0 s apart")
    return notes


def caches_prefixes(fleet: Fleet, profile: Profile, block_size: int | None) -> bool:
    """Whether replicas of this profile cache prefixes: the trace has hash blocks, each of whole KV blocks."""
    whole = block_size is not None and block_size % profile.block == 0
    return fleet.prefix_cache and profile.prefix_cache and whole


def caching_services(fleet: Fleet, block_size: int | None) -> tuple[str, ...]:
    """The services all of whose replicas cache prefixes; where one cannot, none of its service does."""
    off = {p.service for p in fleet.pools for profile in p.profiles if not caches_prefixes(fleet, profile, block_size)}
    return tuple(dict.fromkeys(pool.service for pool in fleet.pools if pool.service not in off))


def _caches(fleet: Fleet, block_size: int | None) -> list[str]:
    if block_size is None or not fleet.prefix_cache:
        return []
    reasons = {}
    for pool in fleet.pools:
        for profile in pool.profiles:
            if not profile.prefix_cache:
                reasons[pool.service] = f"profile {profile.name} has none"
            elif block_size % profile.block:
                blocks = f"hash blocks of {block_size} tokens are not whole KV blocks of {profile.block}"
                reasons[pool.service] = f"the trace's {blocks}, as profile {profile.name} has them"
    return [f"no prefix cache for {service}: {why}" for service, why in reasons.items()]


def _lacking(fleet: Fleet, requests: pl.DataFrame, columns: Collection[str] | None) -> list[str]:
    """What the fleet asks of a trace that does not have it; closed sessions without turns or pauses are refused."""
    notes = []
    needs = {"priority": "priority", "deadline": "deadline_s"}
    column = needs.get(fleet.order)
    if column and columns is not None and column not in columns:
        instead = {
            "priority": "queues are served in order of receipt",
            "deadline": "a request is due at its tier's limit on completion, else on its first token",
        }[fleet.order]
        notes.append(f"order is {fleet.order} and the trace has no {column}: {instead}")
    elif column and column in requests.columns and (none := requests[column].null_count()):
        last = {"priority": "go last", "deadline": "are due at their tier's limit on completion, else on first token"}
        notes.append(
            f"order is {fleet.order}: {none:,} of {requests.height:,} requests have none and {last[fleet.order]}"
        )
    if fleet.sessions == "closed" and columns is not None:
        lacks = [name for name in ("session_id", "turn", "think_s") if name not in columns]
        if lacks:
            refuse("sessions", f"closed needs session_id, turn and think_s, and the trace has no {', '.join(lacks)}")
    held = fleet.hold.tiers if fleet.hold else ()
    for tier in sorted(set(held) - set(requests["tier"].unique())):
        notes.append(f"hold names tier {tier}, of which the trace has no request")
    return notes

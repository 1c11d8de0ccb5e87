"""μ of every service and lane as its load test has it, and how long requests take on a fleet at μ."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from lmaas.replay.fleet import DECODE, PREFILL, SHARED, Fleet, onward
from lmaas.replay.lanerates import lane_rates
from lmaas.replay.prefixes import Prefixes
from lmaas.replay.profile import Profile
from lmaas.replay.rates import Mix, Rates, sustainable_rates

from .rows import prefixes_of

FEW = 50  # training requests below which a service's own length mix says nothing


def measured_rates(
    requests: pl.DataFrame, fleet: Fleet, attain: float, seed: int, prefixes: Prefixes | None, cached: Sequence[str]
) -> tuple[dict[tuple[str, str], Rates], list[str]]:
    """μ per service and lane, on its own mix; services with few requests share one load test a profile, on all's.

    With a prefix cache where the service's replicas have one; not for a mix of all, which repeats otherwise.
    """
    found: dict[tuple[str, str], Rates] = {}
    shared: dict[tuple[str, ...], dict[str, Rates]] = {}
    notes: list[str] = []
    tiers = {tier: k for k, tier in enumerate(requests["scored_tier"].unique().sort())}
    for service in dict.fromkeys(pool.service for pool in fleet.pools):
        profiles = {pool.lane: pool.profile for pool in reversed(fleet.pools) if pool.service == service}
        own = requests.filter(pl.col("service") == service)
        few = own.height < FEW and own.height < requests.height
        if few:
            own = requests
            notes.append(f"{service} has under {FEW} training requests: its μ is that of all services' length mix")
        alike = tuple(sorted(f"{lane} {profile.name}" for lane, profile in profiles.items()))
        if few and alike in shared:
            found |= {(service, lane): rates for lane, rates in shared[alike].items()}
            continue
        mix = Mix(
            own["input_tokens"].to_numpy().astype(np.int64),
            own["output_tokens"].to_numpy().astype(np.int64),
            own["limit_ttft_s"].to_numpy(),
            own["limit_tpot_s"].to_numpy(),
            own["limit_e2e_s"].to_numpy(),
            own["scored_tier"].replace_strict(tiers, return_dtype=pl.Int64).to_numpy(),
            prefixes_of(own, prefixes) if prefixes is not None and service in cached and not few else None,
        )
        by_lane = _lane_rates(profiles, fleet, mix, attain, seed)
        found |= {(service, lane): rates for lane, rates in by_lane.items()}
        if few:
            shared[alike] = by_lane
        for lane, rates in by_lane.items():
            notes += _unattained(service if lane == SHARED else f"{service}/{lane}", profiles[lane].name, rates, attain)
    return found, notes


def _lane_rates(profiles: Mapping[str, Profile], fleet: Fleet, mix: Mix, attain: float, seed: int) -> dict[str, Rates]:
    """μ of each lane of a service; prefill and decode each by its part of the limits."""
    found = {}
    if SHARED in profiles:
        found[SHARED] = sustainable_rates(profiles[SHARED], mix, attain, seed)
    if PREFILL in profiles:
        pairs = [(pool.region, onward(fleet, pool).region) for pool in fleet.pools if pool.lane == PREFILL]
        lag_s = max(fleet.network_s(*pair) for pair in pairs)
        bandwidth = fleet.kv_bandwidth_gb_s or math.inf
        pair = lane_rates(profiles[PREFILL], profiles[DECODE], mix, attain, bandwidth, lag_s, seed)
        found |= dict(zip((PREFILL, DECODE), pair, strict=True))
    return found


def _unattained(what: str, profile: str, rates: Rates, attain: float) -> list[str]:
    """Notes on a μ that does not reach the target."""
    notes = []
    if not rates.sustained:
        notes.append(f"{what}: no load, however low, attains {attain:.0%} on {profile}; μ is a floor")
    if rates.alone_attainment < attain:
        end = f"so no fleet of it reaches {attain:.0%}" if rates.hit_share is None else "more only by cached prefixes"
        notes.append(
            f"{what}: only {rates.alone_attainment:.1%} of its training requests can meet their SLO on an "
            f"idle{'' if rates.hit_share is None else ', empty'} {profile} replica, {end}; μ holds those that can to "
            f"{attain:.0%}"
        )
    return notes


def rates_frame(rates: Mapping[tuple[str, str], Rates]) -> pl.DataFrame:
    """History.rates."""
    names = ("requests_s", "prompt_tokens_s", "output_tokens_s", "total_tokens_s", "mean_running")
    rows = [{"service": s, "lane": lane} | {n: getattr(r, n) for n in names} for (s, lane), r in rates.items()]
    return pl.DataFrame(rows)


def nominal_s(requests: pl.DataFrame, fleet: Fleet, rates: Mapping[tuple[str, str], Rates]) -> np.ndarray:
    """Duration of each request on a replica as busy as it is at μ: prefill alone, decode in a batch of that size.

    The batch and its context are the load test's, so of the training part: a mean over all requests would let
    the future into what was known when.
    """
    duration = np.zeros(requests.height)
    pool, inputs, outputs = (requests[f].to_numpy() for f in ("pool", "input_tokens", "output_tokens"))
    for number, spec in enumerate(fleet.pools):
        mine, lat = pool == number, spec.profile.latency
        if not mine.any():
            continue
        n_in, n_out = inputs[mine].astype(float), outputs[mine].astype(float)
        rate = rates[spec.service, DECODE if spec.lane == PREFILL else spec.lane]
        batch = max(1.0, min(rate.mean_running, spec.profile.max_seqs))
        context = batch * (rate.prompt_tokens_s + rate.output_tokens_s / 2) / rate.requests_s
        step = (
            lat.base + float(lat.token_s(int(batch) + 1)[int(batch)]) + lat.decode_seq * batch + lat.decode_kv * context
        )
        ttft, _ = spec.profile.alone_s(n_in, n_out)
        duration[mine] = ttft + (n_out - 1) * step
    return duration

"""From a trace to what every policy is run on: requests, pools, limits, rates, demand; made once, shared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.nominal import observed_s
from lmaas.analysis.trace import Trace
from lmaas.analysis.windows import default_window_s, known_demand
from lmaas.replay.fleet import DECODE, NO_REGION, PREFILL, SHARED, Fleet, onward, preferences
from lmaas.replay.fleetcheck import caching_services, check_requests
from lmaas.replay.fleetfile import FleetSpec, read_fleet
from lmaas.replay.fleetmake import make_fleet
from lmaas.replay.lanerates import lane_rates
from lmaas.replay.prefixes import Prefixes
from lmaas.replay.profile import Profile, find_profile
from lmaas.replay.protocol import History
from lmaas.replay.rates import Mix, Rates, sustainable_rates
from lmaas.replay.slo import METRICS, NO_TIER, Slo, thresholds

from .altered import AS_IT_IS, Altered
from .load import scale_load
from .rows import read_prefixes, read_rows

FEW = 50  # training requests below which a service's own length mix says nothing
KNOWN = ("service", "scored_tier", "input_tokens", "output_tokens", "limit_ttft_s", "limit_tpot_s")  # History.known
MOST_WINDOWS = 200_000  # 3.8 years of ten minutes; more is a stray timestamp or a mistyped window


@dataclass(frozen=True)
class Prepared:
    """A trace made ready: one row a replayable request, in arrival order, and what was learned before cut_s.

    requests: request_id, arrival_s, service, region, tenant, tier (String), input_tokens, output_tokens, e2e_s,
    pool, kind (row of its service), limit_ttft_s, limit_tpot_s, limit_e2e_s (inf: not asked), done_s (arrival +
    observed or nominal duration), and what rows.read_rows adds for the fleet.
    """

    requests: pl.DataFrame
    not_replayed: int
    fleet: Fleet
    services: tuple[str, ...]
    slos: tuple[Slo, ...]
    limits: dict[tuple[str, str], str]  # (service, tier) -> thresholds, for printing
    rates: dict[tuple[str, str], Rates]  # (service, lane)
    history: History
    cut_s: float
    start_s: float  # replay begins: warmup_s before the cut
    end_s: float  # last arrival
    window_s: float
    seed: int
    notes: tuple[str, ...]
    prefixes: Prefixes | None  # of the whole trace, by column `row`; None: nothing is cached
    cached: tuple[str, ...]  # services whose replicas cache prefixes
    attain: float = 0.99  # share of the requests that rates are measured for
    kinds: tuple[str, ...] = ()  # the service of each kind of request; empty: kinds are the services
    given: frozenset[str] = frozenset()  # fields that the fleet file sets: what a policy brings does not replace them

    @property
    def replayed(self) -> pl.DataFrame:
        """The requests from start_s on, the warm-up first."""
        return self.requests.filter(pl.col("arrival_s") >= self.start_s)

    @property
    def edges_s(self) -> np.ndarray:
        """Window boundaries of the evaluated part; the last window ends with the trace."""
        return np.append(np.arange(self.cut_s, self.horizon_s, self.window_s), self.horizon_s)

    @property
    def horizon_s(self) -> float:
        """Where the last window ends: the last arrival, or one window where all arrive at one instant."""
        return self.end_s if self.end_s > self.cut_s else self.cut_s + self.window_s


def _with_limits(requests: pl.DataFrame, slos: Sequence[Slo]) -> tuple[pl.DataFrame, dict[tuple[str, str], str]]:
    pairs = requests.select("service", pl.col("tier").fill_null(NO_TIER)).unique().sort("service", "tier")
    for slo in slos:
        if not any(slo.covers(service, tier) for service, tier in pairs.iter_rows()):
            there = ", ".join(f"{service} {tier}" for service, tier in pairs.head(8).iter_rows())
            raise UserError(f"SLO '{slo}' covers no request of the trace; it has {there}", Exit.USAGE)
    rows, said = [], {}
    for service, tier in pairs.iter_rows():
        asked = thresholds(slos, service, tier)
        said[service, tier] = str(asked)
        limits = [getattr(asked, f"{m}_s") for m in METRICS]
        rows.append((service, tier, *(np.inf if x is None else x for x in limits)))
    names = ["service", "scored_tier", *(f"limit_{m}_s" for m in METRICS)]
    table = pl.DataFrame(rows, schema=names, orient="row")
    keyed = requests.with_columns(scored_tier=pl.col("tier").fill_null(NO_TIER))
    return keyed.join(table, on=["service", "scored_tier"], how="left", maintain_order="left"), said


def _nominal_s(requests: pl.DataFrame, fleet: Fleet, rates: Mapping[tuple[str, str], Rates]) -> np.ndarray:
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


def prefixes_of(rows: pl.DataFrame, prefixes: Prefixes) -> Prefixes:
    """Of rows of Prepared.requests; what is not of the trace's own copy (--load) is of a copy of its own."""
    copy = rows["copy"].cast(pl.Int64).to_numpy() if "copy" in rows.columns else np.zeros(rows.height, np.int64)
    return prefixes.take(rows["row"].to_numpy(), copy)


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


def _known_by(requests: pl.DataFrame, fleet: Fleet, cut_s: float) -> pl.DataFrame:
    """Requests of before the cut that, alone on their replica, would be done by then: their output is known."""
    training = requests.filter(pl.col("arrival_s") < cut_s)
    least = np.zeros(training.height)
    for number, pool in enumerate(fleet.pools):
        mine = training["pool"].to_numpy() == number
        lengths = (training[f].to_numpy()[mine] for f in ("input_tokens", "output_tokens"))
        least[mine] = pool.profile.alone_s(*lengths)[1]
    done = pl.col("arrival_s") + observed_s().fill_null(pl.Series(least))
    return training.filter(done < cut_s)


def _history(requests: pl.DataFrame, window_s: float, cut_s: float, rates: Mapping[tuple[str, str], Rates]) -> History:
    """The training windows' demand as known at the cut; one shorter window where none is whole."""
    first = float(requests["arrival_s"][0])
    length = window_s if cut_s - first >= window_s else max(cut_s - first, 1e-9)
    known = known_demand(requests.filter(pl.col("arrival_s") < cut_s), window_s=length, cut_s=cut_s, end_s=cut_s)
    value, n = known.at(known.windows), known.windows
    start = cut_s - n * length
    grid = pl.DataFrame({"start_s": start + np.arange(n) * length, "length_s": np.full(n, length)})
    cells = known.series.join(grid, how="cross") if n else known.series.clear().join(grid, how="cross")
    demand = cells.with_columns(value=pl.Series(value.reshape(-1)[: cells.height]))
    demand = demand.with_columns(pl.col("service", "origin").cast(pl.String))
    return History(start, cut_s, window_s, rates_frame(rates), demand)


def rates_frame(rates: Mapping[tuple[str, str], Rates]) -> pl.DataFrame:
    """History.rates."""
    names = ("requests_s", "prompt_tokens_s", "output_tokens_s", "total_tokens_s", "mean_running")
    rows = [{"service": s, "lane": lane} | {n: getattr(r, n) for n in names} for (s, lane), r in rates.items()]
    return pl.DataFrame(rows)


def _split(requests: pl.DataFrame, train_fraction: float, warmup_s: float) -> tuple[float, float, float]:
    """(cut_s, start_s, end_s) of a trace split by time."""
    first, last = float(requests["arrival_s"][0]), float(requests["arrival_s"][-1])
    cut = first + train_fraction * (last - first)
    start = max(first, cut - warmup_s) if train_fraction > 0 else first
    return cut, start, last


def _with_pools(requests: pl.DataFrame, fleet: Fleet, services: Sequence[str]) -> pl.DataFrame:
    """Adds origin, pool (the home pool: the nearest that runs the service) and kind."""
    requests = requests.with_columns(origin=pl.col("region").fill_null(NO_REGION))
    pairs = requests.select("service", "origin").unique().iter_rows()
    rows = [(service, origin, preferences(fleet, service, origin)[0]) for service, origin in pairs]
    keys = pl.DataFrame(rows, schema=["service", "origin", "pool"], orient="row")
    kinds = dict(zip(services, range(len(services)), strict=True))
    return requests.join(keys, on=["service", "origin"], how="left", maintain_order="left").with_columns(
        kind=pl.col("service").replace_strict(kinds, return_dtype=pl.Int64)
    )


def _window(trace: Trace, requests: pl.DataFrame, window_s: float | None, cut_s: float, end_s: float) -> float:
    """The window's length, s; UserError where the trace would have absurdly many."""
    first = float(requests["arrival_s"][0])
    if window_s is not None and not window_s > 0:
        raise UserError(f"--window {window_s:g}s is no window; use a time above 0 s", Exit.USAGE)
    window = window_s or default_window_s(cut_s - first or end_s - first)
    if (end_s - first) / window > MOST_WINDOWS:
        raise UserError(
            f"{trace.meta.name} spans {end_s - first:,.0f} s, over {MOST_WINDOWS:,} windows of {window:g} s: is a "
            "timestamp or the time unit wrong? A larger --window would do",
            Exit.INPUT,
        )
    return window


def prepare(
    trace: Trace,
    *,
    slos: Sequence[Slo],
    attain: float,
    profile: str | None,
    fleet: Path | str | None,
    train_fraction: float,
    warmup_s: float,
    window_s: float | None,
    load: float,
    seed: int,
    caches: bool = True,
    altered: Altered = AS_IT_IS,
) -> Prepared:
    """Read, split, size up; UserError where there is nothing to replay (4) or the configuration is wrong (2, 5).

    caches: whether block hashes are read, where trace and fleet can make use of them. altered: what is otherwise than
    they say.
    """
    given: Profile | None = find_profile(profile) if profile else None
    spec = read_fleet(fleet) if fleet else FleetSpec()
    requests, not_replayed = read_rows(trace, spec)
    cut_s, start_s, end_s = _split(requests, train_fraction, warmup_s)
    requests = altered.lengths(scale_load(requests, load * altered.load, cut_s, seed))
    served = list(requests.select("service", "region").unique().iter_rows())
    built = altered.fleet(make_fleet(served, spec, given, trace.meta.epoch))
    notes = [
        *check_requests(
            built, requests, start_s=start_s, end_s=end_s, columns=trace.meta.columns, block_size=trace.meta.block_size
        )
    ]
    services = tuple(dict.fromkeys(pool.service for pool in built.pools))
    requests, limits = _with_limits(_with_pools(requests, built, services), slos)
    requests = altered.limits(requests)
    training = _known_by(requests, built, cut_s)
    if training.height == 0:
        notes.append(
            "no training part: μ is measured on the replayed lengths; static-peak, static-mean and the common start "
            "have no demand to size by and take each pool's minimum; forecasts begin with nothing"
        )
    cached = caching_services(built, trace.meta.block_size) if caches and "block_hashes" in trace.meta.columns else ()
    prefixes, said = read_prefixes(trace, cached) if cached else (None, [])
    notes += said
    rates, said = measured_rates(training if training.height else requests, built, attain, seed, prefixes, cached)
    notes += said
    if requests["tier"].null_count():
        notes.append(f"{requests['tier'].null_count():,} requests have no tier and are scored as {NO_TIER}")
    nominal = pl.Series(_nominal_s(requests, built, rates))
    requests = requests.with_columns(done_s=pl.col("arrival_s") + observed_s().fill_null(nominal))
    window = _window(trace, requests, window_s, cut_s, end_s)
    known = requests.filter(pl.col("done_s") < cut_s).select(*KNOWN)
    history = replace(_history(requests, window, cut_s, rates), known=known)
    return Prepared(
        requests, not_replayed, built, services, tuple(slos), limits, rates, history,
        cut_s, start_s, end_s, window, seed, tuple(notes), prefixes, cached,
        attain, given=frozenset(spec.model_fields_set),
    )  # fmt: skip

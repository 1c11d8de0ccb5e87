"""From a trace to what every policy is run on: requests, pools, limits, rates, demand; made once, shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import Trace
from lmaas.analysis.windows import default_window_s, demand
from lmaas.replay.fleet import NO_REGION, Fleet, FleetSpec, make_fleet, read_fleet
from lmaas.replay.profile import Profile, find_profile
from lmaas.replay.protocol import History
from lmaas.replay.rates import Mix, Rates, sustainable_rates
from lmaas.replay.slo import METRICS, NO_TIER, Slo, thresholds

from .load import scale_load

COLUMNS = ("request_id", "arrival_s", "service", "region", "tenant", "tier", "input_tokens", "output_tokens", "e2e_s")


@dataclass(frozen=True)
class Prepared:
    """A trace made ready: one row a replayable request, in arrival order, and what was learned before cut_s.

    requests: request_id, arrival_s, service, region, tenant, tier (String), input_tokens, output_tokens, e2e_s,
    pool, kind (row of its service), limit_ttft_s, limit_tpot_s, limit_e2e_s (inf: not asked), done_s (arrival +
    observed or nominal duration).
    """

    requests: pl.DataFrame
    not_replayed: int
    fleet: Fleet
    services: tuple[str, ...]
    slos: tuple[Slo, ...]
    limits: dict[tuple[str, str], str]  # (service, tier) -> thresholds, for printing
    rates: dict[str, Rates]
    history: History
    cut_s: float
    start_s: float  # replay begins: warmup_s before the cut
    end_s: float  # last arrival
    window_s: float
    seed: int
    notes: tuple[str, ...]

    @property
    def replayed(self) -> pl.DataFrame:
        """The requests from start_s on, the warm-up first."""
        return self.requests.filter(pl.col("arrival_s") >= self.start_s)

    @property
    def edges_s(self) -> np.ndarray:
        """Window boundaries of the evaluated part; the last window ends with the trace."""
        return np.append(np.arange(self.cut_s, self.end_s, self.window_s), self.end_s)


def _load(trace: Trace, load: float, seed: int) -> tuple[pl.DataFrame, int]:
    table = trace.table(*COLUMNS)
    usable = (pl.col("input_tokens") >= 1) & (pl.col("output_tokens") >= 1)
    kept = table.filter(usable.fill_null(False))
    if kept.height == 0:
        raise UserError(
            f"{trace.meta.name}: none of its {table.height:,} requests has input and output tokens; nothing to replay",
            Exit.INPUT,
        )
    kept = kept.with_columns(pl.col("service", "region", "tenant", "tier").cast(pl.String))
    return scale_load(kept, load, seed), table.height - kept.height


def _with_limits(requests: pl.DataFrame, slos: Sequence[Slo]) -> tuple[pl.DataFrame, dict[tuple[str, str], str]]:
    pairs = requests.select("service", pl.col("tier").fill_null(NO_TIER)).unique().sort("service", "tier")
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


def _nominal_s(requests: pl.DataFrame, fleet: Fleet, rates: dict[str, Rates]) -> np.ndarray:
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
        batch = max(1.0, min(rates[spec.service].mean_running, spec.profile.max_seqs))
        rate = rates[spec.service]
        context = batch * (rate.prompt_tokens_s + rate.output_tokens_s / 2) / rate.requests_s
        step = (
            lat.base + float(lat.token_s(int(batch) + 1)[int(batch)]) + lat.decode_seq * batch + lat.decode_kv * context
        )
        ttft, _ = spec.profile.alone_s(n_in, n_out)
        duration[mine] = ttft + (n_out - 1) * step
    return duration


def _rates(requests: pl.DataFrame, fleet: Fleet, attain: float, seed: int) -> tuple[dict[str, Rates], list[str]]:
    """μ per service, on its own mix; a service absent from `requests` gets the mix of all."""
    found: dict[str, Rates] = {}
    notes: list[str] = []
    tiers = {tier: k for k, tier in enumerate(requests["scored_tier"].unique().sort())}
    for pool in fleet.pools:
        if pool.service in found:
            continue
        own = requests.filter(pl.col("service") == pool.service)
        if own.height == 0:
            own = requests
            notes.append(f"{pool.service} has no training requests: its μ is that of the whole trace's length mix")
        mix = Mix(
            own["input_tokens"].to_numpy().astype(np.int64),
            own["output_tokens"].to_numpy().astype(np.int64),
            own["limit_ttft_s"].to_numpy(),
            own["limit_tpot_s"].to_numpy(),
            own["limit_e2e_s"].to_numpy(),
            own["scored_tier"].replace_strict(tiers, return_dtype=pl.Int64).to_numpy(),
        )
        rates = sustainable_rates(pool.profile, mix, attain, seed)
        found[pool.service] = rates
        if rates.alone_attainment < attain:
            notes.append(
                f"{pool.service}: only {rates.alone_attainment:.1%} of its training requests can meet their SLO on an "
                f"idle {pool.profile.name} replica, so no fleet of it reaches {attain:.0%}; μ holds those that can to "
                f"{attain:.0%}"
            )
    return found, notes


def _rates_frame(rates: dict[str, Rates]) -> pl.DataFrame:
    names = ("requests_s", "prompt_tokens_s", "output_tokens_s", "total_tokens_s", "mean_running")
    return pl.DataFrame([{"service": s} | {n: getattr(r, n) for n in names} for s, r in rates.items()])


def _split(requests: pl.DataFrame, train_fraction: float, warmup_s: float) -> tuple[float, float, float]:
    """(cut_s, start_s, end_s) of a trace split by time."""
    first, last = float(requests["arrival_s"][0]), float(requests["arrival_s"][-1])
    cut = first + train_fraction * (last - first)
    start = max(first, cut - warmup_s) if train_fraction > 0 else first
    return cut, start, last


def prepare(
    trace: Trace,
    *,
    slos: Sequence[Slo],
    attain: float,
    profile: str | None,
    fleet: Path | None,
    train_fraction: float,
    warmup_s: float,
    window_s: float | None,
    load: float,
    seed: int,
) -> Prepared:
    """Read, split, size up; UserError where there is nothing to replay (4) or the configuration is wrong (2, 5)."""
    if not 0 <= train_fraction < 1:
        raise UserError(f"--train-fraction {train_fraction:g} leaves nothing to evaluate; use 0 to below 1", Exit.USAGE)
    if not 0 < attain <= 1:
        raise UserError(f"--attain {attain:g} is no share; use above 0 to 1", Exit.USAGE)
    given: Profile | None = find_profile(profile) if profile else None
    spec = read_fleet(fleet) if fleet else FleetSpec()
    requests, not_replayed = _load(trace, load, seed)
    served = list(requests.select("service", "region").unique().iter_rows())
    built = make_fleet(served, spec, given)
    services = tuple(dict.fromkeys(pool.service for pool in built.pools))
    index = built.index()
    keys = pl.DataFrame([(s, r, n) for (s, r), n in index.items()], schema=["service", "origin", "pool"], orient="row")
    kinds = dict(zip(services, range(len(services)), strict=True))
    requests = (
        requests.with_columns(origin=pl.col("region").fill_null(NO_REGION))
        .join(keys, on=["service", "origin"], how="left", maintain_order="left")
        .with_columns(kind=pl.col("service").replace_strict(kinds, return_dtype=pl.Int64))
    )
    requests, limits = _with_limits(requests, slos)
    cut_s, start_s, end_s = _split(requests, train_fraction, warmup_s)
    training = requests.filter(pl.col("arrival_s") < cut_s)
    notes: list[str] = []
    if training.height == 0:
        notes.append(
            "no training part: μ is measured on the replayed lengths, and policies that forecast have no history"
        )
    rates, said = _rates(training if training.height else requests, built, attain, seed)
    notes += said
    if requests["tier"].null_count():
        notes.append(f"{requests['tier'].null_count():,} requests have no tier and are scored as {NO_TIER}")
    duration = pl.col("e2e_s").fill_null(pl.Series(_nominal_s(requests, built, rates)))
    requests = requests.with_columns(done_s=pl.col("arrival_s") + duration)
    train_span = cut_s - float(requests["arrival_s"][0])
    window = window_s or default_window_s(train_span or end_s - start_s)
    if end_s <= cut_s:  # all arrivals at one instant: one window of its own
        end_s = cut_s + window
        notes.append("all requests arrive at one instant: rates and GPU-hours are over one window")
    whole = int(train_span // window)
    seen = (
        demand(training, window, cut_s - whole * window, cut_s) if whole else demand(requests, window, start_s, end_s)
    )
    history = History(cut_s - whole * window, cut_s, window, _rates_frame(rates), seen)
    return Prepared(
        requests, not_replayed, built, services, tuple(slos), limits, rates, history,
        cut_s, start_s, end_s, window, seed, tuple(notes),
    )  # fmt: skip

"""From a trace to what every policy is run on: requests, pools, limits, rates, demand; made once, shared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.nominal import observed_s
from lmaas.analysis.trace import Trace
from lmaas.analysis.windows import default_window_s, known_demand
from lmaas.replay.fleet import NO_REGION, Fleet, preferences
from lmaas.replay.fleetcheck import caching_services, check_requests
from lmaas.replay.fleetfile import FleetSpec, read_fleet
from lmaas.replay.fleetmake import make_fleet
from lmaas.replay.prefixes import Prefixes
from lmaas.replay.profile import Profile, find_profile
from lmaas.replay.protocol import History
from lmaas.replay.rates import Rates
from lmaas.replay.slo import METRICS, NO_TIER, Slo, thresholds

from .altered import AS_IT_IS, Altered
from .load import scale_load
from .measured import measured_rates, nominal_s, rates_frame
from .rows import read_prefixes, read_rows

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


def training_part(requests: pl.DataFrame, fleet: Fleet, cut_s: float) -> pl.DataFrame:
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
    training = training_part(requests, built, cut_s)
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
    nominal = pl.Series(nominal_s(requests, built, rates))
    requests = requests.with_columns(done_s=pl.col("arrival_s") + observed_s().fill_null(nominal))
    window = _window(trace, requests, window_s, cut_s, end_s)
    known = requests.filter(pl.col("done_s") < cut_s).select(*KNOWN)
    history = replace(_history(requests, window, cut_s, rates), known=known)
    return Prepared(
        requests, not_replayed, built, services, tuple(slos), limits, rates, history,
        cut_s, start_s, end_s, window, seed, tuple(notes), prefixes, cached,
        attain, given=frozenset(spec.model_fields_set),
    )  # fmt: skip

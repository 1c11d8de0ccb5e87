"""The generative model of synthetic traces: rates, bursts, tenants and lengths, drawn from seeded streams.

Every service and region has a random stream of its own, keyed by the seed and both names, so that adding a
service leaves the others' rows as they were.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl

from .synth_spec import DAY_S, Length, Region, Rhythm, Service, SynthSpec, Tenants, Tier

STEP_S = 60.0  # the rate is constant within a step; fine against a rhythm of hours and noise of minutes

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arrivals:
    """Requests of one service and region, unsorted: three aligned arrays."""

    times_s: F8
    tier: I8  # index into the service's tiers
    tenant: I8

    @classmethod
    def join(cls, parts: list["Arrivals"]) -> "Arrivals":
        """All parts after one another."""
        return cls(
            np.concatenate([p.times_s for p in parts]),
            np.concatenate([p.tier for p in parts]),
            np.concatenate([p.tenant for p in parts]),
        )


@dataclass(frozen=True)
class Population:
    """The tenants of one service: arrays over tenants; `weights` is (region, tenant), its rows sum to 1."""

    weights: F8
    input_habit: F8  # added to ln(input tokens)
    output_habit: F8


def draw(spec: SynthSpec) -> pl.DataFrame:
    """The trace of `spec`, sorted by arrival; columns as `synth` documents them."""
    parts = [part for service in spec.services for part in _service(spec, service)]
    return pl.concat(parts).sort("arrival_s", maintain_order=True)


def _service(spec: SynthSpec, service: Service) -> Iterator[pl.DataFrame]:
    here = [r for r in spec.regions if r.name in service.regions]
    shares = np.array([service.regions[r.name] for r in here])
    people = population(service.tenants, shares / shares.sum(), _stream(spec.seed, service.name))
    for i, region in enumerate(here):
        rng = _stream(spec.seed, service.name, region.name)
        arrivals = _arrivals(spec, service, region, shares[i] / shares.sum(), people.weights[i], rng)
        yield _rows(service, region, arrivals, people, rng)


def _stream(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, *(crc32(n.encode()) for n in names)])


def population(tenants: Tenants, region_shares: F8, rng: np.random.Generator) -> Population:
    """Draw the tenants' shares, home regions and habits; see `Tenants` for their meaning."""
    size = np.arange(1, tenants.count + 1) ** -tenants.skew
    size = rng.permutation(size / size.sum())  # the biggest tenant of one service is not the biggest of all
    home = rng.choice(len(region_shares), tenants.count, p=region_shares)
    at_home = home == np.arange(len(region_shares))[:, None]
    away = (1 - tenants.home) / max(len(region_shares) - 1, 1)
    weights = size * np.where(at_home, max(tenants.home, 1e-9), max(away, 1e-9))
    habits = [rng.normal(0, 1, tenants.count) * s for s in (tenants.input_sigma, tenants.output_sigma)]
    centred = [h - size @ h for h in habits]
    return Population(weights / weights.sum(axis=1, keepdims=True), *centred)


def daily(rhythm: Rhythm, local_s: F8) -> F8:
    """Factor on the mean rate at local times (seconds since 1970-01-01, a Thursday); see `Rhythm`."""
    hour = local_s % DAY_S / 3600
    a = np.log(rhythm.peak_to_trough) / 2
    shape = np.exp(a * np.cos(2 * np.pi * (hour - rhythm.peak_hour) / 24)) / np.i0(a)
    weekday = (local_s // DAY_S + 3) % 7  # 0 is Monday
    return np.asarray(shape * np.where(weekday >= 5, rhythm.weekend, 1.0))


def _arrivals(
    spec: SynthSpec, service: Service, region: Region, share: float, tenants: F8, rng: np.random.Generator
) -> Arrivals:
    """Steps of a non-homogeneous process per tier, and the bursts on top of them."""
    span_s = spec.days * DAY_S
    starts = np.arange(0.0, span_s, STEP_S)
    lengths = np.minimum(STEP_S, span_s - starts)
    local_s = starts + lengths / 2 + spec.epoch.timestamp() + region.utc_offset_h * 3600
    level = service.requests_per_s * share * (1 + service.drift.requests) ** (starts / DAY_S)
    noise = _noise(service.noise.sigma, service.noise.minutes * 60, len(starts), rng)
    tier_shares = np.array([t.share for t in service.tiers]) / sum(t.share for t in service.tiers)
    rates = [
        level * part * daily(tier.rhythm or service.rhythm, local_s)
        for tier, part in zip(service.tiers, tier_shares, strict=True)
    ]
    parts = []
    for k, rate in enumerate(rates):
        step = np.repeat(np.arange(len(starts)), rng.poisson(rate * noise * lengths))
        times = starts[step] + lengths[step] * rng.random(len(step))
        parts.append(Arrivals(times, np.full(len(step), k), rng.choice(len(tenants), len(step), p=tenants)))
    parts += _bursts(service, span_s, sum(rates), tier_shares, tenants, rng)
    return Arrivals.join(parts)


def _noise(sigma: float, correlation_s: float, steps: int, rng: np.random.Generator) -> F8:
    """A lognormal AR(1) path with mean 1: it makes arrivals a Cox process, over-dispersed above the step."""
    keep = np.exp(-STEP_S / correlation_s)
    shocks = rng.normal(0, sigma, steps)
    shocks[1:] *= np.sqrt(1 - keep**2)
    path = np.empty(steps)
    x = 0.0
    for i, shock in enumerate(shocks):
        path[i] = x = keep * x + shock
    return np.exp(path - sigma**2 / 2)


def _bursts(
    service: Service, span_s: float, rate: F8, tiers: F8, tenants: F8, rng: np.random.Generator
) -> Iterator[Arrivals]:
    bursts = service.bursts
    for _ in range(rng.poisson(bursts.per_day * span_s / DAY_S)):
        start = rng.random() * span_s
        duration = rng.exponential(bursts.minutes * 60)
        extra = rng.exponential(bursts.factor - 1) * rate[int(start // STEP_S)]
        tier, tenant = rng.choice(len(tiers), p=tiers), rng.choice(len(tenants), p=tenants)
        times = start + duration * rng.random(rng.poisson(extra * duration))
        times = times[times < span_s]
        yield Arrivals(times, np.full(len(times), tier), np.full(len(times), tenant))


def _rows(
    service: Service, region: Region, arrivals: Arrivals, people: Population, rng: np.random.Generator
) -> pl.DataFrame:
    n = len(arrivals.times_s)
    day = arrivals.times_s / DAY_S
    z = rng.normal(0, 1, (2, n))
    other = service.correlation * z[0] + np.sqrt(1 - service.correlation**2) * z[1]
    inputs = people.input_habit[arrivals.tenant] + service.input.sigma * z[0]
    outputs = people.output_habit[arrivals.tenant] + service.output.sigma * other
    inputs += day * np.log1p(service.drift.input)
    outputs += day * np.log1p(service.drift.output)
    limits = [_limits(service, tier) for tier in service.tiers]
    labels = pl.Series(
        [f"t-{i + 1:0{len(str(service.tenants.count))}d}" for i in range(service.tenants.count)],
        dtype=pl.String,
    )
    return pl.DataFrame(
        {
            "arrival_s": np.round(arrivals.times_s, 3),
            "service": pl.repeat(service.name, n, dtype=pl.String, eager=True),
            "region": pl.repeat(region.name, n, dtype=pl.String, eager=True),
            "tenant": labels.gather(arrivals.tenant),
            "tier": pl.Series([t.name for t in service.tiers], dtype=pl.String).gather(arrivals.tier),
            "input_tokens": _tokens(inputs, [i for i, _ in limits], arrivals.tier),
            "output_tokens": _tokens(outputs, [o for _, o in limits], arrivals.tier),
        }
    )


def _limits(service: Service, tier: Tier) -> tuple[Length, Length]:
    """The service's lengths as this tier has them: medians scaled, limits tightened."""
    i, o = service.input, service.output
    return (
        i.model_copy(update={"median": i.median * tier.input_scale, "max": min(i.max, tier.input_max or i.max)}),
        o.model_copy(update={"median": o.median * tier.output_scale, "max": min(o.max, tier.output_max or o.max)}),
    )


def _tokens(log_factor: F8, lengths: list[Length], tier: I8) -> npt.NDArray[np.uint32]:
    median, low, high = (np.array([getattr(x, f) for x in lengths])[tier] for f in ("median", "min", "max"))
    with np.errstate(over="ignore"):  # years of drift may leave a float's range; the limit holds all the same
        drawn = np.clip(np.rint(median * np.exp(log_factor)), low, high)
    tokens: npt.NDArray[np.uint32] = drawn.astype(np.uint32)
    return tokens

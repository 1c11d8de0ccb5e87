"""What the workload tables say, in sentences a reviewer can quote: each rests on one number of one table."""

from collections.abc import Callable, Iterator, Mapping

import polars as pl

from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.windows import DAY_S

from . import (
    arrivals,
    bursts,
    changes,
    demand,
    heterogeneity,
    latency_load,
    memory,
    mixdrift,
    pooling,
    predictability,
    prefix_tables,
    rewards,
    rhythm,
    session_columns,
    skew,
    tails,
    types,
)
from .tables import NONE, OTHERS
from .words import duration, number

Tables = Mapping[str, pl.DataFrame]

STRONG_RHYTHM = 0.3  # share of variance; below it the phase of a rhythm is not worth a sentence
STRONG_CORRELATION = 0.3  # of ranks
LARGE_TENANT = 0.1  # share of requests
CROWD_TENANTS = 5
HOURS_APART = 3.0  # between the peaks of regions
MIN_ROWS = 100  # below this there is no 1 in 100
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def findings(tables: Tables, meta: TraceMeta) -> tuple[str, ...]:
    """Sentences from the tables of `analyze`, most important first; only those whose number exists."""
    say: tuple[Callable[[Tables, TraceMeta], Iterator[str]], ...] = (
        _volume,
        _failures,
        rewards.findings,
        _peak,
        _rhythm,
        _lengths,
        prefix_tables.findings,
        pooling.findings,
        skew.findings,
        bursts.findings,
        types.findings,
        _latency,
        latency_load.findings,
        changes.findings,
        _regions,
        _services,
        _tenants,
        predictability.findings,
        rhythm.findings,
        session_columns.findings,
        _dispersion,
        arrivals.findings,
        memory.findings,
        tails.findings,
        demand.findings,
        heterogeneity.findings,
        mixdrift.findings,
        _correlation,
        _quantum,
    )
    if tables["overview"]["rows"].item() < MIN_ROWS:
        say = say[:2]  # how much and what failed; a handful of requests has no rhythm and no tail
    return tuple(sentence for one in say for sentence in one(tables, meta))


def _volume(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    o = tables["overview"].row(0, named=True)
    rows = "1 request" if o["rows"] == 1 else f"{o['rows']:,} requests"
    if o["mean_rps"] is None:
        yield f"{rows} at one instant: there is no rate to speak of."
    else:
        yield f"{rows} in {duration(o['span_s'])}, {o['mean_rps']:.3g} requests/s on average."


def _failures(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    bad = tables["status"].filter(~pl.col("status").is_in(["ok", "unknown"]))
    if len(bad):
        kinds = ", ".join(f"{n:,} {status}" for status, n in bad.select("status", "requests").iter_rows())
        yield f"{bad['share'].sum():.1%} of the requests were not answered ({kinds})."


def _peak(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    scales = tables["scales"].filter(pl.col("window_s") <= 600)
    if len(scales):
        s = scales.row(-1, named=True)
        yield (
            f"The busiest {duration(s['window_s'])} had {s['peak_rps']:.3g} requests/s, "
            f"{number(s['peak_to_mean'])} times "
            f"the mean: capacity for that peak would be {1 / s['peak_to_mean']:.0%} used on average."
        )


def _dispersion(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    scales = tables["scales"].filter(pl.col("dispersion").is_not_null(), pl.col("window_s") >= 60)
    if len(scales):
        s = scales.row(0, named=True)
        how = "about as much as" if s["dispersion"] < 1.5 else f"{number(s['dispersion'])} times as much as"
        yield (
            f"Requests per {duration(s['window_s'])} vary {how} Poisson arrivals of the same mean "
            f"(index of dispersion {s['dispersion']:.3g})."
        )


def _rhythm(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    for r in tables["seasonality"].filter(by="all").iter_rows(named=True):
        name, seen = {"day": "daily", "week": "weekly"}[r["period"]], f"({r['cycles']} {r['period']}s)"
        strength = f"{r['strength']:.0%} of the variation within {r['period']}s"
        if r["strength"] < STRONG_RHYTHM:
            yield f"No strong {name} rhythm: it explains {strength} {seen}."
        else:
            peak, trough = (_clock(r[k], r["period"], meta) for k in ("peak_at_s", "trough_at_s"))
            yield f"A {name} rhythm explains {strength}: busiest {peak}, quietest {trough} {seen}."


def _regions(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    daily = tables["seasonality"].filter(pl.col("by") == "region", pl.col("period") == "day")
    clear = daily.filter(pl.col("strength") >= STRONG_RHYTHM).sort("peak_at_s")
    if len(clear) > 1 and _apart(clear["peak_at_s"].to_list()) >= HOURS_APART:
        peaks = [f"{name} {_clock(at, 'day', meta)}" for name, at in clear.select("name", "peak_at_s").iter_rows()]
        yield f"Regions are busiest at different hours of the day ({'; '.join(peaks)})."


def _apart(times_s: list[float]) -> float:
    """Hours of the shortest arc of the day that holds all of the sorted times."""
    gaps = [b - a for a, b in zip(times_s, [*times_s[1:], times_s[0] + DAY_S], strict=True)]
    return (DAY_S - max(gaps)) / 3600


def _services(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    services = tables["shares"].filter(pl.col("by") == "service", pl.col("input_share").is_not_null())
    if len(services) > 1:
        known = services.filter(~pl.col("name").is_in([OTHERS, NONE]))
        for s in known.sort("input_share", descending=True).head(1).iter_rows(named=True):
            yield (
                f"{s['name']} has {s['input_share']:.0%} of the input tokens and {s['output_share'] or 0:.0%} of the "
                f"output tokens from {s['request_share']:.0%} of the requests."
            )


def _tenants(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    tenants = tables["shares"].filter(pl.col("by") == "tenant")
    count = tables["overview"]["tenants"].item()
    known = tenants.filter(pl.col("members") == 1, pl.col("name") != NONE)
    if count > CROWD_TENANTS and known["request_share"][0] >= LARGE_TENANT:
        yield (
            f"The largest of {count:,} tenants makes {known['request_share'][0]:.0%} of the requests, the largest "
            f"{CROWD_TENANTS} together {known['request_share'].head(CROWD_TENANTS).sum():.0%}."
        )


def _lengths(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    for metric, what in (("input_tokens", "Prompts (ISL)"), ("output_tokens", "Answers (OSL)")):
        found = tables["lengths"].filter(pl.col("n") >= MIN_ROWS, by="all", metric=metric)
        for r in found.iter_rows(named=True):
            if r["p99"] == r["p50"]:
                yield f"{what}: the median is {r['p50']:,.0f} tokens, and 99 in 100 have no more (n = {r['n']:,})."
                continue
            yield (
                f"{what}: the median is {r['p50']:,.0f} tokens, 1 in 100 has {r['p99']:,.0f} or more, "
                f"{r['p99'] / r['p50']:.1f} times that (n = {r['n']:,})."
            )


def _correlation(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    found = tables["correlation"].filter(pl.col("spearman").is_not_null(), pl.col("n") >= MIN_ROWS)
    services = found.filter(by="service").sort("n", descending=True)
    if len(services) > 1:
        # over several services the correlation is mostly that of their means
        named = services.filter(~pl.col("name").is_in([OTHERS, NONE])).head(1)
        found, where = (named, f"In {named['name'][0]}, ") if len(named) else (named, "")
    else:
        found, where = found.filter(by="all"), ""
    for r in found.iter_rows(named=True):
        if abs(r["spearman"]) < STRONG_CORRELATION:
            said = "a prompt's length says little about its answer's"
        else:
            said = f"longer prompts get {'longer' if r['spearman'] > 0 else 'shorter'} answers"
        sentence = f"{where}{said} (rank correlation {r['spearman']:.2f}, n = {r['n']:,})."
        yield sentence if where else sentence[0].upper() + sentence[1:]


def _latency(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    if "latency" not in tables:
        return
    for metric in ("ttft_s", "e2e_s"):
        for r in tables["latency"].filter(pl.col("n") >= MIN_ROWS, by="all", metric=metric).iter_rows(named=True):
            yield (
                f"Observed {metric.removesuffix('_s').upper()}: the median is {_milliseconds(r['p50'])}, 1 in 100 has "
                f"{_milliseconds(r['p99'])} or more (n = {r['n']:,})."
            )


def _quantum(tables: Tables, meta: TraceMeta) -> Iterator[str]:
    if meta.quantum_s >= 1:
        yield (
            f"Timestamps are multiples of {duration(meta.quantum_s)}: nothing is said about shorter times, and "
            "bursts within one step may be an artefact of the log."
        )


def _milliseconds(seconds: float) -> str:
    """A latency as the field shows it: milliseconds below 10 s."""
    return f"{seconds:,.1f} s" if seconds >= 10 else f"{1000 * seconds:,.0f} ms"


def _clock(at_s: float, period: str, meta: TraceMeta) -> str:
    """A phase as a person says it; counted from the trace's epoch where the clock is not known."""
    day, rest = divmod(at_s, DAY_S)
    time = f"{int(rest // 3600):02d}:{int(rest % 3600 // 60):02d}"
    if meta.epoch is None:
        return f"in hour {int(at_s // 3600)} of its day" if period == "day" else f"on day {int(day) + 1} of its week"
    return f"from {time} UTC" if period == "day" else f"on {DAYS[int(day)]}"

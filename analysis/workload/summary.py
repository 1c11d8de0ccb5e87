"""What streaming over the rows of a trace leaves: partial states, small tables that merge.

A state has key columns and columns of whole numbers that add up (or whose least or greatest is kept), so the states of
shards that follow each other in time merge to exactly those of the whole. Everything that is said of a trace too large
for memory is computed from them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import polars as pl

from lmaas.analysis.progress import Tell, silent
from lmaas.analysis.windows import HOUR_S

from .buckets import COARSE, bucket
from .scales import SCALES_S, base_scale_s, counts
from .tables import LATENCIES, OTHERS, TOP, answered, collected, named, tpot_s

TENANTS = 200  # told apart in loads by tenant; the rest together
TENANT_S = 60.0
MAX_JOINT = 500  # windows of the joint distribution of lengths
REGISTERS = 12  # bits: 4,096 registers tell distinct sessions to 1.6 %
MAX_US = 2.0**53  # 285 years: a mistyped time, and more than an integer holds
SHARED = ("service", "region", "tier")


@dataclass(frozen=True)
class State:
    """The key columns of a partial state, and how its other columns merge."""

    keys: tuple[str, ...]
    sums: tuple[str, ...] = ()
    least: tuple[str, ...] = ()
    most: tuple[str, ...] = ()

    def merged(self, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """The state of all rows from those of parts of them, sorted by its keys."""
        together = pl.concat(parts, how="vertical_relaxed")
        adding = [pl.col(self.sums).sum(), pl.col(self.least).min(), pl.col(self.most).max()]
        return together.group_by(self.keys).agg(adding).sort(self.keys)


ADDED = ("requests", "input_tokens", "output_tokens")
SPREAD = {"sums": ("n", "total"), "least": ("low",), "most": ("high",)}

# windows are numbered from arrival_s = 0; empty ones are absent. Names are text, those beyond the largest `(others)`.
STATES = {
    "finest": State(("window",), ADDED),  # windows of base_s
    "cube": State(("window", *SHARED), ADDED),  # of window_s
    "hours": State(("window", "service", "region"), ADDED),  # of 3600 s
    "tenant_load": State(("window", "tenant"), ADDED),  # of tenant_s
    "lengths": State((*SHARED, "metric", "bucket"), **SPREAD),  # tokens of answered rows, at least 1
    "joint": State(("window", "service", "in_bucket", "out_bucket"), ("n", *ADDED[1:])),  # of joint_s; answered rows
    "gaps": State(("bucket",), **SPREAD),  # between arrivals, microseconds
    "latency": State((*SHARED, "metric", "bucket"), **SPREAD),  # microseconds, answered rows
    "tenant_lengths": State(("tenant", "metric", "bucket"), **SPREAD),  # as lengths; where asked for
    "tenant_latency": State(("tenant", "metric", "bucket"), **SPREAD),
    "latency_load": State(("window", "metric", "bucket"), **SPREAD),  # of joint_s; as latency
    "sessions": State(("register",), most=("rank",)),  # HyperLogLog
}


@dataclass(frozen=True)
class Keys:
    """What the states of one trace are keyed by; shards merge only under equal ones.

    names: of each dimension those that are told apart; folded: the dimensions that have others, called `(others)`.
    """

    window_s: float
    base_s: float
    tenant_s: float
    joint_s: float
    names: dict[str, tuple[str, ...]]
    folded: frozenset[str]
    tenants: bool  # whether there are histograms by tenant

    @classmethod
    def choose(
        cls, window_s: float, quantum_s: float, span_s: float, totals: dict[str, pl.DataFrame], tenants: bool = False
    ) -> "Keys":
        """Windows by the trace's span and time step; names by `tables.totals` of each dimension, the largest first."""
        most = {d: TENANTS if d == "tenant" else TOP for d in totals}
        return cls(
            window_s=window_s,
            base_s=base_scale_s(quantum_s),
            tenant_s=_scale(max(TENANT_S, quantum_s), span_s / 50_000),
            joint_s=_scale(quantum_s, span_s / MAX_JOINT),
            names={d: tuple(of["name"].head(most[d])) for d, of in totals.items()},
            folded=frozenset(d for d, of in totals.items() if len(of) > most[d]),
            tenants=tenants,
        )

    def by(self, dimension: str) -> pl.Expr:
        """What to group rows by: the names, those that are not told apart called OTHERS; `spelt` makes them text."""
        if dimension not in self.folded:
            return pl.col(dimension)  # categories, at half the cost of texts
        text = named(dimension)
        known = pl.Series(self.names[dimension], dtype=pl.String).implode()
        return pl.when(text.is_in(known)).then(text).otherwise(pl.lit(OTHERS)).alias(dimension)

    def spelt(self, groups: pl.LazyFrame, dimensions: Iterable[str]) -> pl.LazyFrame:
        """Rows grouped by `by`, with the names as text and without nulls."""
        return groups.with_columns(named(d).alias(d) for d in dimensions)


@dataclass(frozen=True)
class Summary:
    """What streaming over rows in order of arrival left; `states` as named in STATES, absent where not asked for."""

    keys: Keys
    rows: int
    first_s: float | None
    last_s: float | None
    states: dict[str, pl.DataFrame]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The latencies that were observed, in the order of LATENCIES."""
        seen = set(self.states["latency"]["metric"]) if "latency" in self.states else set()
        return tuple(m for m in LATENCIES if m in seen)

    @property
    def distinct_sessions(self) -> float | None:
        """HyperLogLog estimate (standard error 1.6 %); null without sessions."""
        return _distinct(self.states["sessions"]) if "sessions" in self.states else None


def summarise(rows: pl.LazyFrame, keys: Keys, columns: Sequence[str], tell: Tell = silent) -> Summary:
    """Stream over `rows`, a trace table sorted by arrival, once a state.

    `columns` of the table that hold any value: states of the others are left out.
    """
    frames = _frames(rows, keys, set(columns))
    frames["ends"] = rows.select(rows=pl.len(), first_s=pl.col("arrival_s").min(), last_s=pl.col("arrival_s").max())
    found = collected(frames, tell)
    ends = found.pop("ends").row(0, named=True)
    if "hours" not in found:
        each = round(HOUR_S / keys.window_s)
        found["hours"] = found["cube"].with_columns(pl.col("window").floordiv(each))
    states = {name: STATES[name].merged([found[name]]) for name in STATES if name in found}
    return Summary(keys, ends["rows"], ends["first_s"], ends["last_s"], states)


def merge(parts: Sequence[Summary]) -> Summary:
    """The summary of all rows from those of shards that follow each other in time.

    ValueError where there is none, where their keys differ, or where one begins before another has ended.
    """
    if not parts:
        raise ValueError("no summary to merge")
    if any(part.keys != parts[0].keys for part in parts):
        raise ValueError("summaries of different windows or names do not merge")
    full = sorted((p for p in parts if p.rows), key=lambda p: (p.first_s, p.last_s)) or [parts[0]]
    ends = [(float(a.last_s or 0), float(b.first_s or 0)) for a, b in pairwise(full)]
    if any(begins < ended for ended, begins in ends):
        raise ValueError("shards overlap in time: the gaps between their requests are not known")
    states = {
        name: state.merged([p.states[name] for p in full if name in p.states])
        for name, state in STATES.items()
        if any(name in p.states for p in full)
    }
    if ends:
        missing = pl.concat([_gaps(pl.LazyFrame({"arrival_s": pair})) for pair in ends]).collect()
        states["gaps"] = STATES["gaps"].merged([states["gaps"], missing])
    return replace(full[0], rows=sum(p.rows for p in full), last_s=full[-1].last_s, states=states)


def _frames(rows: pl.LazyFrame, keys: Keys, columns: set[str]) -> dict[str, pl.LazyFrame]:
    frames = {
        "finest": counts(rows, keys.base_s),
        "cube": _counts(rows, keys, keys.window_s, SHARED),
        "gaps": _gaps(rows),
        "lengths": pl.concat([_spread(rows, keys, SHARED, m, pl.col(m), least=1) for m in ADDED[1:]]),
        "joint": _joint(rows, keys),
    }
    if HOUR_S % keys.window_s:
        frames["hours"] = _counts(rows, keys, HOUR_S, SHARED[:2])
    if "tenant" in columns:
        frames["tenant_load"] = _counts(rows, keys, keys.tenant_s, ("tenant",))
    if keys.tenants:
        by_tenant = [_spread(rows, keys, ("tenant",), m, pl.col(m), least=1) for m in ADDED[1:]]
        frames["tenant_lengths"] = pl.concat(by_tenant)
    if "session_id" in columns:
        frames["sessions"] = _registers(rows)
    metrics = {m: tpot_s() if m == "tpot_s" else pl.col(m) for m in observed(columns)}
    if metrics:
        micro = {m: (seconds * 1e6).round().clip(upper_bound=MAX_US) for m, seconds in metrics.items()}
        window = rows.with_columns(window=_window(keys.joint_s))
        frames["latency"] = pl.concat([_spread(rows, keys, SHARED, m, v) for m, v in micro.items()])
        if keys.tenants:
            by_tenant = [_spread(rows, keys, ("tenant",), m, v) for m, v in micro.items()]
            frames["tenant_latency"] = pl.concat(by_tenant)
        frames["latency_load"] = pl.concat([_spread(window, keys, ("window",), m, v) for m, v in micro.items()])
    return frames


def _counts(rows: pl.LazyFrame, keys: Keys, window_s: float, dimensions: Sequence[str]) -> pl.LazyFrame:
    return keys.spelt(counts(rows, window_s, *(keys.by(d) for d in dimensions)), dimensions)


def _window(length_s: float) -> pl.Expr:
    return (pl.col("arrival_s") / length_s).floor().cast(pl.Int64)


def observed(columns: set[str]) -> tuple[str, ...]:
    """The latencies that a trace with these columns has."""
    return tuple(m for m in LATENCIES if m in columns or (m == "tpot_s" and {"ttft_s", "e2e_s"} <= columns))


def _spread(
    rows: pl.LazyFrame, keys: Keys, by: Sequence[str], metric: str, value: pl.Expr, least: int = 0
) -> pl.LazyFrame:
    """Histogram of a metric's whole numbers from `least` up, over answered rows, by dimensions or the window."""
    dimensions = [d for d in by if d != "window"]
    groups = (
        rows.filter(answered())
        .select(*(keys.by(d) if d in dimensions else d for d in by), value=value.cast(pl.Int64, strict=False))
        .filter(pl.col("value") >= least)
        .group_by(*by, bucket(pl.col("value")).alias("bucket"))
        .agg(*_totals())
        .with_columns(metric=pl.lit(metric))
    )
    return keys.spelt(groups, dimensions).select(*by, "metric", "bucket", "n", "total", "low", "high")


def _totals() -> tuple[pl.Expr, ...]:
    value = pl.col("value")
    n = pl.len().cast(pl.Int64).alias("n")
    return n, value.sum().alias("total"), value.min().alias("low"), value.max().alias("high")


def _gaps(rows: pl.LazyFrame) -> pl.LazyFrame:
    gap = (pl.col("arrival_s").diff() * 1e6).round().clip(upper_bound=MAX_US).cast(pl.Int64)
    return (
        rows.select(value=gap)
        .filter(pl.col("value") >= 0)
        .group_by(bucket(pl.col("value")).alias("bucket"))
        .agg(*_totals())
    )


def _joint(rows: pl.LazyFrame, keys: Keys) -> pl.LazyFrame:
    both = rows.filter(answered(), pl.col("input_tokens") > 0, pl.col("output_tokens") > 0)
    groups = both.group_by(
        _window(keys.joint_s).alias("window"),
        keys.by("service"),
        bucket(pl.col("input_tokens"), COARSE).alias("in_bucket"),
        bucket(pl.col("output_tokens"), COARSE).alias("out_bucket"),
    ).agg(pl.len().cast(pl.Int64).alias("n"), pl.col("input_tokens", "output_tokens").cast(pl.Int64).sum())
    return keys.spelt(groups, ("service",))


def _registers(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Of each session's hash, the last bits say the register and the zeros before the others the rank."""
    hashed = pl.col("session_id").drop_nulls().hash(0)
    return (
        rows.select(hash=hashed)
        .group_by(register=(pl.col("hash") % 2**REGISTERS).cast(pl.Int32))
        .agg(rank=((pl.col("hash") // 2**REGISTERS).bitwise_leading_zeros() - REGISTERS + 1).max().cast(pl.Int32))
    )


def _distinct(registers: pl.DataFrame) -> float:
    """Flajolet et al. 2007, with linear counting while registers are empty."""
    m = 2**REGISTERS
    empty = m - len(registers)
    estimate = 0.7213 / (1 + 1.079 / m) * m**2 / (float((0.5 ** registers["rank"].cast(pl.Float64)).sum()) + empty)
    if estimate <= 2.5 * m and empty:
        return float(m * math.log(m / empty))
    return float(estimate)


def _scale(least_s: float, wanted_s: float) -> float:
    """The shortest of SCALES_S that is neither below `least_s` nor `wanted_s`; the longer of the two beyond them."""
    return min((s for s in SCALES_S if s >= max(least_s, wanted_s)), default=max(least_s, wanted_s))

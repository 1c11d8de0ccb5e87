"""Distributions: prompt and answer lengths, their correlation, and observed latencies."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from .buckets import quantiles
from .tables import COLUMNS, LATENCIES, answered, collected, tpot_s

if TYPE_CHECKING:
    from .given import Given

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
P999_MIN_ROWS = 10_000  # fewer leave fewer than ten values above it
MIN_CORRELATION_ROWS = 3


def describe(given: "Given") -> dict[str, pl.DataFrame]:
    """The tables lengths, correlation and, where the trace has observed latencies, latency."""
    scan, groups = given.trace.scan(), {by: given.group(by) for by in ("all", *given.by)}
    if not given.in_memory:
        found = {"lengths": _from_histograms(given, "lengths", 1.0), "correlation": _from_joint(given)}
        if "latency" in given.states:
            found["latency"] = _from_histograms(given, "latency", 1e-6)
        return found
    metrics = given.summary.metrics
    frames = {
        "lengths": lengths(scan, groups),
        "correlation": correlation(scan, groups),
    }
    if metrics:
        frames["latency"] = latency(scan, groups, metrics)
    return collected(frames, given.tell)


def _from_histograms(given: "Given", name: str, scale: float) -> pl.DataFrame:
    """`lengths` or `latency` from the state of that name, within 1 %; scale: of its whole numbers to the unit."""
    parts = []
    for by in ("all", *given.by):
        state, key = given.states[f"tenant_{name}" if by == "tenant" else name], given.label(by)
        merged = state.group_by("metric", "bucket", name=key).agg(
            pl.col("n", "total").sum(), pl.col("low").min(), pl.col("high").max()
        )
        found = quantiles(merged, ["name", "metric"], QUANTILES | {"p999": 0.999}, scale)
        order = pl.col("metric").cast(pl.Enum(("input_tokens", "output_tokens", *LATENCIES)))
        parts.append(found.with_columns(by=pl.lit(by)).sort(order, "name"))
    rare = pl.when(pl.col("n") >= P999_MIN_ROWS).then("p999")
    return pl.concat(parts).with_columns(p999=rare, exact=pl.lit(False)).select(COLUMNS[name].keys())


def _from_joint(given: "Given") -> pl.DataFrame:
    """`correlation` of all and by service from the joint histogram: ranks of its coarse buckets, each one large tie."""
    parts = []
    for by, key in (("all", pl.lit("all")), ("service", pl.col("service"))):
        if by not in ("all", *given.by):
            continue
        cells = given.states["joint"].group_by("in_bucket", "out_bucket", name=key).agg(pl.col("n").sum())
        for side in ("in", "out"):
            each = cells.group_by("name", f"{side}_bucket").agg(of=pl.col("n").sum()).sort("name", f"{side}_bucket")
            rank = (pl.col("of").cum_sum().over("name") - pl.col("of") / 2).alias(side)
            cells = cells.join(each.with_columns(rank).drop("of"), on=["name", f"{side}_bucket"])
        centred = [pl.col(side) - pl.col("n").sum().over("name") / 2 for side in ("in", "out")]
        a, b, n = *centred, pl.col("n")
        sums = (
            cells.with_columns(ab=a * b * n, aa=a * a * n, bb=b * b * n)
            .group_by("name")
            .agg(pl.col("n", "ab", "aa", "bb").sum())
        )
        r = pl.col("ab") / (pl.col("aa") * pl.col("bb")).sqrt()
        parts.append(sums.sort("name").with_columns(by=pl.lit(by), spearman=r))
    return pl.concat(parts).with_columns(_known(), exact=pl.lit(False)).select(COLUMNS["correlation"].keys())


def lengths(table: pl.LazyFrame, groups: Mapping[str, pl.Expr]) -> pl.LazyFrame:
    """Exact percentiles of both lengths for each of `groups` (by -> name); columns as in COLUMNS['lengths']."""
    rows = table.filter(answered())
    parts = [
        _grouped(rows.select(name=name, value=pl.col(metric)).filter(pl.col("value") > 0), by, metric)
        for by, name in groups.items()
        for metric in ("input_tokens", "output_tokens")
    ]
    return pl.concat(parts).select(COLUMNS["lengths"].keys())


def latency(table: pl.LazyFrame, groups: Mapping[str, pl.Expr], metrics: tuple[str, ...]) -> pl.LazyFrame:
    """Exact percentiles of the observed latencies `metrics`; columns as in COLUMNS['latency']."""
    rows = table.filter(answered()).with_columns(tpot_s=tpot_s())
    parts = [
        _grouped(rows.select(name=name, value=pl.col(metric)).filter(pl.col("value").is_not_null()), by, metric)
        for by, name in groups.items()
        for metric in metrics
    ]
    return pl.concat(parts).select(COLUMNS["latency"].keys())


def _grouped(values: pl.LazyFrame, by: str, metric: str) -> pl.LazyFrame:
    value = pl.col("value").cast(pl.Float64)
    return (
        values.group_by("name")
        .agg(
            n=pl.len().cast(pl.Int64),
            mean=value.sort().mean(),  # a fixed order of addition, or the last digit depends on the threads
            min=value.min(),
            **{p: value.quantile(q, "linear") for p, q in QUANTILES.items()},
            p999=pl.when(pl.len() >= P999_MIN_ROWS).then(value.quantile(0.999, "linear")),
            max=value.max(),
        )
        .with_columns(by=pl.lit(by), metric=pl.lit(metric), exact=pl.lit(True))
        .sort("name")
    )


def correlation(table: pl.LazyFrame, groups: Mapping[str, pl.Expr]) -> pl.LazyFrame:
    """Rank correlation of the two lengths; columns as in COLUMNS['correlation']."""
    rows = table.filter(answered(), pl.col("input_tokens") > 0, pl.col("output_tokens") > 0)
    # Spearman = Pearson of average ranks; float ranks, since products of integer ones would overflow
    rank = [pl.col(c).rank("average").cast(pl.Float64) for c in ("input_tokens", "output_tokens")]
    r = pl.corr(*rank)
    parts = [
        rows.select("input_tokens", "output_tokens", name=name)
        .group_by("name")
        .agg(n=pl.len().cast(pl.Int64), spearman=r)
        .with_columns(by=pl.lit(by))
        .sort("name")
        for by, name in groups.items()
    ]
    return pl.concat(parts).with_columns(_known(), exact=pl.lit(True)).select(COLUMNS["correlation"].keys())


def _known() -> pl.Expr:
    """`spearman` where it is defined, without the digits that depend on the order of addition."""
    enough = (pl.col("n") >= MIN_CORRELATION_ROWS) & pl.col("spearman").is_finite()
    return pl.when(enough).then(pl.col("spearman").round(9)).alias("spearman")

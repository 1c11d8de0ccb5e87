"""Distributions: prompt and answer lengths, their correlation, and observed latencies."""

from collections.abc import Mapping

import polars as pl

from .tables import COLUMNS, answered

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
P999_MIN_ROWS = 10_000  # fewer leave fewer than ten values above it
LATENCIES = ("ttft_s", "tpot_s", "e2e_s", "queue_s")
MIN_CORRELATION_ROWS = 3


def tpot_s() -> pl.Expr:
    """(e2e − ttft)/(output − 1) per request; null for a single token or where a part is missing."""
    return pl.when(pl.col("output_tokens") > 1).then(
        (pl.col("e2e_s") - pl.col("ttft_s")) / (pl.col("output_tokens").cast(pl.Float64) - 1)
    )


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
        .with_columns(by=pl.lit(by), metric=pl.lit(metric))
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
    enough = (pl.col("n") >= MIN_CORRELATION_ROWS) & pl.col("spearman").is_finite()
    return (
        pl.concat(parts)
        .with_columns(spearman=pl.when(enough).then(pl.col("spearman").round(9)))
        .select(COLUMNS["correlation"].keys())
    )

"""Rows by tier or request type: a service's and origin's forecasts times trailing shares, as known at issue."""

from typing import Literal

import numpy as np
import polars as pl

from lmaas.analysis.windows import DAY_S, KNOWN_METRICS, known_demand

from .forecaster import SCHEMA


def by_share(
    rows: pl.DataFrame,
    requests: pl.DataFrame,
    by: Literal["tier", "type"],
    *,
    window_s: float,
    cut_s: float,
    end_s: float,
) -> pl.DataFrame:
    """`rows` (SCHEMA, of all tiers and types) split by the column `by` of `requests`: the rows to add.

    A row's share is that of the last day, from what was known at issue: models are fitted per service and origin,
    whose parts alone are mostly noise. So the parts add up to the whole, less what has no tier or type. Points only: a
    part's errors are relatively larger than the whole's, whose intervals, scaled, held half of what came. Parts without
    demand in that day have no row.
    """
    keys = requests.select("service", by).unique().sort("service", by)
    if keys[by].null_count() == keys.height:
        return pl.DataFrame(schema=SCHEMA)
    keys = keys.with_columns(pl.col("service", by).cast(pl.String), code=pl.int_range(pl.len()).cast(pl.String))
    coded = (
        requests.with_columns(pl.col("service", by).cast(pl.String))
        .join(keys, on=["service", by], how="inner", nulls_equal=True, maintain_order="left")
        .with_columns(service=pl.col("code"))
    )
    known = known_demand(coded, window_s=window_s, cut_s=cut_s, end_s=end_s)
    if known.windows == 0:
        return pl.DataFrame(schema=SCHEMA)
    day = max(round(DAY_S / window_s), 1)
    # a window is told apart by its number, since times are rounded
    ended = ((pl.col("issued_s") - cut_s) / window_s).round().cast(pl.Int64) - known.first
    numbered = rows.filter(pl.col("quantile").is_null()).with_columns(ended=ended)
    parts = []
    for n in numbered["ended"].unique().sort():
        if not 1 <= n <= known.windows:
            continue
        recent = known.at(n)[:, -day:].sum(axis=1).reshape(-1, len(KNOWN_METRICS))
        total = recent[:, 1:2] + recent[:, 2:3]
        values = np.concatenate([recent, total], axis=1).reshape(-1)
        parts.append(pl.DataFrame({"ended": np.full(len(values), n), "recent": values}))
    if not parts:
        return pl.DataFrame(schema=SCHEMA)
    pairs = known.series.select("service", "origin").unique(maintain_order=True).rename({"service": "code"})
    metrics = pl.DataFrame({"metric": [*KNOWN_METRICS, "total_tokens"]})
    names = pairs.join(metrics, how="cross", maintain_order="left_right").join(keys, on="code", maintain_order="left")
    shares = pl.concat([pl.concat([names, part], how="horizontal") for part in parts])
    whole = ["ended", "service", "origin", "metric"]
    shares = shares.with_columns(share=pl.col("recent") / pl.sum("recent").over(whole))
    shares = shares.filter(pl.col("recent") > 0, pl.col(by).is_not_null())
    return (
        numbered.drop(by)
        .join(shares.select(*whole, by, "share"), on=whole)
        .with_columns(value=pl.col("value") * pl.col("share"))
        .select(*SCHEMA)
    )

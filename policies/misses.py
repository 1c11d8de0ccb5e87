"""Which limits were missed, by whom and where: TTFT, TPOT, E2E, or no completion at all."""

from collections.abc import Sequence

import polars as pl

from lmaas.replay.scores import LATENCIES

from .runner import Run

UNFINISHED = "not completed"
MISSES = {
    "policy": pl.String,
    "service": pl.String,  # of the pool where the request ended; with lanes also of the prefill pool it came from
    "region": pl.String,
    "lane": pl.String,
    "tier": pl.String,  # it is scored as
    "limit": pl.String,  # ttft, tpot, e2e or UNFINISHED
    "missed": pl.Int64,  # requests beyond this limit; one may be beyond several
    "requests": pl.Int64,  # of that pool and tier that missed any
}
_POOL = ("service", "region", "lane")


def misses(runs: Sequence[Run]) -> pl.DataFrame:
    """Columns MISSES, most missed first within a policy; nothing of runs without requests (window fidelity)."""
    found = [_of(run) for run in runs if run.rows.width]
    return pl.concat(found) if found else pl.DataFrame(schema=MISSES)


def _of(run: Run) -> pl.DataFrame:
    done = pl.col("status") == "ok"
    late = {n: done & (pl.col(f"{n}_s") > pl.col(f"limit_{n}_s")).fill_null(False) for n in LATENCIES}
    missed = run.rows.filter(~pl.col("attained"))
    if "prefill_pool" in missed.columns:
        came = missed.filter(pl.col("prefill_pool").is_not_null())
        missed = pl.concat([missed, came.with_columns(pool="prefill_pool")])
    counts = missed.group_by("pool", tier="scored_tier").agg(
        requests=pl.len(), **{name: rows.sum() for name, rows in late.items()}, **{UNFINISHED: (~done).sum()}
    )
    long = counts.unpivot(
        on=[*LATENCIES, UNFINISHED], index=["pool", "tier", "requests"], variable_name="limit", value_name="missed"
    )
    pools = run.timeline.select(*_POOL).unique().with_columns(pool=pl.concat_str(_POOL, separator="/"))
    named = long.filter(pl.col("missed") > 0).join(pools, on="pool", how="inner")
    order = ["missed", *_POOL, "tier", "limit"]
    ranked = named.sort(order, descending=[True, *[False] * 5])
    return ranked.select(pl.lit(run.name).alias("policy"), *list(MISSES)[1:]).cast(pl.Schema(MISSES))

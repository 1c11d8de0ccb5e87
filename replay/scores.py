"""Scores of a replay by its requests: each one's, a policy's, a group's. Definitions: docs/metrics.md."""

from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.windows import HOUR_S

from . import columns as c
from .engine import Outcome
from .fleet import PREFILL, Fleet

LATENCIES = ("ttft", "tpot", "e2e")
PERCENTILES = (50, 90, 95, 99)
_STATUS = {
    c.OK: "ok", c.REJECTED: "rejected", c.UNSERVED: "incomplete", c.ABANDONED: "abandoned", c.NOT_SENT: "not_sent"
}  # fmt: skip
FEWEST_AN_HOUR = 30  # requests: a handful makes no worst hour
MISSED = ("rejected", "abandoned", "incomplete", "not_sent")  # how a request can end that did not complete
# upper edges of the histogram, s: ten a decade from 1 ms to about a day
EDGES_S = np.round(10 ** (np.arange(-30, 51) / 10), 9)


def request_rows(requests: pl.DataFrame, outcome: Outcome, fleet: Fleet, caches: bool = False) -> pl.DataFrame:
    """One row a replayed request, in arrival order; caches: whether prompts were cached.

    requests: request_id, arrival_s, service, tier, output_tokens, pool (number), limit_ttft_s, limit_tpot_s,
    limit_e2e_s (inf: not asked). Adds status, pool (name), replica, network_s, hold_s, queue_s, ttft_s, tpot_s, e2e_s
    (s from the request's arrival, null where undefined), preemptions, attained, cached_tokens (prompt tokens found in
    prefix caches; null without caches) and begun (how often it was sent, restarted or admitted again). In closed
    sessions arrival_s becomes the time the turn was sent, the trace's where it never was. A fleet with lanes
    adds transfer_s, prefill_pool (name) and prefill_replica, null of who did not travel.
    """
    names = [str(pool) for pool in fleet.pools]
    replica = _of_record(outcome.replicas["replica"].to_numpy(), outcome.record)
    done = pl.col("status") == "ok"
    lanes = _handed_over(outcome, names) if any(pool.lane == PREFILL for pool in fleet.pools) else {}
    return (
        requests.with_columns(
            **lanes,
            arrival_s=pl.Series(outcome.arrival_s),
            status=pl.Series(outcome.status).replace_strict(_STATUS, return_dtype=pl.String),
            replica=pl.Series(replica),
            overhead_s=_overhead_s(outcome),
            admitted=pl.Series(outcome.admitted_s, nan_to_null=True),
            first=pl.Series(outcome.first_s, nan_to_null=True),
            done=pl.Series(outcome.done_s, nan_to_null=True),
            preemptions=pl.Series(outcome.preemptions),
            cached_tokens=pl.Series(outcome.cached_tokens) if caches else pl.lit(None, pl.Int64),
            begun=pl.Series(1 + outcome.preemptions + outcome.restarts + outcome.tries),
            pool=pl.Series(np.where(outcome.pool >= 0, outcome.pool, requests["pool"].to_numpy())),
            network=pl.Series(outcome.network_s),
            hold=pl.Series(outcome.hold_s),
        )
        .with_columns(
            pool=pl.col("pool").replace_strict(dict(enumerate(names)), return_dtype=pl.String),
            replica=pl.when(pl.col("replica") >= 0).then("replica"),
            network_s=pl.when(done).then("network"),
            hold_s=pl.when(done).then("hold"),
            # until the first admission of the try that was served; half the network lies before it, half behind
            queue_s=pl.col("admitted") - pl.col("arrival_s") - pl.col("network") / 2 - pl.col("hold"),
            ttft_s=pl.col("first") - pl.col("arrival_s") + pl.col("overhead_s") + pl.col("network") / 2,
            e2e_s=pl.col("done") - pl.col("arrival_s") + pl.col("overhead_s") + pl.col("network") / 2,
        )
        .with_columns(
            tpot_s=pl.when(pl.col("output_tokens") > 1).then(
                (pl.col("e2e_s") - pl.col("ttft_s")) / (pl.col("output_tokens").cast(pl.Int64) - 1)
            )
        )
        .with_columns(
            attained=done
            & (pl.col("ttft_s") <= pl.col("limit_ttft_s")).fill_null(False)
            & (pl.col("tpot_s") <= pl.col("limit_tpot_s")).fill_null(True)  # a single token meets any TPOT
            & (pl.col("e2e_s") <= pl.col("limit_e2e_s")).fill_null(False)
        )
        .drop("admitted", "first", "done", "overhead_s", "network", "hold")
    )


def _of_record(values: np.ndarray, record: np.ndarray) -> np.ndarray:
    """Each request's value of those by record; -1 where it has none."""
    of: np.ndarray = np.append(values, -1)[record]  # record -1 is the last
    return of


def _overhead_s(outcome: Outcome) -> pl.Series:
    """By request, of the profile of the replica where it ended; with lanes, of the prefill replica's, and only that."""
    profile = _of_record(
        outcome.replicas["profile"].to_numpy(), np.where(outcome.prefilled > 0, outcome.prefilled - 1, outcome.record)
    )
    return pl.Series([profile.overhead_s for profile in outcome.profiles], dtype=pl.Float64).gather(
        np.maximum(profile, 0)
    )


def _handed_over(outcome: Outcome, names: list[str]) -> dict[str, pl.Series]:
    """transfer_s (s, from the first token to the decode pool), prefill_pool and prefill_replica."""
    came = outcome.replicas[np.maximum(outcome.prefilled - 1, 0)]
    columns = {
        "transfer_s": pl.Series(outcome.transfer_s),
        "prefill_pool": came["pool"].replace_strict(dict(enumerate(names)), return_dtype=pl.String),
        "prefill_replica": came["replica"],
    }
    travelled = pl.when(pl.Series(outcome.prefilled > 0))
    return dict(zip(columns, pl.select(*(travelled.then(column) for column in columns.values())), strict=True))


def _latency_columns() -> dict[str, pl.Expr]:
    columns: dict[str, pl.Expr] = {}
    for name in LATENCIES:
        value = pl.col(f"{name}_s")
        columns |= {f"{name}_p{p}_s": value.quantile(p / 100, "linear") for p in PERCENTILES}
        columns[f"n_{name}"] = value.count()
    return columns


def _hits() -> pl.Expr:
    """Share of the prompt tokens of completed requests that were found cached; null without caches."""
    done = pl.col("status") == "ok"
    prompts = (pl.col("input_tokens").cast(pl.Int64) * pl.col("begun")).filter(
        done & pl.col("cached_tokens").is_not_null()
    )
    return pl.col("cached_tokens").filter(done).sum() / pl.when(prompts.sum() > 0).then(prompts.sum())


def request_scores(rows: pl.DataFrame, duration_s: float) -> dict[str, Any]:
    """Attainment, goodput, counts and exact latency percentiles of the evaluated requests.

    A turn that was never sent has not arrived, and misses: a fleet does not gain by losing the turns before it.
    """
    ok = pl.col("status") == "ok"
    hours = (pl.col("arrival_s") - pl.col("arrival_s").min()) // HOUR_S
    found = rows.select(
        arrived=(pl.col("status") != "not_sent").sum(),
        completed=ok.sum(),
        **{status: (pl.col("status") == status).sum() for status in MISSED},
        slo_attainment=pl.col("attained").mean(),
        goodput_rps=pl.col("attained").sum() / duration_s,
        goodput_tok_s=pl.col("output_tokens").filter("attained").sum() / duration_s,
        preemptions=pl.col("preemptions").sum(),
        prefix_hit_share=_hits(),
        **_latency_columns(),
    ).row(0, named=True)
    by_hour = (
        rows.group_by(hour=hours)
        .agg(share=pl.col("attained").mean(), n=pl.len())
        .filter(pl.col("n") >= FEWEST_AN_HOUR)
        .sort("share", "hour")
    )
    worst = by_hour.row(0, named=True) if by_hour.height else {"share": None, "hour": None}
    start = None if worst["hour"] is None else rows["arrival_s"].min() + worst["hour"] * HOUR_S
    return found | {"worst_hour_attainment": worst["share"], "worst_hour_start_s": start}


def group_scores(rows: pl.DataFrame) -> pl.DataFrame:
    """group (all, tier, service), name, n, slo_attainment, prefix_hit_share and latency percentiles."""
    parts = []
    for group in ("all", "tier", "service"):
        name = pl.lit("all") if group == "all" else pl.col(group).cast(pl.String)
        parts.append(
            rows.group_by(name=name)
            .agg(
                n=pl.len(),
                slo_attainment=pl.col("attained").mean(),
                prefix_hit_share=_hits(),
                **_latency_columns(),
            )
            .sort("name")
            .select(pl.lit(group).alias("group"), pl.all())
        )
    return pl.concat(parts)


def histogram(rows: pl.DataFrame) -> pl.DataFrame:
    """metric, le (upper edge, s), count: of the latencies of completed requests."""
    parts = []
    for name in LATENCIES:
        values = rows[f"{name}_s"].drop_nulls().to_numpy()
        counts = np.bincount(np.searchsorted(EDGES_S, values), minlength=len(EDGES_S) + 1)[: len(EDGES_S)]
        parts.append(pl.DataFrame({"metric": [f"{name}_s"] * len(EDGES_S), "le": EDGES_S, "count": counts}))
    return pl.concat(parts)

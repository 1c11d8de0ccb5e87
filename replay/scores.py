"""Scores of a replay: per request, per policy, per group and over time. Definitions: docs/metrics.md."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from . import columns as c
from .engine import Outcome
from .fleet import PREFILL, Fleet

LATENCIES = ("ttft", "tpot", "e2e")
PERCENTILES = (50, 90, 95, 99)
HOUR_S = 3600.0
MONTH_H = 730.0  # hours a month: 365 · 24 / 12
_STATUS = {
    c.OK: "ok", c.REJECTED: "rejected", c.UNSERVED: "incomplete", c.ABANDONED: "abandoned", c.NOT_SENT: "not_sent"
}  # fmt: skip
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
        .filter(pl.col("n") >= min(30, rows.height))  # a handful of requests makes no worst hour
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


def _clipped(spans: pl.DataFrame, start_s: float, end_s: float) -> pl.DataFrame:
    return (
        spans.with_columns(
            from_s=pl.col("from_s").clip(lower_bound=start_s), to_s=pl.col("to_s").clip(upper_bound=end_s)
        )
        .filter(pl.col("to_s") > pl.col("from_s"))
        .with_columns(length_s=pl.col("to_s") - pl.col("from_s"))
    )


def cost_scores(outcome: Outcome, start_s: float, end_s: float) -> dict[str, Any]:
    """GPU-hours provisioned (starting + active + draining), active, of the tail and donated; cost; utilisation.

    Integrated from start_s to the later of end_s and the end of the last request; the tail is what lies after end_s.
    Donated time is in none of the others.
    Cost is on-demand, each replica at the price of its own profile; null where one that is paid for has no price.
    A month has 730 hours.
    """
    stop_s = max(end_s, outcome.end_s)
    gpus = outcome.replicas["gpus"]
    prices = pl.Series([p.usd_per_gpu_hour for p in outcome.profiles], dtype=pl.Float64)
    usd = prices.gather(outcome.replicas["profile"])

    def within(spans: pl.DataFrame, from_s: float) -> pl.DataFrame:
        spans = _clipped(spans, from_s, stop_s)
        return spans.with_columns(gpu_h=pl.col("length_s") / HOUR_S * gpus.gather(spans["record"]))

    is_donated = pl.col("state") == "donated"
    paid, donated = outcome.spans.filter(~is_donated), outcome.spans.filter(is_donated)
    spans, tail = within(paid, start_s), within(paid, end_s)
    provisioned = float(spans["gpu_h"].sum())
    spent = spans["gpu_h"] * usd.gather(spans["record"])
    cost = None if spent.null_count() else float(spent.sum())
    tail_usd = float((tail["gpu_h"] * usd.gather(tail["record"])).sum())
    active = spans.filter(pl.col("state") == "active")
    serving = paid.filter(pl.col("state") != "starting")
    serving_s = float((serving["to_s"] - serving["from_s"]).sum())
    hours = (end_s - start_s) / HOUR_S
    return {
        "gpu_hours_provisioned": provisioned,
        "gpu_hours_active": float(active["gpu_h"].sum()),
        "gpu_hours_tail": float(tail["gpu_h"].sum()),
        "gpu_hours_donated": float(within(donated, start_s)["gpu_h"].sum()),
        "cost_usd": cost,
        # the tail is this replay's end, not a month's
        "usd_per_month": None if cost is None or hours <= 0 else (cost - tail_usd) / hours * MONTH_H,
        "wasted_startup_hours": float(spans.filter(pl.col("state") == "starting")["gpu_h"].sum()),
        "utilisation": float(outcome.busy_s.sum()) / serving_s if serving_s else None,
        "scale_actions": int((outcome.actions_s >= start_s).sum()),
    }


def mean_gpus(outcome: Outcome, fleet: Fleet, start_s: float, end_s: float) -> dict[tuple[str, str, str], float]:
    """GPUs provisioned between two times, their mean, by (service, region, lane) of every pool."""
    spans = _clipped(outcome.spans.filter(pl.col("state") != "donated"), start_s, end_s)
    gpus = outcome.replicas["gpus"].gather(spans["record"])
    held = spans.select("pool", area=pl.col("length_s") * gpus).group_by("pool").agg(pl.col("area").sum())
    areas = dict(held.iter_rows())
    return {
        (pool.service, pool.region, pool.lane): areas.get(number, 0.0) / (end_s - start_s)
        for number, pool in enumerate(fleet.pools)
    }


def mean_counts(spans: pl.DataFrame, edges_s: np.ndarray) -> np.ndarray:
    """Mean number of spans present in each interval between edges, f8[len(edges) - 1]: exact, not sampled."""
    if spans.height == 0:
        return np.zeros(len(edges_s) - 1)
    times = np.concatenate([spans["from_s"].to_numpy(), spans["to_s"].to_numpy()])
    steps = np.concatenate([np.ones(spans.height), -np.ones(spans.height)])
    order = np.argsort(times, kind="stable")
    times, counts = times[order], np.cumsum(steps[order])
    area = np.concatenate([[0.0], np.cumsum(counts[:-1] * np.diff(times))])
    mean: np.ndarray = np.diff(np.interp(edges_s, times, area)) / np.diff(edges_s)
    return np.round(mean, 9)  # three replicas are 3, not 3.000000000000012


def within(rows: pl.DataFrame, edges_s: np.ndarray) -> pl.Series:
    """Which requests arrived within the windows: all but turns of closed sessions that were sent before or after."""
    return rows["arrival_s"].is_between(edges_s[0], edges_s[-1])


def timeline(
    rows: pl.DataFrame, outcome: Outcome, fleet: Fleet, edges_s: np.ndarray, rates: Mapping[tuple[str, str], float]
) -> pl.DataFrame:
    """start_s, length_s, service, region, lane, needed, active, starting, provisioned, arrived, attained, by pool.

    Requests count where they arrived in the replay, those that did so outside the windows (`within`) in none.

    needed: ceil(arrival rate / μ), the perfect-system estimate, with rates[service, lane] in requests/s; active,
    starting, provisioned: mean replicas. A request counts in the pool where it ended, and in the prefill pool it
    came from.
    """
    lengths = np.diff(edges_s)
    window = np.searchsorted(edges_s, rows["arrival_s"].to_numpy(), side="right") - 1
    window = np.minimum(window, len(lengths) - 1)  # the last arrival lies on the last edge
    sent = rows.with_columns(window=pl.Series(window)).filter(within(rows, edges_s) & (rows["status"] != "not_sent"))
    by_pool = sent.select("pool", "attained", "window")
    if "prefill_pool" in rows.columns:
        came = sent.filter(pl.col("prefill_pool").is_not_null())
        by_pool = pl.concat([by_pool, came.select(pl.col("prefill_pool").alias("pool"), "attained", "window")])
    counts = by_pool.group_by("pool", "window").agg(arrived=pl.len(), attained=pl.col("attained").sum())
    parts = []
    for number, pool in enumerate(fleet.pools):
        spans = outcome.spans.filter((pl.col("pool") == number) & (pl.col("state") != "donated"))
        mine = counts.filter(pl.col("pool") == str(pool))
        arrived, attained = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
        arrived[mine["window"].to_numpy()] = mine["arrived"].to_numpy()
        attained[mine["window"].to_numpy()] = mine["attained"].to_numpy()
        parts.append(
            pl.DataFrame(
                {
                    "start_s": edges_s[:-1],
                    "length_s": lengths,
                    "service": [pool.service] * len(lengths),
                    "region": [pool.region] * len(lengths),
                    "lane": [pool.lane] * len(lengths),
                    "needed": np.ceil(arrived / lengths / rates[pool.service, pool.lane] - 1e-9),
                    "active": mean_counts(spans.filter(pl.col("state") == "active"), edges_s),
                    "starting": mean_counts(spans.filter(pl.col("state") == "starting"), edges_s),
                    "provisioned": mean_counts(spans, edges_s),
                    "arrived": arrived,
                    "attained": attained,
                }
            )
        )
    return pl.concat(parts)

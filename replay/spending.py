"""Scores of a replay by its replicas: GPU-hours, cost, and how many there were over time (docs/metrics.md)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.windows import HOUR_S

from .engine import Outcome
from .fleet import Fleet

MONTH_H = 730.0  # hours a month: 365 · 24 / 12


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
                    "needed": np.ceil(arrived / lengths / rates[pool.service, pool.lane] - 1e-9) + 0.0,  # no -0
                    "active": mean_counts(spans.filter(pl.col("state") == "active"), edges_s),
                    "starting": mean_counts(spans.filter(pl.col("state") == "starting"), edges_s),
                    "provisioned": mean_counts(spans, edges_s),
                    "arrived": arrived,
                    "attained": attained,
                }
            )
        )
    return pl.concat(parts)

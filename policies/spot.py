"""Spot GPUs beside on-demand ones: what each policy's month costs if what comes and goes is spot, at every price of it.

Interruptions are not in the price: nobody's rates of them are known here. N+1 (spare.py) replays the worst of them.
"""

from typing import Any

import polars as pl

from lmaas.analysis.windows import HOUR_S
from lmaas.replay.fleet import Fleet
from lmaas.replay.spending import MONTH_H

from .commitment import RATIOS, adds_up
from .runner import Run
from .worst import POOL, pool_of

SPOT = {
    "policy": pl.String,
    "ratio": pl.Float64,  # price of a spot GPU-hour over the on-demand price
    "base_gpus": pl.Int64,  # provisioned in every window, pool by pool: on demand
    "spot_gpus": pl.Float64,  # the most beyond them at once, mean of a window
    "spot_share": pl.Float64,  # of the policy's GPU-hours that are beyond them
    "base_usd_per_month": pl.Float64,  # of the base, on demand
    "usd_per_month": pl.Float64,  # of all
    "saving": pl.Float64,  # of the on-demand cost
}


def spots(runs: list[Run], fleet: Fleet) -> pl.DataFrame:
    """Columns SPOT, of each run at every ratio: the steady base on demand, the rest spot.

    The base of a pool is what it has in the window in which it has least. Nothing where a price is missing, nor of
    policies that mix shapes of other sizes in a pool.
    """
    if any(pool.profile.usd_per_gpu_hour is None for pool in fleet.pools):
        return pl.DataFrame(schema=SPOT)
    rows = [row for run in runs for row in _of_run(run, fleet)]
    return pl.DataFrame(rows, schema=SPOT)


def base_replicas() -> pl.Expr:
    """Replicas that a pool of a policy has in every window of its timeline: means of windows, whole ones."""
    return (pl.col("provisioned").min() + 1e-9).floor().over(POOL)


def _of_run(run: Run, fleet: Fleet) -> list[dict[str, Any]]:
    keys = run.timeline.select(POOL).unique(maintain_order=True).rows(named=True)
    profiles = [pool_of(key, fleet).profile for key in keys]
    facts = [
        {**key, "gpus": p.gpus_per_replica, "usd": p.usd_per_gpu_hour} for key, p in zip(keys, profiles, strict=True)
    ]
    held = run.timeline.with_columns(base=base_replicas()).join(pl.DataFrame(facts), on=POOL, maintain_order="left")
    gpus, base, hours = (
        pl.col("provisioned") * pl.col("gpus"),
        pl.col("base") * pl.col("gpus"),
        pl.col("length_s") / HOUR_S,
    )
    by_window = held.group_by("start_s", maintain_order=True).agg(
        pl.col("length_s").first() / HOUR_S, base_gpus=base.sum(), spot_gpus=(gpus - base).sum(),
        hours=(gpus * hours).sum(), base_hours=(base * hours).sum(),
        usd=(gpus * hours * pl.col("usd")).sum(), base_usd=(base * hours * pl.col("usd")).sum(),
    )  # fmt: skip
    sums = by_window.sum().row(0, named=True)
    if not adds_up(run, sums["hours"]):
        return []
    month = MONTH_H / sums["length_s"]
    alike = {
        "policy": run.name,
        "base_gpus": int(by_window["base_gpus"][0]),
        "spot_gpus": by_window["spot_gpus"].max(),
        "spot_share": 1 - sums["base_hours"] / sums["hours"] if sums["hours"] else 0.0,
        "base_usd_per_month": sums["base_usd"] * month,
    }
    found = []
    for ratio in RATIOS:
        cost = sums["base_usd"] + ratio * (sums["usd"] - sums["base_usd"])
        saving = 1 - cost / sums["usd"] if sums["usd"] else 0.0
        found.append({**alike, "ratio": ratio, "usd_per_month": cost * month, "saving": saving})
    return found

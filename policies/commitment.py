"""Reserved GPUs beside on-demand ones: what each policy costs a month, at every price of a reservation."""

from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.windows import HOUR_S
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.spending import MONTH_H

from .choice import ALIKE, simplest_first
from .runner import Run

RATIOS = tuple(k / 20 for k in range(4, 21))  # price of a reserved GPU-hour over the on-demand price
COMMITMENT = {
    "policy": pl.String,
    "ratio": pl.Float64,
    "reserved_gpus": pl.Int64,  # for which reserving is cheapest, of all types and regions together
    "reserved_share": pl.Float64,  # of the policy's GPU-hours that run on them
    "usd_per_month": pl.Float64,  # with them, the rest on demand
    "saving": pl.Float64,  # of the on-demand cost
}
NEAR = 0.005  # GPU-hours by window must come to those of the replay to within this


def commitments(runs: list[Run], fleet: Fleet) -> tuple[pl.DataFrame, list[str]]:
    """(COMMITMENT of each run, at every ratio, what could not be told).

    A reserved GPU is paid for all the time, used or not, and belongs to one type in one region; the n-th is worth
    reserving where it runs for a larger share of the time than `ratio`. Use is the mean of each window. Nothing where
    a price is missing, nor of policies that mix shapes of other sizes in a pool.
    """
    if any(pool.profile.usd_per_gpu_hour is None for pool in fleet.pools):
        return pl.DataFrame(schema=COMMITMENT), []
    tables = {run.name: _of_run(run, fleet) for run in runs}
    left_out = [name for name, made in tables.items() if made is None]
    why = [f"reserved GPUs: not told of {', '.join(left_out)}, whose pools mix shapes"] if left_out else []
    told = [made for made in tables.values() if made is not None]
    return pl.concat(told) if told else pl.DataFrame(schema=COMMITMENT), why


def _of_run(run: Run, fleet: Fleet) -> pl.DataFrame | None:
    used, length_s, price = usage(run.timeline, fleet)
    if not adds_up(run, float((used * length_s[:, None]).sum() / HOUR_S)):
        return None
    rows: list[dict[str, Any]] = []
    demanded = float((used * price).T.dot(length_s).sum())
    a_month = MONTH_H / (length_s.sum() / HOUR_S) / HOUR_S
    for ratio in RATIOS:
        n = reserve(used, length_s, ratio)
        covered = np.minimum(used, n)
        cost = float((ratio * n * price).sum() * length_s.sum() + ((used - covered) * price).T.dot(length_s).sum())
        share = float((covered * length_s[:, None]).sum() / max((used * length_s[:, None]).sum(), 1e-12))
        saving = 1 - cost / demanded if demanded else 0.0
        rows.append(
            {
                "policy": run.name, "ratio": ratio, "reserved_gpus": int(n.sum()), "reserved_share": share,
                "usd_per_month": cost * a_month, "saving": saving,
            }
        )  # fmt: skip
    return pl.DataFrame(rows, schema=COMMITMENT)


def adds_up(run: Run, hours: float) -> bool:
    """Whether GPU-hours by window are those of the replay; where pools mix shapes they are not."""
    replayed = run.scores["gpu_hours_provisioned"] - run.scores["gpu_hours_tail"]
    return bool(abs(hours - replayed) <= NEAR * replayed + 1e-9)


def usage(timeline: pl.DataFrame, fleet: Fleet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(GPUs in use f8[windows, kinds], seconds of each window, $/GPU-hour of each kind).

    A kind is a GPU type in a region at a price: what a reservation is made for.
    """
    pools = {(pool.service, pool.region, pool.lane): pool for pool in fleet.pools}
    home = {(pool.service, pool.region): pool for pool in fleet.pools}  # of a lane that a policy made: its silos
    kinds = list(dict.fromkeys(_kind(pool) for pool in fleet.pools))
    starts = timeline.select("start_s", "length_s").unique("start_s").sort("start_s")
    row = {start: k for k, start in enumerate(starts["start_s"].to_list())}
    used = np.zeros((starts.height, len(kinds)))
    rows = timeline.select("start_s", "service", "region", "lane", "provisioned").iter_rows()
    for start, service, region, lane, n in rows:
        pool = pools.get((service, region, lane), home[service, region])
        used[row[start], kinds.index(_kind(pool))] += n * pool.profile.gpus_per_replica
    return used, starts["length_s"].to_numpy(), np.array([float(price or 0.0) for _, _, price in kinds])


def _kind(pool: Pool) -> tuple[str | None, str, float | None]:
    return pool.profile.gpu, pool.region, pool.profile.usd_per_gpu_hour


def reserve(used: np.ndarray, length_s: np.ndarray, ratio: float) -> np.ndarray:
    """GPUs of each kind that are cheapest to reserve, i8[kinds]: those in use for more of the time than `ratio`."""
    found = np.zeros(used.shape[1], np.int64)
    for k in range(used.shape[1]):
        order = np.argsort(-used[:, k], kind="stable")
        # windows in which the n-th GPU is in use, wholly or in part: its mean use over time, n = 1, 2, ...
        top = int(np.ceil(used[order[0], k] - 1e-9)) if len(order) else 0
        n = np.arange(1, top + 1)
        shares = np.array([np.average(np.clip(used[:, k] - (i - 1), 0.0, 1.0), weights=length_s) for i in n])
        found[k] = int((shares > ratio + 1e-12).sum())
    return found


def break_even(table: pl.DataFrame, scores: pl.DataFrame, attain: float) -> list[tuple[float, float, str]]:
    """(from ratio, to ratio, policy): which attaining policy without foresight is cheapest over which prices."""
    met = scores.filter(~pl.col("foresight") & (pl.col("slo_attainment") >= attain))
    fair = simplest_first(met)["policy"].to_list()  # of those that cost the same the first
    order = pl.col("policy").cast(pl.Enum(fair))
    of = table.filter(pl.col("policy").is_in(fair))
    found: list[tuple[float, float, str]] = []
    for (ratio,), rows in of.group_by("ratio", maintain_order=True):
        best = str(rows.sort(pl.col("usd_per_month").round_sig_figs(ALIKE), order)["policy"][0])
        r = float(ratio)  # type: ignore[arg-type]
        if found and found[-1][2] == best:
            found[-1] = (found[-1][0], r, best)
        else:
            found.append((r, r, best))
    return found

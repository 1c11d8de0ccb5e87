"""The ten windows in which a policy missed most, and why: by rule, from what the replay recorded.

A rule names what is plain to see; that the misses would be gone without it is not shown by it.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.replay.fleet import Fleet, Pool

from .matched import meets
from .prepare import Prepared
from .roomy import Roomy
from .runner import Run

F8 = npt.NDArray[np.float64]

MOST = 10  # windows a policy
SLACK = 0.5  # replicas that may be missing: counts are means over a window
FULL = 0.8  # mean share of the KV cache in use
POOL = ("service", "region", "lane")
CAUSES = {
    "out of reach": "over half of the missed requests miss their limits even alone on an idle replica",
    "forecast miss": "the policy was told of under four fifths of the tokens that came",
    "cold start": "fewer replicas were active than the load needed, and enough with those that were starting",
    "demand spike": "1.3 times the requests of the three windows before; or, where nothing else fits, twice the "
    "window's mean in its busiest tenth",
    "too few replicas": "fewer were active than the load needed, and not for want of KV: sized, bounded or scaled in",
    "backlog": "enough replicas, and more requests than these still waited from the window before, at over half of "
    "those that were active then",
    "imbalance": "enough replicas, under 80 % of the KV cache in use, and so many waited at half of the replicas or "
    "fewer, or the half of the requests on those that did best has under a tenth of the misses",
    "KV saturation": "80 % of the KV cache in use or 5 % of the requests preempted, and enough replicas, or enough if "
    "no cache were ever full (μ by a load test with such caches)",
    "not attributed": "enough replicas by mean rates, and none of the above",
}
WORST: dict[str, Any] = {
    "policy": pl.String,
    "start_s": pl.Float64,
    "length_s": pl.Float64,
    "service": pl.String,
    "region": pl.String,
    "lane": pl.String,
    "arrived": pl.Int64,
    "missed": pl.Int64,  # of those that arrived in this window and pool
    "slo_attainment": pl.Float64,
    "queue": pl.Float64,  # requests waiting, mean: their waiting time over the window's length (Little)
    "needed": pl.Float64,
    "active": pl.Float64,  # mean replicas
    "starting": pl.Float64,
    "forecast_off": pl.Float64,  # total tokens forecast over those that came, minus 1; null: no forecast
    "rise": pl.Float64,  # requests a second over the mean of the three windows before; null: none did
    "kv_use": pl.Float64,  # share of the active replicas' KV cache, mean: tokens of requests while they were served
    "preempted": pl.Float64,  # share of the requests
    "lopsided": pl.Float64,  # share of the misses on the worse replicas that served half of the requests
    "cause": pl.String,  # a key of CAUSES
    "how": pl.String,  # by rule
}


def worst_windows(run: Run, ready: Prepared, roomy: Roomy | None = None) -> pl.DataFrame:
    """Columns WORST, most misses first; none where nothing was missed or no requests were replayed.

    roomy: load tests without KV limits that several policies share.
    """
    if not run.rows.width:
        return pl.DataFrame(schema=WORST)
    roomy = roomy or Roomy(ready)
    missed = run.timeline.with_columns(missed=pl.col("arrived") - pl.col("attained")).sort(*POOL, "start_s")
    rate = pl.col("arrived") / pl.col("length_s")
    before = rate.rolling_mean(3, min_samples=1).shift(1).over(POOL)
    seen = missed.with_columns(rise=rate / pl.when(before > 0).then(before))
    worst = seen.filter(pl.col("missed") > 0).sort("missed", "start_s", descending=[True, False]).head(MOST)
    pools: dict[str, _Requests] = {}
    active = _Active(run)
    rows = []
    for window in worst.iter_rows(named=True):
        pool = pool_of(window, ready.fleet)
        name = "/".join(str(window[key]) for key in POOL)
        if name not in pools:
            mine, staying = (of.filter(pl.col("pool") == name) if of.width else of for of in (run.rows, run.staying))
            pools[name] = _Requests(mine, staying)
        found = window | pools[name].features(window, pool, active.at(window))
        found["forecast_off"] = _forecast_off(run, window)
        if short(found) and pressed(found):
            load = window["arrived"] / window["length_s"]
            found["needed_roomy"] = roomy.needed(window["service"], pool.lane, load)
        rows.append({"policy": run.name, **found, "cause": cause(found), "how": "by rule"})
    return pl.DataFrame([{key: row.get(key) for key in WORST} for row in rows], schema=WORST, orient="row")


def short(seen: Mapping[str, Any]) -> bool:
    """Whether fewer replicas were active than the load needed."""
    return bool(seen["active"] < seen["needed"] - SLACK)


def pressed(seen: Mapping[str, Any]) -> bool:
    """Whether the KV caches were close to full."""
    return bool(seen["preempted"] >= 0.05 or seen["kv_use"] >= FULL)


def cause(seen: Mapping[str, Any]) -> str:
    """The first rule of CAUSES that holds; needed_roomy: replicas needed if KV had no limit, where it was asked."""
    few = short(seen)
    by_cache = few and seen.get("needed_roomy") is not None and seen["active"] >= seen["needed_roomy"] - SLACK
    waited = seen["carried"] > max(1.0, seen["active"]) and not few
    apart = (waited and seen["carried_at"] <= 0.5) or (seen["lopsided"] is not None and seen["lopsided"] > 0.9)
    rules = {
        "out of reach": seen["out_of_reach"] > 0.5,
        "forecast miss": seen["forecast_off"] is not None and seen["forecast_off"] < -0.2,
        "cold start": few and seen["active"] + seen["starting"] >= seen["needed"] - SLACK,
        "demand spike": seen["rise"] is not None and seen["rise"] >= 1.3,
        "too few replicas": few and not by_cache,
        "backlog": waited and seen["carried_at"] > 0.5,
        # a full cache here and room elsewhere is the router's doing
        "imbalance": apart and not few and seen["kv_use"] < FULL,
        "KV saturation": pressed(seen),
    }
    first = next((name for name, holds in rules.items() if holds), None)
    return first or ("demand spike" if seen["burst"] >= 2 else "not attributed")


class _Requests:
    """The requests of one pool as arrays: those that are scored first, then those that only occupy (Run.staying)."""

    def __init__(self, scored: pl.DataFrame, staying: pl.DataFrame | None = None) -> None:
        self.scored = scored
        rows = scored if staying is None or not staying.height else pl.concat([scored, staying], how="diagonal")
        self.arrival_s = rows["arrival_s"].to_numpy()
        before = rows.select(pl.col("hold_s").fill_null(0.0) + pl.col("network_s").fill_null(0.0) / 2).to_series()
        self.received_s = self.arrival_s + before.to_numpy()
        # incomplete ones waited to the end; when others that did not complete went is not told: they count for none
        stayed = rows["status"].is_in(["ok", "incomplete"]).to_numpy()
        waited = np.where(stayed, rows["queue_s"].fill_null(np.inf).to_numpy(), 0.0)
        self.admitted_s = self.received_s + waited
        done_s = self.arrival_s + rows["e2e_s"].fill_null(np.inf).to_numpy()
        self.done_s = np.where(stayed, done_s, self.received_s)
        self.replica = rows["replica"]
        # a request grows from its prompt to its whole length while it is served
        self.tokens = rows["input_tokens"].to_numpy() + rows["output_tokens"].to_numpy() / 2

    def features(self, window: Mapping[str, Any], pool: Pool, active: Collection[int] = ()) -> dict[str, Any]:
        """What is seen of a window: the columns of WORST, and carried, carried_at, burst, out_of_reach.

        active: the replicas as it began; carried_at: the share of them at which carried requests waited.
        """
        start, end = window["start_s"], window["start_s"] + window["length_s"]
        waiting = _overlap(self.received_s, self.admitted_s, start, end)
        held = _overlap(self.admitted_s, self.done_s, start, end)
        capacity = max(window["active"], 1e-9) * pool.profile.kv_tokens * window["length_s"]
        arrival_s = self.arrival_s[: self.scored.height]
        here = (arrival_s >= start) & (arrival_s < end)
        mine = self.scored.filter(pl.Series(here))
        tenths = np.bincount(np.minimum(10 * (arrival_s[here] - start) / (end - start), 9).astype(int), minlength=10)
        carried = (self.received_s < start) & (self.admitted_s > start)
        waited_at = set(self.replica.filter(pl.Series(carried)))
        missed = mine.filter(~pl.col("attained"))
        alone = meets(missed, pool.profile) if missed.height else np.ones(0, bool)
        return {
            "slo_attainment": 1 - window["missed"] / window["arrived"],
            "queue": float(waiting.sum()) / window["length_s"],
            "kv_use": min(1.0, float((held * self.tokens).sum()) / capacity),
            "preempted": int((mine["preemptions"] > 0).sum()) / max(mine.height, 1),
            "lopsided": _lopsided(mine),
            "carried": int(carried.sum()),
            "carried_at": len(waited_at & set(active)) / len(active) if active else 1.0,
            "burst": float(tenths.max() / max(tenths.mean(), 1e-9)) if len(mine) >= 50 else 0.0,
            "out_of_reach": float((~alone).mean()) if len(alone) else 0.0,
        }


class _Active:
    """Which replicas of a pool were active at a time; none where that is not known."""

    def __init__(self, run: Run) -> None:
        self.spans = None if run.spans is None else run.spans.filter(pl.col("state") == "active")
        # a timeline's pools are in the order of their numbers
        self.numbers = {
            key: number for number, key in enumerate(run.timeline.select(POOL).unique(maintain_order=True).rows())
        }

    def at(self, window: Mapping[str, Any]) -> Collection[int]:
        """As a window of a timeline began."""
        if self.spans is None:
            return ()
        here = pl.col("pool") == self.numbers[tuple(window[key] for key in POOL)]
        then = (pl.col("from_s") <= window["start_s"]) & (pl.col("to_s") > window["start_s"])
        return self.spans.filter(here & then)["replica"].to_list()


def _overlap(from_s: F8, to_s: F8, start: float, end: float) -> F8:
    """Seconds of each interval that lie within the window."""
    return np.asarray(np.clip(np.minimum(to_s, end) - np.maximum(from_s, start), 0.0, None))


def _lopsided(rows: pl.DataFrame) -> float | None:
    """Share of the misses on the worse replicas that served half of the requests; 0.5 is even, None of one replica."""
    by = rows.filter(pl.col("replica").is_not_null()).group_by("replica")
    served = by.agg(n=pl.len(), missed=(~pl.col("attained")).sum()).sort(pl.col("missed") / pl.col("n"), "replica")
    if served.height < 2 or not served["missed"].sum():
        return None
    n, missed = (np.append(0, served[name].to_numpy().cumsum()) for name in ("n", "missed"))
    return float(1 - np.interp(n[-1] / 2, n, missed) / missed[-1])


def _forecast_off(run: Run, window: Mapping[str, Any]) -> float | None:
    """Of the pool's own origin where it has one, else of its service."""
    if run.forecasts.is_empty():
        return None
    of = run.forecasts.filter(
        pl.col("metric") == "total_tokens",
        pl.col("service") == window["service"],
        (pl.col("start_s") - window["start_s"]).abs() < 1e-6,
    )
    own = of.filter(pl.col("origin") == window["region"])
    sums = (own if own.height else of).select("actual", "forecast").sum().row(0)
    return None if not sums[0] else float(sums[1] / sums[0] - 1)


def pool_of(window: Mapping[str, Any], fleet: Fleet) -> Pool:
    """By service and region; of silos the pool they are parts of."""
    named = [p for p in fleet.pools if (p.service, p.region) == (window["service"], window["region"])]
    return next((p for p in named if p.lane == window["lane"]), named[0])

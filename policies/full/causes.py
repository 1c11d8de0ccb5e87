"""Why requests were missed, by replays with one thing changed: the cause is the change that mends most of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from ..prepare import Prepared
from ..registry import Named
from ..runner import Run
from ..whatif import script_of
from ..worst import WORST
from .counterfactual import Change, Window
from .crew import Crew

ENOUGH = 0.5  # of a window's misses: what mends less is no cause of them
BEFORE = 3  # windows that a levelled one is levelled to
CHANGES = {  # what is changed -> the cause where that mends most
    "true demand": "forecast miss",
    "instant start": "cold start",
    "unlimited KV": "KV saturation",
    "balanced router": "imbalance",
    "levelled demand": "demand spike",
    "doubled fleet": "too few replicas",
}
OWN = ("true demand", "instant start", "unlimited KV", "balanced router")  # asked before demand and size are blamed
DONE: dict[str, Any] = {
    "policy": pl.String,
    "start_s": pl.Float64,
    "length_s": pl.Float64,
    "service": pl.String,  # null: the worst hour, of all pools
    "region": pl.String,
    "lane": pl.String,
    "change": pl.String,  # a key of CHANGES
    "missed": pl.Int64,  # in the policy's own replay
    "left": pl.Float64,  # of the same requests, with the change
    "mended": pl.Float64,  # 1 - left / missed; below 0: more were missed
    "why": pl.String,  # why it could not be replayed; null: it was
}
FOUND = {"mended": pl.Float64, "change": pl.String, "rule": pl.String}  # columns that `worst` gets


def changes_of(named: Named, run: Run, worst: pl.DataFrame, ready: Prepared) -> list[Change]:
    """Every change of a policy that missed any; worst: the evaluation's, of all policies."""
    mine = worst.filter(pl.col("policy") == named.name)
    if mine.is_empty() or run.spans is None:
        return []
    windows, pools = tuple(_windows(run, mine, ready)), len(ready.fleet.pools)
    own = set(run.spans["pool"].to_list()) <= set(range(pools))  # else they are silos
    script = script_of(run.spans, pools, 2) if own else ()
    return [Change(named, change, windows, script) for change in CHANGES]


def _windows(run: Run, worst: pl.DataFrame, ready: Prepared) -> list[Window]:
    """The worst windows, then the worst hour."""
    arrival_s, pool, missed = run.rows["arrival_s"].to_numpy(), run.rows["pool"], ~run.rows["attained"].to_numpy()
    came = run.rows["prefill_pool"] if "prefill_pool" in run.rows.columns else pool
    found = []
    for row in worst.iter_rows(named=True):
        name = "/".join((row["service"], row["region"], row["lane"]))
        here = ((pool == name) | (came == name).fill_null(False)).fill_null(False).to_numpy()
        last = row["start_s"] + row["length_s"] >= ready.horizon_s - 1e-9
        until = arrival_s <= ready.horizon_s if last else arrival_s < row["start_s"] + row["length_s"]
        who = np.flatnonzero(here & (arrival_s >= row["start_s"]) & until)
        found.append(Window(row, who, int(missed[who].sum()), _level(run, row)))
    start_s = run.scores.get("worst_hour_start_s")
    if start_s is not None:
        who = np.flatnonzero((arrival_s >= start_s) & (arrival_s < start_s + 3600.0))
        hour = {"start_s": start_s, "length_s": 3600.0, "service": None, "region": None, "lane": None}
        found.append(Window(hour, who, int(missed[who].sum()), float(len(who))))
    return [window for window in found if window.missed]


def _level(run: Run, row: Mapping[str, Any]) -> float:
    """Requests in so much time at the mean rate of the windows before, of the whole part where none came before."""
    same = [pl.col(name) == row[name] for name in ("service", "region", "lane")]
    times = run.timeline.filter(*same).sort("start_s")
    before = times.filter(pl.col("start_s") < row["start_s"]).tail(BEFORE)
    sums = (before if before["arrived"].sum() else times).select("arrived", "length_s").sum().row(0)
    return float(sums[0] / sums[1] * row["length_s"])


def counterfactuals(tasks: Sequence[Change], crew: Crew, say: Callable[[float], None]) -> pl.DataFrame:
    """Columns DONE: every change of every window and policy."""
    rows = []
    for task, found in zip(tasks, crew.each(tasks, say), strict=True):
        for k, window in enumerate(task.windows):
            left = found["left"][k] if "left" in found else None
            row = {name: window.row[name] for name in ("start_s", "length_s", "service", "region", "lane")}
            said = {"policy": task.named.name, "change": task.change, "missed": window.missed, "why": found.get("why")}
            mended = None if left is None else 1 - left / window.missed
            rows.append(row | said | {"left": left, "mended": mended})
    return pl.DataFrame([[row[name] for name in DONE] for row in rows], schema=DONE, orient="row")


def attributed(worst: pl.DataFrame, done: pl.DataFrame) -> pl.DataFrame:
    """`worst` with causes by replay where there were any, and FOUND: what mended how much, and the rule's word."""
    keys = ("policy", "start_s", "service", "region", "lane")
    groups = dict(done.group_by(keys))
    rows = []
    for row in worst.iter_rows(named=True):
        group = groups.get(tuple(row[name] for name in keys))
        found = {"mended": None, "change": None} if group is None else cause(row["cause"], _mended(group))
        how = row["how"] if group is None else "by replay"
        rows.append(
            row | {"how": how, **found, "rule": row["cause"]} | ({} if group is None else {"cause": found["cause"]})
        )
    schema = {**WORST, **FOUND}
    return pl.DataFrame([[row[name] for name in schema] for row in rows], schema=schema, orient="row")


def hours(done: pl.DataFrame) -> pl.DataFrame:
    """policy, start_s, missed, cause, change, mended: of every policy's worst hour."""
    rows = []
    for (policy, start_s), group in done.filter(pl.col("service").is_null()).group_by(
        "policy", "start_s", maintain_order=True
    ):
        rows.append({"policy": policy, "start_s": start_s, "missed": group["missed"][0], **cause("", _mended(group))})
    schema = {"policy": pl.String, "start_s": pl.Float64, "missed": pl.Int64, "cause": pl.String, "change": pl.String,
              "mended": pl.Float64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _mended(group: pl.DataFrame) -> dict[str, float]:
    return dict(group.drop_nulls("mended").select("change", "mended").iter_rows())


def cause(rule: str, mended: Mapping[str, float]) -> dict[str, Any]:
    """cause, change and mended of one window: of the policy's own doing what mends most, if it mends ENOUGH.

    Else what no replay mends (by rule), else the demand's rise, else the fleet's size, in this order: a larger fleet
    would mend nearly everything, and so would a demand that never rises.
    """
    own = {change: share for change, share in mended.items() if change in OWN}
    order = [max(own, key=lambda change: own[change])] if own else []
    if not order or own[order[0]] < ENOUGH:
        if rule == "out of reach":
            return {"cause": rule, "change": None, "mended": None}
        order = [change for change in ("levelled demand", "doubled fleet") if change in mended]
    for change in order:
        if mended[change] >= ENOUGH:
            return {"cause": CHANGES[change], "change": change, "mended": mended[change]}
    return {"cause": "not attributed", "change": None, "mended": max(mended.values(), default=None)}

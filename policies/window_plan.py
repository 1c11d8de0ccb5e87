"""Plans at window fidelity: every setting of planned and static policies over all windows of a pool, in one pass."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from lmaas.replay.fleet import Fleet, Pool

from .guard import checked_plan
from .hysteresis import Steady
from .planning import WHOLE, Planned, PlanState, latest_issued, needs, placed
from .preserve import PreServe
from .window_response import Response
from .window_table import Table

SUMS = (
    "requests", "attained", "hours", "active_hours", "tail_hours", "startup_hours", "served_s", "busy_s", "backlog",
    "actions", "at_risk",
)  # fmt: skip


def needed(forecasts: pl.DataFrame, state: PlanState) -> pl.DataFrame:
    """start_s, service, region, replicas: what each window needs, before headroom and rounding (planning.size)."""
    return needs(placed(latest_issued(forecasts, state.lead_s), state.fleet), state.mu).drop("lane")


@dataclass(frozen=True)
class Grid:
    """The windows of the evaluated part: starts and lengths, s; the last one ends at end_s."""

    start_s: np.ndarray
    length_s: np.ndarray
    window_s: float


@dataclass(frozen=True)
class Plans:
    """What settings want: `wants` (pool, window, replicas f8, known) times the setting's `factor`, rounded up.

    known: whether the window has a plan at all; where it has none the pool keeps what it had.
    """

    settings: pl.DataFrame  # setting, factor
    wants: pl.DataFrame


def plan_settings(
    policies: list[Any], states: list[Any], forecasts: pl.DataFrame, fleet: Fleet, grid: Grid
) -> list[Plans]:
    """Plans of policies that plan on the same forecasts and lead.

    Policies that keep Planned's rule differ by headroom alone: one table for all. Others are asked by `plan_all`.
    """
    plain = [k for k, p in enumerate(policies) if by_headroom_alone(p)]
    plans = []
    if plain:
        state = states[plain[0]]
        settings = pl.DataFrame({"setting": plain, "factor": [1.0 + policies[k].headroom for k in plain]})
        plans.append(Plans(settings, _complete(needed(forecasts, state), fleet, grid)))
    for k in sorted(set(range(len(policies))) - set(plain)):
        wants = checked_plan(policies[k].plan_all(forecasts, states[k]))
        plans.append(Plans(pl.DataFrame({"setting": [k], "factor": [1.0]}), _complete(wants, fleet, grid)))
    return plans


def by_headroom_alone(policy: Any) -> bool:
    """Whether its plan is Planned's: that of any other such policy but for the headroom."""
    rule = type(policy).plan_all
    if rule is Planned.plan_all:
        return True
    return rule in (Steady.plan_all, PreServe.plan_all) and not policy.hysteresis and getattr(policy, "tier1", True)


def _complete(wants: pl.DataFrame, fleet: Fleet, grid: Grid) -> pl.DataFrame:
    """pool, window, replicas (f8), known of every pool and window, sorted."""
    keys = [(service, region, number) for (service, region), number in fleet.index().items()]
    pools = pl.DataFrame(keys, schema=["service", "region", "pool"], orient="row")
    # by number: starts computed in two places differ by rounding
    window = ((pl.col("start_s") - float(grid.start_s[0])) / grid.window_s).round().cast(pl.Int64)
    rows = wants.with_columns(window=window, known=pl.lit(True))
    every = pools.select("pool").join(pl.DataFrame({"window": np.arange(len(grid.start_s))}), how="cross")
    mine = rows.join(pools, on=["service", "region"]).select("pool", "window", pl.col("replicas").cast(pl.Float64))
    return (
        every.join(mine, on=["pool", "window"], how="left")
        .join(rows.select("window", "known").unique(), on="window", how="left")
        .sort("pool", "window")
    )


def levels(plans: list[Plans], number: int, pool: Pool, initial: Sequence[int | None], windows: int) -> pl.DataFrame:
    """setting, window, replicas, before of one pool, sorted: the plan within the pool's bounds.

    A pool without a row in a window that has others gets its minimum. initial: of the pool's own kind, by setting, to
    which the mixed ones add; None: the first window's.
    """
    there = [None if n is None else n + pool.beside for n in initial]
    begin = pl.LazyFrame({"setting": range(len(there)), "before": there}, {"setting": pl.Int64, "before": pl.Int64})
    if not plans:
        every = begin.join(pl.LazyFrame({"window": np.arange(windows)}), how="cross")
        return every.select("setting", "window", pl.col("before").alias("replicas"), "before").collect()
    wanted = (pl.col("replicas") * pl.col("factor") - 1e-9).ceil().cast(pl.Int64).fill_null(0)  # as in planning.size
    parts = [
        plan.settings.lazy()
        .join(plan.wants.lazy().filter(pl.col("pool") == number), how="cross")
        .select("setting", "window", replicas=pl.when("known").then(wanted.clip(pool.minimum, pool.maximum)))
        for plan in plans
    ]
    return (
        pl.concat(parts)
        .join(begin, on="setting", how="left")
        .sort("setting", "window")
        .with_columns(pl.col("replicas").forward_fill().over("setting"))
        .with_columns(before=pl.col("before").fill_null(pl.col("replicas").first().over("setting")))
        .with_columns(pl.col("before").fill_null(pool.minimum))
        .with_columns(pl.col("replicas").fill_null(pl.col("before")))
        .select("setting", "window", "replicas", "before")
        .collect()
    )


def score(
    plan: pl.DataFrame, pool: Pool, table: Table, response: Response, grid: Grid, *, lead_s: float, instant: bool
) -> pl.DataFrame:
    """One row a setting and window of one pool, from `levels` and the pool's table: replicas, GPU-hours, requests.

    Replicas a window adds are asked for lead_s before it and serve `late_s` after its start (the mean of what a
    start-up takes beyond the lead); they are paid from the order. Surplus ones are paid until they have drained.
    """
    cold = 0.0 if instant else pool.profile.startup_s.cold
    late = 0.0 if instant else late_s(pool, lead_s)
    frame = _with_backlog(_met(_present(plan, grid, lead_s=lead_s, cold=cold, late=late), table))
    gpus = pool.profile.gpus_per_replica / 3600.0
    drained = (pl.col("held") - pl.col("asked")).clip(lower_bound=0)
    added = (pl.col("asked") - pl.col("held")).clip(lower_bound=0) + pl.col("further") - pl.col("asked")
    ahead_s = pl.min_horizontal(pl.lit(_whole_windows(lead_s, grid.window_s)[1]), "length_s")
    paid = pl.col("asked") * (pl.col("length_s") - ahead_s) + pl.col("further") * ahead_s
    worked_off = pl.col("end").clip(lower_bound=0.0) / response.capacity  # replica-seconds for what is left at the end
    last = pl.col("window") == len(grid.start_s) - 1
    tail = pl.when(last).then(pl.col("asked") * response.tail_s + worked_off).otherwise(0.0)
    served = pl.col("serving") * pl.col("length_s")
    return frame.select(
        "setting",
        "window",
        "requests",
        provisioned=paid / pl.col("length_s"),
        active="serving",
        attained=pl.col("attained") * (1 - pl.col("carry")) + pl.col("attained_late") * pl.col("carry"),
        hours=(paid + drained * response.drain_s + tail) * gpus,
        active_hours=served * gpus,
        tail_hours=tail * gpus,
        startup_hours=added * cold * gpus,
        served_s=served,
        busy_s=(pl.col("busy") * (1 - pl.col("carry")) + pl.col("carry")) * served,
        backlog=(pl.col("waiting") + pl.col("carried") * pl.col("carry")) * pl.col("length_s"),
        actions=added + drained,
    )


def _present(plan: pl.DataFrame, grid: Grid, *, lead_s: float, cold: float, late: float) -> pl.DataFrame:
    """The plan with the replicas there are: asked and further (from a window's start, in its last part), held (asked
    before), serving, previous (serving before); length_s; late (share of the window until those added serve).
    """
    window, before = pl.col("window"), pl.col("before")
    whole, _ = _whole_windows(lead_s, grid.window_s)

    def ordered(windows: int) -> pl.Expr:
        return pl.max_horizontal(*(pl.col("replicas").shift(-k).over("setting") for k in range(windows + 1)))

    def earlier(column: str, windows: int) -> pl.Expr:
        return pl.col(column).shift(windows).over("setting").fill_null(before)

    frame = plan.with_columns(
        asked=ordered(whole),  # the most of all windows within the lead
        further=ordered(whole + 1),  # in the window's last seconds, what the lead has beyond whole windows
        length_s=pl.lit(pl.Series(grid.length_s)).gather(window),
    )
    # a replica serves if it has been wanted for as long as it takes to start
    serving = pl.min_horizontal(*(earlier("asked", k) for k in range(math.floor(cold / grid.window_s) + 1)))
    behind = math.floor(max(cold - lead_s, 0.0) / grid.window_s) * grid.window_s
    share = (max(late - behind, 0.0) / pl.col("length_s")).clip(0.0, 1.0)
    return (
        frame.with_columns(serving=serving, held=earlier("further", 1))
        .with_columns(previous=earlier("serving", 1))
        .with_columns(late=pl.when(pl.col("serving") > pl.col("previous")).then(share).otherwise(0.0))
    )


def _met(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The table's columns for the replicas that serve: those before until the added ones do."""
    at = frame.select("window", "serving", "previous").to_numpy()
    now, before = (pl.Series(table.cell(at[:, k], at[:, 0])) for k in (1, 2))
    late = frame["late"]

    def found(name: str) -> pl.Series:
        values = pl.Series(getattr(table, name).reshape(-1))
        return values.gather(now) * (1 - late) + values.gather(before) * late

    names = ("attained", "attained_late", "busy", "net", "left", "waiting")
    requests = pl.Series(table.requests).gather(frame["window"])
    return frame.with_columns(requests=requests, **{name: found(name) for name in names})


def _with_backlog(frame: pl.DataFrame) -> pl.DataFrame:
    """end, carried: backlog when a window ends and begins; carry: share of the window until it is worked off."""
    frame = frame.with_columns(total=pl.col("net").cum_sum().over("setting"))
    # max(backlog before + net, left), unrolled into a sum and a running maximum
    end = pl.col("total") + (pl.col("left") - pl.col("total")).cum_max().over("setting")
    carried = pl.col("end").shift(1).over("setting").fill_null(0.0).clip(lower_bound=0.0)
    drains = pl.when(pl.col("net") >= 0).then(1.0).otherwise((pl.col("carried") / -pl.col("net")).clip(0.0, 1.0))
    carry = pl.when(pl.col("carried") <= 0).then(0.0).otherwise(drains)
    return frame.with_columns(end=end).with_columns(carried=carried).with_columns(carry=carry)


def by_setting(frame: pl.DataFrame, attain: float) -> pl.DataFrame:
    """SUMS by setting of one pool's windows; at_risk: requests of windows in which fewer than `attain` attain."""
    missed = pl.col("attained") < attain * pl.col("requests")
    risky = frame.with_columns(at_risk=pl.when(missed).then("requests").otherwise(0.0))
    return risky.group_by("setting", maintain_order=True).agg(pl.col(*SUMS).sum())


def late_s(pool: Pool, lead_s: float) -> float:
    """E[(S - lead)+], S the lognormal start-up time of a cold replica (profile.Startup): seconds it serves too late."""
    mean, cv = pool.profile.startup_s.cold, pool.profile.startup_s.cv
    if mean == 0 or cv == 0 or lead_s <= 0:
        return max(mean - lead_s, 0.0)
    sigma = math.sqrt(math.log1p(cv**2))
    d = math.log(mean / lead_s) / sigma + sigma / 2
    return mean * _normal(d) - lead_s * _normal(d - sigma)


def _normal(x: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _whole_windows(lead_s: float, window_s: float) -> tuple[int, float]:
    """(whole windows of the lead, what remains of it)."""
    whole = math.floor(lead_s / window_s / WHOLE)
    return whole, max(lead_s - whole * window_s, 0.0)

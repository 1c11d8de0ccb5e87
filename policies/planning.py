"""Planning by windows: the sizing rule, and the base of policies that scale on a forecast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.fleet import DECODE, PREFILL, SHARED, Fleet, onward, preferences
from lmaas.replay.protocol import Actions, History, Seen

from .knobs import check_headroom
from .told import Told

WHOLE = 1 - 1e-9  # a window has ended at its end, though start + length may round to a hair after it
TOKENS = ("prompt_tokens", "output_tokens", "total_tokens")  # the rates a plan is sized by


def latest_issued(demand: pl.DataFrame, lead_s: float) -> pl.DataFrame:
    """The point forecast each window is planned on: the last one issued by its start minus lead_s."""
    return (
        demand.filter(pl.col("quantile").is_null() & (pl.col("issued_s") <= pl.col("start_s") - lead_s))
        .sort("issued_s")
        .group_by("start_s", "length_s", "service", "origin", "metric", maintain_order=True)
        .last()
    )


def at_home(per_window: pl.DataFrame, fleet: Fleet) -> pl.DataFrame:
    """Demand by the region that serves it: origins without a pool of the service add to their nearest pool's region."""
    there = fleet.index()
    pairs = per_window.select(pl.col("service", "origin").cast(pl.String)).unique().iter_rows()
    away = [(s, o, fleet.pools[preferences(fleet, s, o)[0]].region) for s, o in pairs if (s, o) not in there]
    if not away:
        return per_window
    homes = pl.DataFrame(away, schema=["service", "origin", "home"], orient="row")
    keys = ["start_s", "length_s", "service", "origin", "metric"]
    return (
        per_window.with_columns(pl.col("service", "origin").cast(pl.String))
        .join(homes, on=["service", "origin"], how="left", maintain_order="left")
        .with_columns(origin=pl.coalesce("home", "origin"))
        .group_by(keys, maintain_order=True)
        .agg(pl.col("value").sum())
    )


def placed(per_window: pl.DataFrame, fleet: Fleet) -> pl.DataFrame:
    """Demand by the region and lane that serve it: `at_home`, a prefill lane's also where it hands over to."""
    rows = at_home(per_window, fleet)
    pools = [(pool, pool.lane, pool.region) for pool in fleet.pools if pool.lane != DECODE]
    pools += [(pool, DECODE, onward(fleet, pool).region) for pool in fleet.pools if pool.lane == PREFILL]
    if all(lane == SHARED for _, lane, _ in pools):
        return rows.with_columns(lane=pl.lit(SHARED))
    where = pl.DataFrame(
        [(pool.service, pool.region, lane, region) for pool, lane, region in pools],
        schema=["service", "origin", "lane", "there"],
        orient="row",
    )
    return (
        rows.with_columns(pl.col("service", "origin").cast(pl.String))
        .join(where, on=["service", "origin"], maintain_order="left")
        .group_by(
            "start_s", "length_s", "service", pl.col("there").alias("origin"), "lane", "metric", maintain_order=True
        )
        .agg(pl.col("value").sum())
    )


def size(per_window: pl.DataFrame, mu: pl.DataFrame, headroom: float = 0.0) -> pl.DataFrame:
    """start_s, service, region, lane, replicas: the tightest of prompt, output and total token rate (PreServe, Alg. 2).

    per_window: start_s, length_s, service, origin, lane, metric, value; mu: service, lane, metric, mu (tokens/s a
    replica); all shared where there is no lane. headroom: share added to the demand.
    """
    # 3.0000000001 replicas are three
    return needs(per_window, mu, headroom).with_columns((pl.col("replicas") - 1e-9).ceil().cast(pl.Int64))


def needs(per_window: pl.DataFrame, mu: pl.DataFrame, headroom: float = 0.0) -> pl.DataFrame:
    """`size` before it is rounded up: replicas f8."""
    per_window, mu = (t if "lane" in t.columns else t.with_columns(lane=pl.lit(SHARED)) for t in (per_window, mu))
    load = pl.col("value") * (1 + headroom) / (pl.col("mu") * pl.col("length_s"))
    return (
        per_window.join(mu, on=["service", "lane", "metric"])
        .group_by("start_s", "service", pl.col("origin").alias("region"), "lane")
        .agg(replicas=load.max())
        .select("start_s", "service", "region", "lane", "replicas")
        .sort("start_s", "service", "region", "lane")
    )


def mu_table(rates: pl.DataFrame) -> pl.DataFrame:
    """service, lane, metric, mu: the token rates of History.rates, long; of a lane those it works on."""
    wide = rates.select("service", "lane", *(pl.col(f"{m}_s").alias(m) for m in TOKENS))
    long = wide.unpivot(TOKENS, index=["service", "lane"], variable_name="metric", value_name="mu")
    prompts = pl.col("metric") == "prompt_tokens"
    return long.filter(
        pl.when(pl.col("lane") == PREFILL).then(prompts).when(pl.col("lane") == DECODE).then(~prompts).otherwise(True)
    )


def pool_counts(plan: pl.DataFrame, fleet: Fleet) -> np.ndarray:
    """Replicas a pool of one window's plan, clamped to the pool's bounds; pools without a row get their minimum."""
    rows = plan.select("service", "region", "lane", "replicas").iter_rows()
    wanted = {(service, region, lane): n for service, region, lane, n in rows}
    keys = [(pool.service, pool.region, pool.lane) for pool in fleet.pools]
    if any(lane != SHARED for *_, lane in keys) and (lost := wanted.keys() - set(keys)):
        raise UserError(f"a plan for {'/'.join(min(lost))}, which is no pool of this fleet with lanes", Exit.CONFIG)
    return np.array([pool.clamp(wanted.get(key, 0)) for pool, key in zip(fleet.pools, keys, strict=True)])


@dataclass(frozen=True)
class PlanState:
    """What a planned policy keeps of its start: rates μ, the fleet, and the window and lead it plans with."""

    mu: pl.DataFrame
    fleet: Fleet
    window_s: float
    lead_s: float


@dataclass(frozen=True, kw_only=True)
class Planned(Told):
    """Scales ahead of each window on the forecast of its demand.

    A window's replicas are asked for lead_s before it begins (default: the longest cold start of the fleet), and
    surplus ones drain when it begins.
    """

    lead_s: float | None = None
    headroom: float = 0.0  # share added to the forecast demand
    router: str = "least-requests"

    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lead_s is not None and not 0 <= self.lead_s <= 86_400:
            raise ValueError(f"lead_s is {self.lead_s}; a time from 0 to 86,400 s")
        check_headroom(self.headroom)

    def start(self, fleet: Fleet, history: History) -> PlanState:
        """μ and the lead this fleet needs."""
        lead = self.lead_s
        if lead is None:
            lead = 0.0 if self.instant_start else max(pool.profile.startup_s.cold for pool in fleet.pools)
        return PlanState(mu_table(history.rates), fleet, history.window_s, lead)

    def initial(self, fleet: Fleet, history: History, state: PlanState) -> Sequence[int] | None:
        """The common start."""
        return None

    def plan_all(self, demand: pl.DataFrame, state: PlanState) -> pl.DataFrame:
        """Replicas per window and pool (see `size`), each on the latest forecast issued lead_s before it."""
        return size(placed(latest_issued(demand, state.lead_s), state.fleet), state.mu, self.headroom)

    def decisions(self, starts_s: np.ndarray, state: PlanState) -> np.ndarray:
        """When it plans: at the start of every window and lead_s before, rising."""
        return np.unique(np.concatenate([starts_s - state.lead_s, starts_s]))

    def plan(self, t: float, demand: pl.DataFrame, seen: Seen, state: PlanState) -> Actions:
        """What the windows that overlap [t, t + lead_s] need, of forecasts issued by t."""
        near = demand.filter(
            (pl.col("issued_s") <= t)
            & (pl.col("start_s") <= t + state.lead_s)
            & (pl.col("start_s") + state.window_s * WHOLE > t)
        )
        return peak_actions(self.plan_all(near, state), state.fleet)


def peak_actions(plan: pl.DataFrame, fleet: Fleet) -> Actions:
    """The most replicas any window of the plan needs, a pool; nothing where the plan has no window."""
    if plan.height == 0:
        return Actions()
    peak = plan.group_by("service", "region", "lane").agg(pl.col("replicas").max())
    return Actions(dict(enumerate(int(n) for n in pool_counts(peak, fleet))))


def counts_by_start(plan: pl.DataFrame, fleet: Fleet) -> tuple[np.ndarray, np.ndarray]:
    """(starts f8[windows], rising, replicas i8[windows, pools]): every window's `pool_counts`."""
    parts = plan.partition_by("start_s", as_dict=True)
    starts = sorted(start for (start,) in parts)
    counts = [pool_counts(parts[start,], fleet) for start in starts]
    return np.array(starts, np.float64), np.array(counts).reshape(len(starts), len(fleet.pools))


def own_counts(fleet: Fleet, totals: Sequence[int] | np.ndarray) -> list[int]:
    """Replicas of its own kind a pool begins with: of the total, those that the mixed ones beside them leave to add."""
    return [max(0, int(n) - pool.beside) for pool, n in zip(fleet.pools, totals, strict=True)]


def common_start(fleet: Fleet, history: History) -> list[int]:
    """The fleet file's counts, else what the last training window's demand needs; the mixed ones stand beside them."""
    last = history.window_demand.filter(pl.col("start_s") == pl.col("start_s").max())
    plan = size(placed(last, fleet), mu_table(history.rates)) if last.height else _no_plan()
    counts = own_counts(fleet, pool_counts(plan, fleet))
    return [n if pool.initial is None else pool.initial for pool, n in zip(fleet.pools, counts, strict=True)]


def _no_plan() -> pl.DataFrame:
    schema: dict[str, Any] = {"service": pl.String, "region": pl.String, "lane": pl.String, "replicas": pl.Int64}
    return pl.DataFrame(schema=schema)

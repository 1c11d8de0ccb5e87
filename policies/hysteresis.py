"""The hysteresis of PreServe's artifact: a plan that changes only where it has to, by more than rounding."""

import math
from dataclasses import dataclass

import polars as pl

from lmaas.replay.protocol import Actions, Seen

from .knobs import check_switches
from .planning import WHOLE, Planned, PlanState, latest_issued, needs, peak_actions, placed

UP, DOWN, FREEZE_S = 0.2, 0.3, 60.0  # replicas, replicas, seconds: the artifact's
KEYS = ("service", "region", "lane")


def steadied(needed: pl.DataFrame) -> pl.DataFrame:
    """planning.size's columns of planning.needs: up to ceil(x + 0.2) where that is more, down to ceil(x + 0.3) if less.

    x: replicas needed, a fraction. After a change a pool keeps its count for 60 s of window starts. A pool begins with
    ceil(x) of its first window.
    """
    now: dict[tuple[str, ...], tuple[int, float]] = {}  # pool -> (count, when it changed)
    counts = []
    for start_s, *pool, x in needed.sort("start_s", *KEYS).select("start_s", *KEYS, "replicas").iter_rows():
        n, changed_s = now.get(tuple(pool), (_ceil(x), -math.inf))
        wanted = max(_ceil(x + UP), min(n, _ceil(x + DOWN)))
        if wanted != n and start_s - changed_s >= FREEZE_S:
            n, changed_s = wanted, start_s
        now[tuple(pool)] = n, changed_s
        counts.append(n)
    return needed.sort("start_s", *KEYS).with_columns(replicas=pl.Series(counts, dtype=pl.Int64))


def _ceil(x: float) -> int:
    return math.ceil(x - 1e-9)  # 3.0000000001 replicas are three


@dataclass(frozen=True, kw_only=True)
class Steady(Planned):
    """Planned, with the artifact's hysteresis where it is asked for."""

    hysteresis: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_switches(hysteresis=self.hysteresis)

    def plan_all(self, demand: pl.DataFrame, state: PlanState) -> pl.DataFrame:
        """Replicas per window and pool."""
        if not self.hysteresis:
            return super().plan_all(demand, state)
        return steadied(needs(placed(latest_issued(demand, state.lead_s), state.fleet), state.mu, self.headroom))

    def plan(self, t: float, demand: pl.DataFrame, seen: Seen, state: PlanState) -> Actions:
        """What the windows that overlap [t, t + lead_s] need; with hysteresis that goes back to the first one."""
        if not self.hysteresis:
            return super().plan(t, demand, seen, state)
        known = demand.filter((pl.col("issued_s") <= t) & (pl.col("start_s") <= t + state.lead_s))
        near = pl.col("start_s") + state.window_s * WHOLE > t
        return peak_actions(self.plan_all(known, state).filter(near), state.fleet)

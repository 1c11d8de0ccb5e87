"""PreServe (ICSE'26, arXiv 2504.03702): scale on forecast token demand and on anticipated load, route on the latter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lmaas.replay.anticipation import PAPER, Anticipation
from lmaas.replay.fleet import PREFILL, Fleet
from lmaas.replay.protocol import NOTHING, Actions, History, Seen

from .hysteresis import Steady
from .knobs import check_switches
from .planning import PlanState, common_start, latest_issued, own_counts
from .tier2 import Memory, Thresholds, change, looks


@dataclass(frozen=True)
class TieredState(PlanState):
    """Tier-1's, what Tier-2 remembers of each pool, and the fleet that stands in for a plan where there is none."""

    pools: tuple[Memory, ...]
    still: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PreServe(Steady):
    """Tier-1 sizing (Alg. 2) on a rolling forecast, Tier-2 on the KV to come, the artifact's router.

    The paper's: both tiers' rules, ten-minute windows, the load anticipator. The artifact's: the router, `hysteresis`.
    Ours: μ from a load test of eight replicas for its one, statsforecast models for the mLSTM, xgboost for the
    prompt-tuned DistilBERT, a lead of one cold start, and where the paper is silent on how the tiers meet: Tier-1 sets
    the count when a window begins, which ends what Tier-2 added or isolated; ahead of a window it only adds. Tier-2
    credits a replica's overload once an episode, isolates at most once a window and not while replicas start, and
    leaves prefill lanes to Tier-1.
    """

    router: str = "preserve"
    lengths: str = "trees"
    tier1: bool = True  # without it: Tier-2 alone, which corrects the common start and its headroom in every window
    tier2: bool = True  # without it: Tier-1 alone, the paper's baseline Proactive
    lookahead: int = 100  # iterations
    overload: float = 0.95  # share of KV
    overload_share: float = 0.1  # of the iterations looked at
    scale_in: float = 0.3  # share of KV, T_f; 0: Tier-2 never scales in
    extension: str = PAPER  # what requests are given that outlive their prediction (replay.anticipation)
    control_s: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_switches(tier1=self.tier1, tier2=self.tier2)
        if not self.tier1 and (not self.tier2 or self.hysteresis):
            raise ValueError("tier1 is false: nothing plans; leave tier2 on and hysteresis off, or write static")
        check_anticipation(self.lookahead, self.extension, self.control_s)
        if not (self.overload > 0 and 0 <= self.overload_share < 1 and 0 <= self.scale_in <= 1):
            raise ValueError(
                f"overload is {self.overload}, overload_share {self.overload_share}, scale_in {self.scale_in}; "
                "shares, the first above 0, the second below 1"
            )

    @property
    def reacting(self) -> bool:
        """Whether Tier-2 is asked."""
        return self.tier2

    @property
    def ahead_iterations(self) -> int:
        """Of the map it sees."""
        return self.lookahead

    def start(self, fleet: Fleet, history: History) -> TieredState:
        """Tier-1's state, and no overload known."""
        one = super().start(fleet, history)
        there = [n + pool.beside for n, pool in zip(common_start(fleet, history), fleet.pools, strict=True)]
        still = tuple(math.ceil(n * (1 + self.headroom) - 1e-9) for n in there)
        return TieredState(one.mu, one.fleet, one.window_s, one.lead_s, tuple(Memory() for _ in fleet.pools), still)

    def initial(self, fleet: Fleet, history: History, state: PlanState) -> Sequence[int] | None:
        """The common start; without Tier-1 with the headroom on it."""
        return None if self.tier1 or not isinstance(state, TieredState) else own_counts(fleet, state.still)

    def plan_all(self, demand: pl.DataFrame, state: PlanState) -> pl.DataFrame:
        """Replicas per window and pool; without Tier-1 the same in all."""
        if self.tier1 or not isinstance(state, TieredState):
            return super().plan_all(demand, state)
        pools = pl.DataFrame(
            [(pool.service, pool.region, pool.lane, n) for pool, n in zip(state.fleet.pools, state.still, strict=True)],
            schema={"service": pl.String, "region": pl.String, "lane": pl.String, "replicas": pl.Int64}, orient="row",
        )  # fmt: skip
        starts = latest_issued(demand, state.lead_s).select("start_s").unique()
        return starts.join(pools, how="cross").sort("start_s", "service", "region", "lane")

    def adopt(self, t: float, counts: Mapping[int, int], fresh: bool, seen: Seen, state: TieredState) -> Actions:
        """Tier-1's word: the count where a window begins, else at least what the next one needs."""
        asked = {}
        for p, n in counts.items():
            have, memory = int(seen.active[p] + seen.starting[p]), state.pools[p]
            if fresh:
                memory.begin()
            elif n > have:
                memory.settled = True  # what the next window needs is not isolated before it begins
            asked[p] = n if fresh else max(n, have)
            memory.asked_s, memory.asked = t, asked[p]
        return Actions(asked)

    def react(self, t: float, seen: Seen, state: TieredState) -> Actions:
        """Tier-2's, on top of what there is or of what Tier-1 has asked for at this instant."""
        if seen.closer is None:
            return NOTHING  # windows have no replicas: Tier-2 rests
        limits = Thresholds(self.overload, self.overload_share, self.scale_in)
        pools, said = state.fleet.pools, {}
        for p, (pool, look) in enumerate(zip(pools, looks(seen.replicas, limits, len(pools)), strict=True)):
            memory = state.pools[p]
            asked = memory.asked_s == t
            have = memory.asked if asked else int(seen.active[p] + seen.starting[p])
            more = change(look, limits, memory, calm=not asked and seen.starting[p] == 0)
            if more and pool.lane != PREFILL:
                said[p] = pool.clamp(have + more)
        return Actions(said)


def check_anticipation(lookahead: int, extension: str, control_s: float) -> None:
    """ValueError for a look-ahead, an extension or a time between looks that cannot be."""
    Anticipation(lookahead, extension)
    if lookahead < 1:
        raise ValueError(f"lookahead is {lookahead}; a whole number of iterations from 1")
    if not 1 <= control_s <= 86_400:
        raise ValueError(f"control_s is {control_s}; a time from 1 to 86,400 s")

"""OServe (arXiv 2602.12151): every minute, which shapes the GPUs are divided into, and which types go to which."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from lmaas.analysis.trace import TIERS
from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import NOTHING, Actions, History, Seen

from ..ahead import Horizon
from ..brought import Brings
from ..knobs import check_headroom, check_switches
from ..told import Told, check_name
from ..typed import MOST_TYPES, Types
from .divided import Divided, State, by_pool, present, said, table
from .fitted import POOLING, Division, best_of, fitted, floored
from .flow import Assignment
from .moves import Switch, drains_s, migrations, switch
from .search import PATIENCE, Counts, Deployments
from .shapes import shapes_of
from .sharing import LEAST, by_profile, shared, takes_shares
from .switching import Cluster

if TYPE_CHECKING:
    from ..inputs import Inputs
    from ..prepare import Prepared

MINUTE_S = 60.0
ADHOC, RELOAD, NEVER = SWITCHES = ("adhoc", "reload", "none")
MIXED, ALIKE = DEPLOYMENTS = ("heterogeneous", "homogeneous")
SERVED = 0.01  # share of the demand: what is left or gained below it is taken for nothing


@dataclass(frozen=True, kw_only=True)
class OServe(Told):
    """Requests of `types` kinds by length, a constant number of GPUs, replicas of several shapes; a look a minute.

    The paper's: k-means types, a forecast a type, the flow (flow.assign) of types to replicas and its shares as the
    router's weights, the flow-guided search (its operators partly ours) and its 20 steps, the ad hoc switch, short
    sequences drained and long ones migrated. Ours, where the paper (as known here) is silent: a request's type is of
    its input and predicted output; capacity is by load test at the attainment target; the search looks for demand plus
    `reserve` and only where the deployment there is does not serve that; a switch is made where what it serves more
    in `hold_s` is more than `margin` times what it serves less while its first step drains and starts; at most
    `at_once` of the GPUs give way in one minute; the transfer begins when those that give way have drained; of replicas
    of one shape, which the flow takes to be alike, the least loaded serves; what would queue there is excess and goes
    where it is worked off soonest; replicas of several shapes must serve `pooling` more than those of one; what a fault
    takes comes back as it was, unless the search has something better for its GPUs; statsforecast for the LSTM.
    """

    lengths: str = "trees"
    types: int = 4
    gpus: int | None = None  # to divide in each pool; None: the region's, else those of the common start
    headroom: float = 0.0  # share added to the GPUs of the common start, where nothing else says how many there are
    gpus_per_node: int = 8  # TP stays within a node
    estimated: bool = True  # shapes that no profile ships for are those of the roofline
    most_pp: int = 1  # pipeline stages of estimated shapes
    within_gb_s: float = 400.0  # NVLink, a GPU and direction
    between_gb_s: float = 200.0  # between nodes
    deployment: str = MIXED  # homogeneous: replicas of one shape alone, the best one
    switching: str = ADHOC  # reload: weights are read from disk and requests drain; none: the first deployment stays
    patience: int = PATIENCE  # steps of the search without a better deployment
    pooling: float = POOLING  # share by which several shapes must beat one alone
    reserve: float = 0.25  # share added to the forecast that is deployed for
    hold_s: float = 300.0  # the paper's shortest time between switches
    margin: float = 1.0
    at_once: float = 0.5  # share of the GPUs
    short_tokens: int = 256  # predicted output up to which a sequence drains
    spare: float = 0.15  # share of a replica's KV that migration leaves free; the paper's 10 to 20 %
    router: str = LEAST

    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("deployment", self.deployment, DEPLOYMENTS)
        check_name("switching", self.switching, SWITCHES)
        check_headroom(self.headroom)
        check_switches(estimated=self.estimated)
        wholes = {"types": MOST_TYPES, "gpus": 100_000, "gpus_per_node": 1024, "patience": 1000, "most_pp": 64}
        for name, most in wholes.items():
            n = getattr(self, name)
            if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most):
                raise ValueError(f"{name} is {n}; a whole number from 1 to {most:,}")
        numbers = {
            "within_gb_s": (1e-3, 1e6), "between_gb_s": (1e-3, 1e6), "pooling": (0, 100), "reserve": (0, 100),
            "hold_s": (1, 86_400), "margin": (0, 1e6), "at_once": (0, 1), "short_tokens": (0, 1e9), "spare": (0, 1),
        }  # fmt: skip
        for name, (least, top) in numbers.items():
            if not least <= getattr(self, name) <= top:
                raise ValueError(f"{name} is {getattr(self, name)}; from {least:g} to {top:g}")

    @property
    def brings(self) -> Brings:
        """How fast KV moves."""
        return Brings(kv_bandwidth_gb_s=self.between_gb_s)

    @property
    def kinds(self) -> Types:
        """How it tells requests apart."""
        return Types(self.types, self.lengths, self.length_error)

    @property
    def horizon(self) -> Horizon:
        """The requests of every type in the next minute, asked each minute."""
        return Horizon(MINUTE_S, MINUTE_S, 1, TIERS, "requests", self.kinds)

    def fitted(self, ready: "Prepared", inputs: "Inputs") -> "Prepared":
        """Kinds, shapes and the first deployment, from the training part."""
        shapes = partial(
            shapes_of, most_tp=self.gpus_per_node, most_pp=self.most_pp, estimated=self.estimated
        )  # fmt: skip
        return fitted(
            ready, inputs, self.kinds, shapes, gpus=self.gpus, headroom=self.headroom, reserve=self.reserve,
            alike=self.deployment == ALIKE, pooling=self.pooling,
        )  # fmt: skip

    def start(self, fleet: Fleet, history: History) -> State:
        """What `fitted` learned, a pool each; nothing where the policy was not fitted."""
        from lmaas.replay.world import world_of

        profiles = [profile.name for profile in world_of(fleet).profiles]
        found, rates = [], []
        for division in history.own or ():
            gpus = max(division.total, int((np.array(division.begins) * division.gpus).sum()))
            whole = -(-gpus // self.gpus_per_node) * self.gpus_per_node
            cluster = Cluster(whole, self.gpus_per_node, self.within_gb_s * 1e9, self.between_gb_s * 1e9)
            found.append(Divided(division, cluster, division.begins))
            rates += by_profile(division.capacity.T, division.names, profiles)
        state = State(fleet, found, profiles, history.end_s, shared(self.router, None, rates))
        state.notes += [said(str(pool), one.division) for pool, one in zip(fleet.pools, found, strict=False)]
        return state

    def initial(self, fleet: Fleet, history: History, state: State) -> Sequence[int] | None:
        """The common start, which `fitted` has set."""
        return None

    def decisions(self, starts_s: np.ndarray, state: State) -> np.ndarray:
        """Every minute that is forecast, and right after the replay begins."""
        return np.unique(
            np.concatenate([starts_s, [np.nextafter(one.division.begin_s, np.inf) for one in state.pools]])
        )

    def plan(self, t: float, demand: pl.DataFrame, seen: Seen, state: State) -> Actions:
        """Of every pool the deployment to go to, by steps, and the shares of its types.

        Before the first forecast the demand is that which the first deployment is for.
        """
        near = demand.filter((pl.col("start_s") <= t + 1e-6) & (pl.col("start_s") + pl.col("length_s") > t + 1e-6))
        if not state.pools or seen.closer is None or not (near.height or t <= state.first_s):
            return NOTHING
        rates = np.array([one.division.demand for one in state.pools])
        if near.height:
            rates = by_pool(near, state.fleet, self.types)
        steps = [self._minute(p, pool, rates[p], seen) for p, pool in enumerate(state.pools)]
        regroup: list[tuple[int, list[int], list[str], float | None]] = []
        migrate: list[tuple[int, int, int]] = []
        replicas_of: dict[tuple[int, str], int] = {}
        for p, (pool, step) in enumerate(zip(state.pools, steps, strict=True)):
            if step is None:
                continue
            names, start_s = pool.division.names, step.seconds if self.switching == ADHOC else None
            for one in step.steps:
                if one.leaves or start_s is not None:
                    regroup.append((p, list(one.leaves), [names[k] for k in one.follows], start_s))
            migrate += step.moves
            if start_s is None:
                replicas_of |= {(p, names[k]): n for k, n in step.onto_idle(pool.places).items()}
            pool.places, pool.stands = step.after, step.counts(len(names))
        weights = table(state) if takes_shares(self.router) else None
        return Actions(replicas_of=replicas_of, regroup=regroup, migrate=migrate, weights=weights)

    def _minute(self, p: int, pool: Divided, rates: np.ndarray, seen: Seen) -> Switch | None:
        """What is switched now of pool p; the flow to route by becomes its weights."""
        flow, step = self._decide(p, pool, rates, seen)
        pool.weights = flow.weights
        return step

    def _decide(self, p: int, pool: Divided, rates: np.ndarray, seen: Seen) -> tuple[Assignment, Switch | None]:
        """(the flow to route by, what is switched now) of pool p at this minute."""
        division, replicas = pool.division, seen.replicas
        now, busy = present(p, pool, replicas)
        wanted = floored(rates * (1 + self.reserve))
        tried = Deployments(division.budget(wanted, now))
        if busy:
            return tried.flow(pool.target or now), None
        pool.target, flow = None, tried.flow(now)
        idle = division.total - int((np.array(now) * division.gpus).sum())
        servable = (division.capacity > 0).any(axis=0)
        if flow.left[servable].sum() <= SERVED * wanted.sum() and idle < division.gpus.min():
            return flow, None
        step = None
        if self.switching != NEVER:
            best, tried = best_of(division, wanted, now, self.deployment == ALIKE, self.patience, self.pooling)
            step = self._towards(p, pool, now, best, tried, seen)
        if step is None and any(had > has for had, has in zip(pool.stands, now, strict=True)):
            back = switch(pool.places, pool.stands, division.shapes, pool.cluster, 0)
            step = back if back is not None and not back.leaves else None
        if step is None:
            return flow, None
        pool.target = step.counts(len(division.shapes))
        return tried.flow(pool.target), step

    def _towards(
        self, p: int, pool: Divided, now: Counts, best: Counts, tried: Deployments, seen: Seen
    ) -> Switch | None:
        """The first step to the best deployment, where it pays; onto GPUs that are idle it always does."""
        division = pool.division
        if best == now:
            return None
        step = switch(pool.places, best, division.shapes, pool.cluster, int(self.at_once * division.total))
        if step is None or not step.leaves:
            return step
        step = self._with_moves(p, pool, step, seen)
        return step if self._pays(now, best, step, p, division, tried, seen) else None

    def _with_moves(self, p: int, pool: Divided, step: Switch, seen: Seen) -> Switch:
        """The step with the requests that migrate; before a reload from disk, and to KV of another size, none does."""
        sizes = {shape.kv_bytes_per_token for shape in pool.division.shapes}
        if self.switching != ADHOC or not step.leaves or len(sizes) > 1:
            return step
        moves = migrations(
            p, step.leaves, seen.replicas, seen.requests, pool.places, pool.division.shapes, pool.cluster,
            short_tokens=self.short_tokens, spare=self.spare,
        )  # fmt: skip
        return replace(step, moves=tuple(moves))

    def _pays(
        self, now: Counts, best: Counts, step: Switch, p: int, division: Division, tried: Deployments, seen: Seen
    ) -> bool:
        """Whether what is served more for hold_s is more than margin times what is served less during the step."""
        shapes = division.shapes
        fresh = [sum(one.follows.count(k) for one in step.steps) for k in range(len(shapes))]
        staying = tuple(n - m for n, m in zip(step.counts(len(shapes)), fresh, strict=True))
        starts_s = step.seconds if self.switching == ADHOC else None
        if starts_s is None:
            starts_s = max((shape.startup_s.swap for shape, n in zip(shapes, fresh, strict=True) if n), default=0.0)
        lasts_s = starts_s + drains_s(p, step, seen.replicas, seen.requests, shapes) if step.leaves else starts_s
        served = tried.flow(now).served
        lost, gain = max(served - tried.flow(staying).served, 0.0), tried.flow(best).served - served
        enough = SERVED * tried.budget.demand.sum()
        return gain > enough and gain * self.hold_s > self.margin * lost * lasts_s

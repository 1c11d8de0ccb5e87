"""OServe's baselines: a GPU budget as equal replicas of the one shape that serves most, kept or chosen anew."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from lmaas.analysis.forecasting.forecaster import FORECASTERS
from lmaas.analysis.trace import TIERS
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.protocol import Actions, History, Seen

from ..ahead import Horizon
from ..brought import Brings
from ..knobs import check_headroom, check_switches
from ..told import LENGTHS, TRUE, TRUTH, check_error, check_name
from .divided import State
from .fitted import Division
from .policy import ALIKE, NEVER, RELOAD, OServe

if TYPE_CHECKING:
    from ..inputs import Inputs
    from ..prepare import Prepared


@dataclass(frozen=True, kw_only=True)
class Homogeneous:
    """What OServe is compared with as vLLM (static) and, with `reload`, vLLM (reload): replicas of one shape alone.

    The shape is the one whose equal replicas serve most of the last training hour's demand, by OServe's own flow; where
    several serve all of it the one whose replicas are least full. reload: chosen anew every period_s for the demand
    that is foretold of it by type, where that serves more than the change costs; replicas of the old shape drain and
    those of the new one read their weights from disk (a swap of the profile). The rule by which the paper chooses is
    not known; this one is ours.
    """

    reload: bool = False
    period_s: float = 3600.0
    demand: str = "last-value"  # a forecaster's word on the next period, or truth
    types: int = 4
    gpus: int | None = None  # of each pool; None: as `oserve` has them
    headroom: float = 0.0
    lengths: str = "trees"
    length_error: float = 0.0
    router: str = "least-requests"

    instant_start: ClassVar[bool] = False
    brings: ClassVar[Brings] = Brings()

    def __post_init__(self) -> None:
        check_headroom(self.headroom)
        check_switches(reload=self.reload)
        check_name("demand", self.demand, (*FORECASTERS, TRUTH))
        check_name("lengths", self.lengths, (*LENGTHS, TRUE))
        check_error("length_error", self.length_error, f"lengths={TRUE}", self.lengths == TRUE)
        if not 60 <= self.period_s <= 30 * 86_400:
            raise ValueError(f"period_s is {self.period_s}; from 60 s to 30 days")
        _ = self.divides  # its own checks: types, gpus

    @property
    def divides(self) -> OServe:
        """OServe as this baseline uses it: one shape, all of the GPUs at once, from disk."""
        return OServe(
            lengths=self.lengths, length_error=self.length_error, types=self.types, gpus=self.gpus,
            headroom=self.headroom, deployment=ALIKE, switching=RELOAD if self.reload else NEVER, at_once=1.0,
            hold_s=min(self.period_s, 86_400.0), router=self.router,
        )  # fmt: skip

    @property
    def foresight(self) -> bool:
        """Whether it reads the future."""
        return self.lengths == TRUE or (self.reload and self.demand == TRUTH)

    @property
    def forecaster(self) -> str | None:
        """Of the demand by type; a static one asks for none."""
        return self.demand if self.reload else None

    @property
    def horizon(self) -> Horizon | None:
        """The requests of every type in the next period."""
        return Horizon(self.period_s, self.period_s, 1, TIERS, "requests", self.divides.kinds) if self.reload else None

    def fitted(self, ready: "Prepared", inputs: "Inputs") -> "Prepared":
        """OServe's divisions into one shape, which then is the pool's own: what faults take comes back as that."""
        ready = self.divides.fitted(ready, inputs)
        pairs = zip(ready.fleet.pools, ready.history.own, strict=True)
        return replace(ready, fleet=replace(ready.fleet, pools=tuple(owned(*pair) for pair in pairs)))

    def start(self, fleet: Fleet, history: History) -> State:
        """As OServe's."""
        return self.divides.start(fleet, history)

    def initial(self, fleet: Fleet, history: History, state: State) -> Sequence[int] | None:
        """The common start, which `fitted` has set."""
        return None

    def decisions(self, starts_s: np.ndarray, state: State) -> np.ndarray:
        """Every period."""
        return starts_s

    def plan(self, t: float, demand: pl.DataFrame, seen: Seen, state: State) -> Actions:
        """The shape for the period that begins."""
        return self.divides.plan(t, demand, seen, state)


def owned(pool: Pool, division: Division) -> Pool:
    """The pool with the shape that most of its replicas begin with as its own."""
    most = int(np.argmax(division.begins))
    pairs = list(zip(division.shapes, division.begins, strict=True))
    mixed = tuple(pair for k, pair in enumerate(pairs) if k != most)
    return replace(pool, profile=division.shapes[most], initial=division.begins[most], mixed=mixed)

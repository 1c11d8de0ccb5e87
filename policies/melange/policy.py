"""Mélange (arXiv 2404.14527): the cheapest static mix of GPU types and shapes for the training part's demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lmaas.replay.fleet import Fleet
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import History
from lmaas.replay.routers import Router

from ..brought import Brings
from ..knobs import check_headroom
from ..oserve.sharing import LEAST, shared
from ..told import LENGTHS, TRUE, check_error, check_name
from ..typed import MOST_TYPES, Types
from .allocation import MEAN, PEAK, Chosen, allocated

if TYPE_CHECKING:
    from ..inputs import Inputs
    from ..prepare import Prepared


@dataclass(frozen=True)
class State:
    """What there is to say, and the router with the shares of every kind of request."""

    notes: tuple[str, ...]
    router: str | Router


@dataclass(frozen=True, kw_only=True)
class Melange:
    """A fleet that never changes, of the GPU types and shapes that together cost least (ilp.cheapest).

    The paper's: capacity by shape and bucket of lengths under the SLO, the ILP, replicas of several GPU types behind
    one router that sends a bucket where the ILP has it. Ours: buckets are k-means cells of the training lengths, the
    router splits a bucket in any share (flow.assign: of the ILP's counts the fullest shape is least full) by predicted
    output lengths, and the demand is that of the training window whose requests cost most.
    """

    types: int = 8  # buckets of a service's lengths
    shapes: str = ""  # profiles to choose among, by name, spaces between; those of the pool's model count
    demand: str = PEAK  # mean: of the whole training part
    headroom: float = 0.0  # share added to the demand
    lengths: str = "trees"
    length_error: float = 0.0
    router: str = LEAST

    forecaster: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False
    brings: ClassVar[Brings] = Brings()

    def __post_init__(self) -> None:
        check_headroom(self.headroom)
        check_name("demand", self.demand, (PEAK, MEAN))
        check_name("lengths", self.lengths, (*LENGTHS, TRUE))
        check_error("length_error", self.length_error, f"lengths={TRUE}", self.lengths == TRUE)
        if isinstance(self.types, bool) or not isinstance(self.types, int) or not 1 <= self.types <= MOST_TYPES:
            raise ValueError(f"types is {self.types}; a whole number from 1 to {MOST_TYPES}")
        for name in self.shapes.split():
            find_profile(name)

    @property
    def foresight(self) -> bool:
        """Whether it reads the future."""
        return self.lengths == TRUE

    def fitted(self, ready: "Prepared", inputs: "Inputs") -> "Prepared":
        """Kinds of requests and the pools' replicas, from the training part."""
        types = Types(self.types, self.lengths, self.length_error)
        return allocated(ready, inputs, types, self.shapes.split(), self.demand, self.headroom)

    def start(self, fleet: Fleet, history: History) -> State:
        """What `fitted` chose; nothing where the policy was not fitted."""
        chosen: Chosen | None = history.own
        if chosen is None:
            return State((), self.router)
        return State(chosen.notes, shared(self.router, chosen.weights, chosen.rates))

    def initial(self, fleet: Fleet, history: History, state: State) -> Sequence[int] | None:
        """The common start, which `fitted` has set."""
        return None

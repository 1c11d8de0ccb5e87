"""The search for one policy's knob as a task, its replays kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lmaas.analysis.errors import UserError
from lmaas.replay.conservation import ConservationError

from ..matched import Matched, match
from ..registry import Named
from ..search import STEP, TOLERANCE, Try
from .bench import Bench
from .kept import Found, known


@dataclass(frozen=True, eq=False)
class Search:
    """What matched.match is asked; a policy that fails while it is replayed gives the reason as text."""

    named: Named
    attain: float
    tries: Mapping[float, Try] | None = None
    first: float | None = None
    tolerance: float = TOLERANCE
    step: float = STEP

    def __call__(self, bench: Bench) -> Matched | str:
        """The search."""

        def once(tuned: Named, make: Callable[[], Found]) -> Found:
            whose = known(tuned)
            return bench.once(whose and {**whose, "scored": "attainment and cost"}, make)

        try:
            return match(
                self.named, *bench.base, self.attain, known=self.tries, first=self.first, tolerance=self.tolerance,
                step=self.step, once=once,
            )  # fmt: skip
        except (UserError, ConservationError):  # none of the policy's
            raise
        except Exception as error:
            return f"{error}"

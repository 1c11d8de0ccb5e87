"""The bound: perfect demand, perfect lengths, no start-up."""

from dataclasses import dataclass
from typing import ClassVar

from .planning import Planned
from .told import TRUE, TRUTH


@dataclass(frozen=True, kw_only=True)
class Oracle(Planned):
    """Tier-1 sizing on the true demand of each window, replicas ready at once; marked foresight everywhere."""

    router: str = "least-outstanding"
    forecaster: str = TRUTH
    lengths: str = TRUE

    instant_start: ClassVar[bool] = True

    @property
    def foresight(self) -> bool:
        """Whatever it is told: nothing really starts at once."""
        return True

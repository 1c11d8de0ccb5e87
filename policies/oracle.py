"""The bound: perfect demand, perfect lengths, no start-up."""

from dataclasses import dataclass
from typing import ClassVar

from .planning import Planned


@dataclass(frozen=True, kw_only=True)
class Oracle(Planned):
    """Tier-1 sizing on the true demand of each window, replicas ready at once; marked foresight everywhere."""

    router: str = "least-outstanding"

    foresight: ClassVar[bool] = True
    forecaster: ClassVar[str] = "truth"
    lengths: ClassVar[str | None] = "true"
    instant_start: ClassVar[bool] = True

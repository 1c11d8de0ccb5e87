"""Policies that fail while they run, each in its own way."""

from dataclasses import dataclass
from typing import ClassVar

from lmaas.replay.protocol import Actions


@dataclass(frozen=True)
class Broken:
    """Raises, or asks for what cannot be, at its first tick."""

    how: str = "raise"
    control_s: float = 60.0
    router: str = "round-robin"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None
    lengths: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def start(self, fleet, history):
        return None

    def initial(self, fleet, history, state):
        return None

    def react(self, t, seen, state):
        if self.how == "raise":
            raise ZeroDivisionError("by design")
        if self.how == "pool":
            return Actions({99: 1})
        return Actions({0: {"nan": float("nan"), "negative": -1}[self.how]})

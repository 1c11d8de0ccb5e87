"""What a policy is tuned by: the one parameter that buys attainment, declared by the policy."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Knob:
    """A parameter such that replicas needed go about with its factor, value + offset; 1 / (value + offset) if it falls.

    least, most: the values a search may use. whole: only whole numbers. falls: less of it means more replicas.
    """

    name: str = "headroom"
    offset: float = 1.0
    least: float = -0.9
    most: float = 9.0
    whole: bool = False
    falls: bool = False

    def factor(self, value: float) -> float:
        """What the capacity asked for goes with; rises with capacity."""
        return 1 / (value + self.offset) if self.falls else value + self.offset

    def value(self, factor: float) -> float:
        """The value of a factor, in steps of 0.0001 or whole, within least and most."""
        return self.inside((1 / factor if self.falls else factor) - self.offset)

    def inside(self, value: float) -> float:
        """The nearest value that a search may use."""
        inside = min(max(value, self.least), self.most)
        return round(inside) if self.whole else round(inside, 4)

    @property
    def factor_least(self) -> float:
        """Of the value that asks for the least capacity."""
        return self.factor(self.most if self.falls else self.least)

    @property
    def factor_most(self) -> float:
        """Of the value that asks for the most capacity."""
        return self.factor(self.least if self.falls else self.most)


HEADROOM = Knob()
REPLICAS = Knob("replicas", offset=0.0, least=1, most=1000, whole=True)


def knob_of(policy: Any) -> Knob | None:
    """The knob a policy declares (class attribute `knob`); None: none, or with a `headroom` that one."""
    declared = getattr(policy, "knob", None)
    if declared is None and hasattr(policy, "headroom"):
        return HEADROOM
    return declared if isinstance(declared, Knob) else None


def check_switches(**values: Any) -> None:
    """ValueError, with its name, for what is neither true nor false."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; true or false")


def check_headroom(headroom: float) -> None:
    """ValueError for a headroom that is none."""
    if not -1 < headroom <= 100:
        raise ValueError(f"headroom is {headroom}; a share above -1, at most 100")

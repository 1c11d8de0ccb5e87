"""The least value of a knob that attains: bracketed and halved, each step one replay."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from .knobs import Knob

TOLERANCE = 0.01  # of the knob's factor: how wide the bracket may stay
MOST_REPLAYS = 15
PROBES = (2.0, 5.0)  # tolerances under the bracket, where it is looked whether less attains after all
STEP = 1.2  # first step of the bracketing, squared at every further one


@dataclass(frozen=True)
class Try:
    """One replay of a search: the knob's value and what came of it."""

    value: float
    attainment: float
    gpu_hours: float
    cost_usd: float | None = None
    starts_denied: int = 0


@dataclass
class _Search:
    """Replays so far, by the knob's value; x is the logarithm of its factor."""

    replay: Callable[[float], Try]
    knob: Knob
    attain: float
    tolerance: float
    most: int
    step: float
    tries: dict[float, Try] = field(default_factory=dict)

    def snap(self, x: float) -> float:
        """The x of the nearest value that the knob can have."""
        return math.log(self.knob.factor(self.knob.value(math.exp(x))))

    def attains(self, x: float) -> bool | None:
        """Whether the value nearest to x attains; None where the replays are used up."""
        value = self.knob.value(math.exp(x))
        if value not in self.tries:
            if len(self.tries) >= self.most:
                return None
            self.tries[value] = self.replay(value)
        return self.tries[value].attainment >= self.attain

    def bracket(self, x: float) -> tuple[float | None, float | None]:
        """(fails, attains) around x, a step apart; None where none fails down to the least, attains up to the most."""
        least, most = self.snap(math.log(self.knob.factor_least)), self.snap(math.log(self.knob.factor_most))
        x, step = self.snap(x), math.log(self.step)
        up = not self.attains(x)
        while x != (most if up else least):
            before, x = x, self.snap(x + step if up else x - step)
            met = self.attains(x)
            if met is None:
                x = before
                break
            if met == up:
                return (before, x) if up else (x, before)
            step *= 2
        return (x, None) if up else (None, x)

    def narrow(self, fails: float, attains: float, spare: int) -> tuple[float, float]:
        """The bracket halved until it is narrow or, but for `spare`, the replays are used up."""
        while not self.is_narrow(fails, attains) and len(self.tries) + spare < self.most:
            middle = self.snap((fails + attains) / 2)
            fails, attains = (fails, middle) if self.attains(middle) else (middle, attains)
        return fails, attains

    def is_narrow(self, fails: float, attains: float) -> bool:
        """Whether the bracket is within the tolerance, or the knob has no value between."""
        between = fails < self.snap((fails + attains) / 2) < attains
        return attains - fails <= math.log1p(self.tolerance) or not between

    def lower(self, fails: float) -> float | None:
        """A little under the bracket, where that attains after all."""
        probes = (self.snap(fails - far * math.log1p(self.tolerance)) for far in PROBES)
        return next((x for x in probes if x < fails and self.attains(x)), None)

    def failing_under(self, x: float) -> float | None:
        """The highest x tried under this one that does not attain."""
        failed = [math.log(self.knob.factor(v)) for v, one in self.tries.items() if one.attainment < self.attain]
        return max((y for y in failed if y < x), default=None)


def search(
    replay: Callable[[float], Try],
    knob: Knob,
    first: float,
    attain: float,
    *,
    tolerance: float = TOLERANCE,
    most_replays: int = MOST_REPLAYS,
    step: float = STEP,
) -> tuple[tuple[Try, ...], bool]:
    """(replays in their order, whether attainment rose steadily) of a search for the least value that attains.

    From `first` in steps that grow (the first one multiplies the factor by `step`) until one side attains and the
    other does not, then by halves until the bracket is `tolerance` of the knob's factor wide. Attainment need not rise
    with the knob: two values just under the bracket are tried, too, and where one attains the search goes on under it.
    What attains further below a value that does not is not found.
    """
    state = _Search(replay, knob, attain, tolerance, most_replays, step)
    fails, attains = state.bracket(math.log(knob.factor(knob.inside(first))))
    steady = True
    while fails is not None and attains is not None:
        fails, attains = state.narrow(fails, attains, len(PROBES))
        met = state.lower(fails)
        if met is None:
            break
        steady = False
        under = state.failing_under(met)
        fails, attains = (under, met) if under is not None else state.bracket(met)
    return tuple(state.tries.values()), steady

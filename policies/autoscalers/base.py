"""What the autoscalers share: a pool at a tick, memory a pool, averages over a period."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.protocol import Actions, History, Seen


@dataclass(frozen=True)
class PoolSeen:
    """One pool of `Seen`, at a tick; rates are of the last interval."""

    t: float
    interval_s: float
    active: int
    starting: int
    running: float  # requests
    waiting: float  # requests routed and not admitted, and those that no active replica takes
    kv_fraction: float  # of the active replicas' KV capacity
    arrivals: float
    arrived_input_tokens: float
    completions: float
    completed_output_tokens: float
    mean_ttft_s: float  # NaN where nothing completed
    mean_e2e_s: float

    @property
    def present(self) -> float:
        """Requests in the pool, waiting or running."""
        return self.running + self.waiting

    @property
    def ordered(self) -> int:
        """Replicas active or starting."""
        return self.active + self.starting


def looks(t: float, seen: Seen) -> list[PoolSeen]:
    """Every pool of the fleet, at t."""
    columns = (
        seen.active.astype(int), seen.starting.astype(int), seen.running, seen.waiting + seen.queued,
        seen.kv_fraction, seen.arrivals, seen.arrived_input_tokens, seen.completions, seen.completed_output_tokens,
        seen.mean_ttft_s, seen.mean_e2e_s,
    )  # fmt: skip
    rows = zip(*(column.tolist() for column in columns), strict=True)  # numbers of Python's: a tenth of numpy's cost
    return [PoolSeen(t, seen.interval_s, *row) for row in rows]


@dataclass(frozen=True)
class Run:
    """What an autoscaler keeps between ticks: a memory of its own a pool."""

    fleet: Fleet
    memory: list[Any]


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """Counts replicas of every pool by itself, every control_s, from what is seen there; the common start."""

    control_s: float = 15.0
    router: str = "least-requests"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None
    lengths: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_control(self.control_s)

    def start(self, fleet: Fleet, history: History) -> Run:
        """A fresh memory for every pool."""
        rates = {(row["service"], row["lane"]): row for row in history.rates.iter_rows(named=True)}
        return Run(fleet, [self.remember(pool, rates[pool.service, pool.lane]) for pool in fleet.pools])

    def initial(self, fleet: Fleet, history: History, state: Run) -> Sequence[int] | None:
        """The common start."""
        return None

    def react(self, t: float, seen: Seen, state: Run) -> Actions:
        """The count of every pool, within its bounds."""
        pools = zip(state.fleet.pools, looks(t, seen), state.memory, strict=True)
        return Actions({p: pool.clamp(self.count(now, memory)) for p, (pool, now, memory) in enumerate(pools)})

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Any:
        """The memory a pool begins with; rates: its row of History.rates."""
        raise NotImplementedError

    def count(self, pool: PoolSeen, memory: Any) -> int:
        """Replicas it wants active or starting."""
        raise NotImplementedError


@dataclass
class Samples:
    """Values of the last period_s, as (time, value), oldest first."""

    period_s: float
    kept: deque[tuple[float, float]] = field(default_factory=deque)
    total: float = 0.0  # of those kept: some policies look thirty times a window

    def add(self, t: float, value: float) -> None:
        """One more; those of before t - period_s are dropped, one of that very instant is kept."""
        self.kept.append((t, value))
        self.total += value
        while self.kept[0][0] < t - self.period_s:
            self.total -= self.kept.popleft()[1]

    def mean(self, of_last_s: float | None = None) -> float:
        """The mean of those of the last of_last_s, by default the whole period; there is at least one."""
        since = self.kept[-1][0] - (self.period_s if of_last_s is None else of_last_s)
        if of_last_s is None and len(self.kept) > 1:
            edge, value = self.kept[0]
            return (self.total - value) / (len(self.kept) - 1) if edge <= since else self.total / len(self.kept)
        total, n = 0.0, 0
        for t, value in reversed(self.kept):  # a short window is the end of a long one
            if t <= since:
                break
            total, n = total + value, n + 1
        return total / n if n else self.kept[-1][1]

    def most(self) -> float:
        """The largest."""
        return max(value for _, value in self.kept)


def check_control(control_s: float) -> None:
    """ValueError for a time between two looks that no replay could keep."""
    if not 1 <= control_s <= 86_400:
        raise ValueError(f"control_s is {control_s}; a time from 1 to 86,400 s")


def positive(**values: float) -> None:
    """ValueError, with its name, for what is not above 0 or infinite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; a number above 0")


def not_negative(**values: float) -> None:
    """ValueError, with its name, for what is below 0 or infinite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; a number from 0")


def usual_load(pool: Pool, rates: dict[str, Any]) -> float:
    """Requests present a replica at the sustainable rate μ: the target where the user names none."""
    return max(float(rates["mean_running"]), 0.1)


def factors(**values: float) -> None:
    """ValueError, with its name, for what is below 1 or infinite."""
    for name, value in values.items():
        if not 1 <= value < math.inf:
            raise ValueError(f"{name} is {value}; a factor from 1")

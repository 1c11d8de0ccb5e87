"""Routers: one jitted function each, asked once an arrival for a replica of the pool (docs/routers.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

from lmaas.analysis.registry import Registry

from . import columns as c

ROUTERS = Registry(
    "router",
    group="lmaas.routers",
    builtin={
        "round-robin": "lmaas.replay.routing.round_robin:ROUTER",
        "random": "lmaas.replay.routing.random:ROUTER",
        "power-of-two": "lmaas.replay.routing.power_of_two:ROUTER",
        "least-requests": "lmaas.replay.routing.least_requests:ROUTER",
        "least-outstanding": "lmaas.replay.routing.least_outstanding:ROUTER",
        "least-kv": "lmaas.replay.routing.least_kv:ROUTER",
        "weighted": "lmaas.replay.routing.weighted:ROUTER",
        "weighted-least": "lmaas.replay.routing.weighted_least:ROUTER",
        "session-affinity": "lmaas.replay.routing.session_affinity:ROUTER",
        "prefix-aware": "lmaas.replay.routing.prefix_aware:ROUTER",
        "scored": "lmaas.replay.routing.scored:ROUTER",
        "preserve": "lmaas.replay.routing.preserve:ROUTER",
        "preserve-anticipated": "lmaas.replay.routing.preserve_anticipated:ROUTER",
        "aladdin": "lmaas.replay.routing.aladdin:ROUTER",
        "llumnix": "lmaas.replay.routing.llumnix:ROUTER",
    },
    listing="lmaas policies list",
)

REPLAY_SEED = -1.0  # as a router's parameter `seed`: the replay's own
SEEDS = 1 << 32
MOST_REFUSED = 1_000_000_000  # requests: more than are ever held
FARTHEST = 10_000  # iterations of a projected KV map
SHORTEST_S = 1e-3  # between heartbeats: what is held is asked for at each, so a day has 86 million
PLAIN = (c.WAITING, c.RUNNING, c.PREFILL_TOKENS, c.MAX_SEQS, c.KV_CAPACITY_TOKENS, c.PROFILE, c.INDEX)
ASKED_FOR = (c.OUTSTANDING_TOKENS, c.EXPECTED_TOKENS, c.KV_TOKENS)

Table = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Range:
    """What a parameter may be: low to high, both included; above: not low itself; whole: no fractions."""

    low: float = 0.0
    high: float = inf
    above: bool = False
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        if self.whole and value % 1 != 0:
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        what, since = "a whole number" if self.whole else "a number", "above" if self.above else "from"
        upto = f" to {self.high:,.0f}" if isfinite(self.high) else ""
        return f"{what} {since} {self.low:,g}{upto}"


SEED = Range(high=SEEDS - 1, whole=True)


@dataclass(frozen=True)
class Router:
    """A routing function with what it needs to see.

    route: decorated with jit.router; its docstring's first line is what the listing says. params go to it in order, a
    number each; a table as its rows, its columns, then its numbers; `seed` is the replay's where it is REPLAY_SEED.
    tokens: it reads the token and KV columns; prefix: it reads MATCHED_TOKENS; holds: it answers HOLD or OPEN, and is
    asked again every heartbeat_s (0: only when a replica becomes active), until `refusals` in a row are held on (0: all
    are asked; docs/replay.md). ahead: it reads the projected KV map, so many
    iterations; flight: it reads the requests in flight (columns.py; tokens come with either). weights: the score is
    this weighted sum of view columns, kept up to date by the kernel in O(log replicas) in place of a scan at each
    arrival, where that is faster (world.TREE_SLOTS); `route` is then not called. heartbeat_s, refusals, ahead and
    weights are numbers or names of parameters. extend_tokens: what a prediction that was outlived grows by; None: the
    expected rest, learned on the training part. ranges: what parameters may be, by name; of a table each number (a seed
    is always a whole one). Raises ValueError for numbers that cannot be.
    """

    route: Any
    params: Mapping[str, float | Table] = field(default_factory=dict)
    tokens: bool = False
    prefix: bool = False
    holds: bool = False
    heartbeat_s: float | str = 0.0
    refusals: float | str = 0
    weights: Mapping[int, float | str] | None = None
    extend_tokens: int | None = None
    ahead: float | str = 0
    flight: bool = False
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.params.items():
            allowed = self.ranges.get(name, SEED if name == "seed" else None)
            each = [value] if isinstance(value, int | float) else [x for row in value for x in row]
            for x in each:
                if allowed is not None and x not in allowed and not (name == "seed" and x == REPLAY_SEED):
                    raise ValueError(f"{name} is {_shown(value)}; it must be {allowed}")
        for column, weight in (self.weights or {}).items():
            if column not in PLAIN and not (self.tokens and column in ASKED_FOR):
                raise ValueError(f"column {column} has no weight: it is the request's, or tokens=True is missing")
            if not isfinite(self.number(weight)):
                raise ValueError(f"weight {weight} of column {column} is not finite")
        deep = self.horizon > 0 or self.flight
        if self.weights and deep:
            raise ValueError("weights are of columns of replicas: they see neither `ahead` nor `flight`")
        beat = self.number(self.heartbeat_s)
        if beat != 0.0 and not SHORTEST_S <= beat < inf:
            name = self.heartbeat_s if isinstance(self.heartbeat_s, str) else "heartbeat_s"
            raise ValueError(f"{name} is {beat:g}; seconds from {SHORTEST_S:g}, or 0 for no heartbeat")

        if self.most_refused < MOST_REFUSED and not self.holds:
            raise ValueError("refusals are of requests that a router holds: holds=True is missing")

    def number(self, given: float | str) -> float:
        """A number, or that of the parameter it names."""
        if not isinstance(given, str):
            return given
        value = self.params.get(given)
        if isinstance(value, int | float):
            return value
        raise ValueError(f"'{given}' is no parameter of column, heartbeat or look-ahead")

    @property
    def horizon(self) -> int:
        """Iterations of the projected KV map it reads; 0: it reads none."""
        ahead = self.number(self.ahead)
        if not 0 <= ahead <= FARTHEST or ahead != int(ahead):
            name = self.ahead if isinstance(self.ahead, str) else "ahead"
            raise ValueError(f"{name} is {ahead:g}; a whole number of iterations, at most {FARTHEST:,}")
        return int(ahead)

    @property
    def most_refused(self) -> int:
        """Refusals in a row that end a round of those asked again."""
        refusals = self.number(self.refusals)
        if not 0 <= refusals <= MOST_REFUSED or refusals != int(refusals):
            name = self.refusals if isinstance(self.refusals, str) else "refusals"
            raise ValueError(f"{name} is {refusals:g}; a whole number of requests, at most {MOST_REFUSED:,}")
        return int(refusals) or MOST_REFUSED

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads anything that changes with every iteration."""
        return self.tokens or self.flight or self.horizon > 0

    @property
    def numbers(self) -> list[float]:
        """The parameters as `route` gets them."""
        flat: list[float] = []
        for value in self.params.values():
            if isinstance(value, int | float):
                flat.append(float(value))
            else:
                flat += [len(value), len(value[0]), *(x for row in value for x in row)]
        return flat

    @property
    def linear(self) -> dict[int, float]:
        """Weights by column, in numbers; empty where the score is not linear."""
        return {column: float(self.number(weight)) for column, weight in (self.weights or {}).items()}

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.route.__doc__ or "").strip().partition("\n")[0]


def _shown(value: float | Table) -> str:
    """A value as its user would write it."""
    return f"{value:g}" if isinstance(value, int | float) else str([[float(f"{x:g}") for x in row] for row in value])

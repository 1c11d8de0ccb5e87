"""Policies that fail while they run, each in its own way."""

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lmaas.replay.protocol import Actions

ANSWERS = {
    "pool": Actions({99: 1}),
    "nan": Actions({0: float("nan")}),
    "negative": Actions({0: -1}),
    "half": Actions({0: 1.5}),
    "word": Actions({0: "many"}),
    "huge": Actions({0: 10**9}),
    "list": Actions([1, 2]),
    "nothing": None,
    "shape": Actions(reshape=[(0, 0, "no such profile")]),
    "release": Actions(release={0: float("inf")}),
    "key": Actions({"chat": 1}),
    "shapes": Actions(reshape=7),
    "where": Actions(reshape=[(99, 0, "test/small")]),
    "group": Actions(regroup=[(0, [0], ["no such profile"], None)]),
    "kind": Actions(replicas_of={(0, "no such profile"): 1}),
    "kinds": Actions(donate_of={0: 1}),
    "late": Actions(regroup=[(0, [0], ["test/small"], float("inf"))]),
    "apart": Actions(regroup=[(0, 0, ["test/small"], None)]),
    "weights": Actions(weights=[[1.0, -1.0]]),
    "unweighed": Actions(weights=[[1.0]]),
    "pair": Actions(migrate=[(0, 1)]),
    "odd": Actions(migrate=[(0.5, 0, 0)]),
    "nowhere": Actions(migrate=[(0, 99, 0)]),
    "beyond": Actions(migrate=[(0, 0, 1 << 30)]),
    "unborn": Actions(migrate=[(0, 0, 9_999)]),
}
BEGINS = {"short": [1], "void": [float("nan")] * 4, "minus": [-1] * 4, "text": "three", "crowd": [10**6] * 4}


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
        if self.how == "start":
            raise KeyError("nothing to start from")

    def initial(self, fleet, history, state):
        return BEGINS.get(self.how)

    def react(self, t, seen, state):
        if self.how == "raise":
            raise ZeroDivisionError("by design")
        return ANSWERS[self.how]


PLANS = {
    "nan": {"start_s": [0.0, 9000.0], "service": ["chat"] * 2, "region": ["eu"] * 2, "replicas": [1.0, float("nan")]},
    "negative": {"start_s": [9000.0], "service": ["chat"], "region": ["eu"], "replicas": [-2]},
    "null": {"start_s": [9000.0], "service": ["chat"], "region": ["eu"], "replicas": pl.Series([None], dtype=pl.Int64)},
    "columns": {"start_s": [9000.0], "replicas": [2]},
    "words": {"start_s": [9000.0], "service": ["chat"], "region": ["eu"], "replicas": ["two"]},
}


@dataclass(frozen=True)
class Misplanned:
    """Plans what cannot be."""

    how: str = "nan"
    router: str = "round-robin"
    lead_s: float = 60.0

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = "last-value"
    lengths: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def start(self, fleet, history):
        return self

    def initial(self, fleet, history, state):
        return None

    def decisions(self, starts_s, state):
        return starts_s

    def plan_all(self, demand, state):
        return "a plan" if self.how == "text" else pl.DataFrame(PLANS[self.how])

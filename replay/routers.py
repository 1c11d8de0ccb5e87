"""Routers: one jitted function each, scoring all replicas of a pool in one call (docs/routers.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmaas.analysis.registry import Registry

ROUTERS = Registry(
    "router",
    group="lmaas.routers",
    builtin={
        "round-robin": "lmaas.replay.routing.round_robin:ROUTER",
        "least-requests": "lmaas.replay.routing.least_requests:ROUTER",
        "least-outstanding": "lmaas.replay.routing.least_outstanding:ROUTER",
        "preserve": "lmaas.replay.routing.preserve:ROUTER",
    },
    listing="lmaas policies list",
)


@dataclass(frozen=True)
class Router:
    """A routing function with what it needs to see.

    route: compiled for jit.ROUTE; `params` go to it in order. `tokens`: it reads the token and KV columns; `prefix`: it
    reads MATCHED_TOKENS; `holds`: it answers HOLD or OPEN, and is asked again every `heartbeat_s` (0: only when a
    replica becomes active). `weights`: the score is this weighted sum of view columns, kept up to date by the kernel in
    O(log replicas) instead of a scan at each arrival; `route` is then not called. `extend_tokens`: what a prediction
    that was outlived grows by; None: the expected rest, learned on the training part.
    """

    route: Any
    params: Mapping[str, float] = field(default_factory=dict)
    tokens: bool = False
    prefix: bool = False
    holds: bool = False
    heartbeat_s: float = 0.0
    weights: Mapping[int, float] | None = None
    extend_tokens: int | None = None

"""What a policy sees and says: the protocol between `policies`, which implements it, and the replay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from .fleet import Fleet


@dataclass(frozen=True)
class Seen:
    """The fleet at an instant, one entry a pool in every array (f8[pools]); rates are of the last interval.

    Outstanding tokens: prompt tokens not yet prefilled plus predicted remaining output. True lengths are not here.
    """

    t: float  # seconds of trace time
    interval_s: float  # since the policy last looked
    active: np.ndarray
    starting: np.ndarray
    draining: np.ndarray
    donated: np.ndarray
    queued: np.ndarray  # requests waiting for a pool without an active replica
    held: np.ndarray  # requests in hold queues
    waiting: np.ndarray  # requests routed to a replica and not yet admitted
    running: np.ndarray
    outstanding_tokens: np.ndarray
    kv_fraction: np.ndarray  # of the active replicas' KV capacity, 0 to 1
    arrivals: np.ndarray  # requests
    arrived_input_tokens: np.ndarray
    completions: np.ndarray
    completed_output_tokens: np.ndarray


@dataclass(frozen=True)
class Actions:
    """What a policy wants done at this instant, in this order (docs/replay.md).

    replicas[pool]: the count it wants starting or active. donate[pool]: replicas to lend as spot. reshape: (pool,
    replica, profile name) to restart with another profile. migrate: (request, pool, replica) to move with its KV.
    release[pool]: held requests to send on.
    """

    replicas: Mapping[int, int] = field(default_factory=dict)
    donate: Mapping[int, int] = field(default_factory=dict)
    reshape: Sequence[tuple[int, int, str]] = ()
    migrate: Sequence[tuple[int, int, int]] = ()
    release: Mapping[int, int] = field(default_factory=dict)


NOTHING = Actions()


@dataclass(frozen=True)
class History:
    """What a policy may learn from before the evaluated part begins.

    rates: sustainable rates a replica, one row a service and lane: service, lane, requests_s, prompt_tokens_s,
    output_tokens_s, total_tokens_s, mean_running. last_window: demand of the last training window: service, origin,
    metric, value.
    window_demand: the same for every training window. Times in seconds of the trace.
    """

    start_s: float
    end_s: float
    window_s: float
    rates: pl.DataFrame
    window_demand: pl.DataFrame


@runtime_checkable
class Policy(Protocol):
    """A frozen dataclass whose fields are its parameters; it remembers nothing but the state it is handed back.

    Optional, looked for by name: `plan(t, demand, seen, state)` at `decisions(start_s, end_s, state)`;
    `plan_all(demand, state)`; `react(t, seen, state)` every `control_s`. Class attributes: `foresight` (it reads
    the future), `forecaster` (name in FORECASTERS, or "truth"; None: no demand), `lengths` ("predicted", "true" or
    None), `router`, `instant_start`.
    """

    @property
    def router(self) -> str:
        """Name of the router this policy brings."""
        ...

    def start(self, fleet: Fleet, history: History) -> Any:
        """The state of a run of its own."""
        ...

    def initial(self, fleet: Fleet, history: History, state: Any) -> Sequence[int] | None:
        """Replicas a pool to begin with; None: the common start."""
        ...

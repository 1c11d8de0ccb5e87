"""What a policy sees and says: the protocol between `policies`, which implements it, and the replay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from lmaas.analysis.trace import TIERS

from .fleet import Fleet


@dataclass(frozen=True)
class Seen:
    """The fleet at an instant, one entry a pool in every array (f8[pools]); rates are of the last interval.

    Outstanding tokens: prompt tokens not yet prefilled plus predicted remaining output. True lengths are not here.
    `replicas` and `requests` say the same one by one; at window fidelity there are none (LookupError).
    """

    t: float  # seconds of trace time
    interval_s: float  # since the policy last looked
    active: np.ndarray
    starting: np.ndarray
    draining: np.ndarray
    donated: np.ndarray
    queued: np.ndarray  # requests waiting for a pool without an active replica
    held: np.ndarray  # requests in hold queues
    waiting: np.ndarray  # requests routed to an active replica and not yet admitted
    running: np.ndarray  # on active replicas
    outstanding_tokens: np.ndarray  # of the active replicas
    kv_fraction: np.ndarray  # of the active replicas' KV capacity, 0 to 1
    arrivals: np.ndarray  # requests
    arrived_input_tokens: np.ndarray
    completions: np.ndarray
    completed_output_tokens: np.ndarray
    mean_ttft_s: np.ndarray  # of the completed, from when they were first sent, without overhead; NaN where none did
    mean_e2e_s: np.ndarray
    # prompt tokens of the arrivals that are of tier batch; empty: tiers are not told apart (window fidelity)
    arrived_batch_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0))
    closer: "Closer | None" = field(default=None, repr=False, compare=False)

    @property
    def replicas(self) -> "SeenReplicas":
        """Every replica that is starting, active or draining."""
        return self._closer().replicas()

    @property
    def requests(self) -> "SeenRequests":
        """Every request under way. Costs a pass over them: for policies that act on single requests."""
        return self._closer().requests()

    def _closer(self) -> "Closer":
        if self.closer is None:
            raise LookupError("single replicas and requests are seen at request fidelity only")
        return self.closer


@dataclass(frozen=True)
class SeenReplicas:
    """One entry a replica in every array, by pool and number."""

    pool: np.ndarray  # i8
    replica: np.ndarray  # i8, its number within the pool
    state: np.ndarray  # text: starting, active or draining
    profile: np.ndarray  # text: the profile's name
    waiting: np.ndarray  # f8, requests
    running: np.ndarray  # f8
    outstanding_tokens: np.ndarray  # f8
    kv_fraction: np.ndarray  # f8, of its own capacity
    ahead: np.ndarray  # f8[replicas, iterations], KV anticipated so many iterations from now, of its own capacity
    # i8, output tokens of all requests completed there so far beyond what was predicted at their arrival
    surplus_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class SeenRequests:
    """One entry a request in every array, by number: on a replica, in a pool's queue, held, or on its way.

    Those yet to be sent are not there: later turns of a session, clients that wait before they try again.
    """

    request: np.ndarray  # i8, in order of arrival; what Actions.migrate takes
    pool: np.ndarray  # i8
    replica: np.ndarray  # i8, its number within the pool; -1: on none
    where: np.ndarray  # text: waiting, running, queued, held or travelling
    tier: np.ndarray  # i8, row of lmaas.analysis.trace.TIERS
    arrival_s: np.ndarray  # f8
    input_tokens: np.ndarray  # i8
    predicted_tokens: np.ndarray  # i8, of output, all in all
    foretold_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # i8, predicted at arrival
    generated_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # i8
    unfilled_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # i8, to be prefilled
    first_s: np.ndarray = field(default_factory=lambda: np.zeros(0))  # f8, of its first token; inf: not yet
    due_s: np.ndarray = field(default_factory=lambda: np.zeros(0))  # f8, when its client wants it done; NaN: not said

    def by_tier(self, where: str, pools: int) -> np.ndarray:
        """Requests so placed, i8[pools, tiers]."""
        table = np.zeros((pools, len(TIERS)), np.int64)
        here = self.where == where
        np.add.at(table, (self.pool[here], self.tier[here]), 1)
        return table


class Closer(Protocol):
    """What looks closer while the policy decides."""

    def replicas(self) -> SeenReplicas:
        """As the fleet stands."""
        ...

    def requests(self) -> SeenRequests:
        """As the fleet stands."""
        ...

    def close(self) -> None:
        """The tick is over: neither can be asked for any more."""
        ...


@dataclass(frozen=True)
class Actions:
    """What a policy wants done at this instant, in this order (docs/replay.md).

    replicas[pool]: the count it wants starting or active. replicas_of[pool, profile name]: the same of the pool's
    replicas of that profile, and of these only. donate[pool], donate_of[pool, profile name]: replicas to lend as spot.
    reshape: (pool, replica, profile name) to restart with another profile. regroup: (pool, replicas, profile names,
    start_s) to start one of each profile on the machines of these replicas, within start_s seconds of their end (None:
    drawn, as after a model swap). migrate: (request, pool, replica) to move with its KV. release[pool]: held requests
    to send on. weights: from now on those of the router `weighted` (rows: kinds of request, columns: profiles).
    """

    replicas: Mapping[int, int] = field(default_factory=dict)
    replicas_of: Mapping[tuple[int, str], int] = field(default_factory=dict)
    donate: Mapping[int, int] = field(default_factory=dict)
    donate_of: Mapping[tuple[int, str], int] = field(default_factory=dict)
    reshape: Sequence[tuple[int, int, str]] = ()
    regroup: Sequence[tuple[int, Sequence[int], Sequence[str], float | None]] = ()
    migrate: Sequence[tuple[int, int, int]] = ()
    release: Mapping[int, int] = field(default_factory=dict)
    weights: Sequence[Sequence[float]] | None = None


NOTHING = Actions()


@dataclass(frozen=True)
class History:
    """What a policy may learn from before the evaluated part begins.

    rates: sustainable rates a replica, one row a service and lane: service, lane, requests_s, prompt_tokens_s,
    output_tokens_s, total_tokens_s, mean_running. last_window: demand of the last training window: service, origin,
    metric, value.
    window_demand: the same for every training window. known: the requests that were done by the end: service,
    scored_tier, input_tokens, output_tokens, limit_ttft_s, limit_tpot_s (inf: not asked). Times in seconds of the
    trace.
    """

    start_s: float
    end_s: float
    window_s: float
    rates: pl.DataFrame
    window_demand: pl.DataFrame
    own: Any = None
    known: pl.DataFrame = field(default_factory=pl.DataFrame)


@runtime_checkable
class Policy(Protocol):
    """A frozen dataclass whose fields are its parameters; it remembers nothing but the state it is handed back.

    Optional, looked for by name: `plan(t, demand, seen, state)` at `decisions(start_s, end_s, state)`;
    `plan_all(demand, state)`; `react(t, seen, state)` every `control_s`. Attributes, of the class or the instance:
    `foresight` (it reads the future), `forecaster` (name in FORECASTERS, or "truth"; None: no demand), `lengths` (a
    length predictor, or "true"; None: it has no use for them), `router`, `instant_start` (replicas start at once).
    Optional: `demand_error`, `length_error`, injected into the truth; `horizon` (policies.ahead: windows and tiers
    other than the scored ones); `brings`, `fitted` (policies.brought: what it sets of the fleet and makes of training);
    `ahead_iterations` and `extension`: the map that SeenReplicas.ahead shows (replay.anticipation; without them it has
    no columns); `reacting`: False where `react` is not to be asked; `adopt(t, counts, fresh, seen, state)`: makes one
    count of its plan's and its own (policies.reacting.told). Of `plan_all` and `plan` the former is taken; `plan` alone
    is asked at its decisions, with what it sees then.
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

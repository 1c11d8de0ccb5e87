"""Chiron: replicas kept spare for interactive bursts, and replicas added for batch work by its deadlines."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmaas.analysis.trace import TIERS
from lmaas.replay.fleet import Pool
from lmaas.replay.protocol import Actions, Seen, SeenRequests

from ..knobs import Knob
from .base import Autoscaler, PoolSeen, Run, looks, positive, usual_load

BATCH = TIERS.index("batch")


@dataclass
class Two:
    """Requests a replica takes at once, tokens/s it serves, and the replicas added for batch work so far."""

    batch: float
    tokens_s: float
    added: int = 0


@dataclass(frozen=True)
class Waiting:
    """Batch requests of a pool that wait: when each is due, and its prompt and predicted output tokens."""

    due_s: np.ndarray
    tokens: np.ndarray


NONE_WAITING = Waiting(np.zeros(0), np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class Chiron(Autoscaler):
    """Interactive: max(1, ceil(busy / theta)). Batch: one more until no group of waiting requests would be late.

    busy: replicas that interactive requests keep busy. Groups: waiting batch requests due within group_s of each
    other; a group is late where the tokens before it, over the tokens/s of the replicas that are not busy, take longer
    than it has. All added for batch are released when none of it is left. Source: "Hierarchical Autoscaling for Large
    Language Model Serving with Chiron" (arXiv 2501.08090), its rules as other implementations give them.
    *Ours:* one pool in place of its interactive, mixed and batch instances: replicas that stand spare for interactive
    bursts serve batch work, as its mixed ones do. busy = interactive requests / batch_size, as if replicas were filled
    one after the other: where a router spreads requests all are busy, and the rule would treble the fleet at every
    look. batch_size is fixed, by default the mean number of requests at the sustainable rate μ: its local loop, which
    sizes the running batch by latency and throughput, is not modelled, since no engine here changes max_seqs while it
    runs. Batch requests are due when the trace says, else deadline_s after they arrive. Tokens/s are μ's.
    """

    theta: float = 1 / 3  # busy over all: one third busy absorbs a burst of three times the load
    batch_size: float | None = None
    group_s: float = 3600.0
    deadline_s: float = 86_400.0
    control_s: float = 10.0

    knob: ClassVar[Knob] = Knob("theta", offset=0.0, least=0.05, most=1.0, falls=True)

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        positive(deadline_s=self.deadline_s)
        if not 1 <= self.group_s < math.inf:
            raise ValueError(f"group_s is {self.group_s}; a time from 1 s")
        if not 0 < self.theta <= 1:
            raise ValueError(f"theta is {self.theta}; a share above 0, at most 1")
        if self.batch_size is not None:
            positive(batch_size=self.batch_size)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> Two:
        """Nothing added for batch work."""
        return Two(self.batch_size or usual_load(pool, rates), max(float(rates["total_tokens_s"]), 1e-9))

    def react(self, t: float, seen: Seen, state: Run) -> Actions:
        """The count of every pool; single requests are looked at only where batch work may be among them."""
        requests = seen.requests if seen.closer is not None else None  # windows have none: all count as interactive
        if requests is not None and not (requests.tier == BATCH).any():
            requests = None
        counts = {}
        for p, (pool, now) in enumerate(zip(state.fleet.pools, looks(t, seen), strict=True)):
            all_batch, waiting = self.batch_work(p, requests)
            counts[p] = pool.clamp(self.both(now, all_batch, waiting, state.memory[p]))
        return Actions(counts)

    def batch_work(self, p: int, requests: SeenRequests | None) -> tuple[int, Waiting]:
        """(batch requests on a replica of the pool or in its queue, those of them that wait and those held for it)."""
        if requests is None:
            return 0, NONE_WAITING
        mine = (requests.pool == p) & (requests.tier == BATCH)
        waiting = mine & np.isin(requests.where, ("waiting", "queued", "held"))
        tokens = requests.input_tokens[waiting] + requests.predicted_tokens[waiting]
        inside = np.isin(requests.where, ("waiting", "queued", "running"))
        due_s = np.where(np.isnan(requests.due_s), requests.arrival_s + self.deadline_s, requests.due_s)[waiting]
        return int((mine & inside).sum()), Waiting(due_s, tokens)

    def count(self, pool: PoolSeen, memory: Two) -> int:
        """Where all requests are interactive."""
        return self.both(pool, 0, NONE_WAITING, memory)

    def both(self, pool: PoolSeen, batch: int, waiting: Waiting, memory: Two) -> int:
        """Replicas for interactive requests and those added for batch work.

        batch: requests of the pool that are batch work; waiting: of these, with the held ones, those that wait.
        """
        busy = max(pool.present - batch, 0.0) / memory.batch
        interactive = max(1, math.ceil(busy / self.theta - 1e-9))
        if not batch and not len(waiting.due_s):
            memory.added = 0
            return interactive
        spare = max(interactive - math.ceil(busy), 0)
        memory.added = max(memory.added, self.lacking(pool.t, spare, waiting, memory.tokens_s))
        return interactive + memory.added

    def lacking(self, t: float, spare: int, waiting: Waiting, tokens_s: float) -> int:
        """Replicas beside the spare ones with which no group would be late."""
        if not len(waiting.due_s):
            return 0
        group = np.floor(waiting.due_s / self.group_s).astype(np.int64)
        groups, which = np.unique(group, return_inverse=True)
        tokens = np.bincount(which, waiting.tokens, minlength=len(groups))
        due_s = np.full(len(groups), np.inf)
        np.minimum.at(due_s, which, waiting.due_s)
        before = np.concatenate([[0.0], np.cumsum(tokens)[:-1]])
        left_s = np.maximum(due_s - t, 1.0)  # what is overdue should start within the second
        return max(0, math.ceil(float((before / (tokens_s * left_s)).max()) - spare - 1e-9))

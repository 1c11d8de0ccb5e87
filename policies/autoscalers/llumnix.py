"""Llumnix's autoscaling on freeness: free KV blocks a request."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from lmaas.replay.fleet import Pool
from lmaas.replay.protocol import Actions, Seen, SeenReplicas, SeenRequests

from ..knobs import Knob, check_headroom, check_switches
from .base import Autoscaler, PoolSeen, Run, not_negative


@dataclass(frozen=True, kw_only=True)
class Llumnix(Autoscaler):
    """+1 where the mean freeness is below up_freeness, -1 where it were above down_freeness without one of them.

    freeness = (free blocks - blocks that waiting prompts need) / requests, over all replicas. Its code adds empty
    replicas until the mean passes, and gives an empty one infinite blocks: the first one always does. Ours: a waiting
    prompt needs the mean prompt's blocks (single queues are not looked into), and starting replicas count as free, so
    that one lack is not answered every ten seconds; both thresholds are multiplied by 1 + headroom. Its dispatch is the
    router `llumnix`. Thresholds and the rule: AlibabaPAI/llumnix, global_scheduler/scaling_scheduler.py (OSDI'24),
    `avg_load`, where load is minus freeness.

    migrate: at every look requests move, too, as its migration_policy.py has it (`moves`); at request fidelity only.
    """

    up_freeness: float = 10.0  # blocks a request
    down_freeness: float = 60.0
    migrate: bool = False
    migrate_freeness: float = 3.0  # blocks a request below which a replica gives one away, above which it takes one
    control_s: float = 10.0
    headroom: float = 0.0
    router: str = "llumnix"

    knob: ClassVar[Knob] = Knob(most=99.0)  # of short requests ten times the thresholds are still few blocks

    def __post_init__(self) -> None:
        Autoscaler.__post_init__(self)
        not_negative(up_freeness=self.up_freeness, down_freeness=self.down_freeness)
        not_negative(migrate_freeness=self.migrate_freeness)
        check_switches(migrate=self.migrate)
        if self.down_freeness < self.up_freeness:
            raise ValueError(f"down_freeness is {self.down_freeness}; at least up_freeness")
        check_headroom(self.headroom)

    def remember(self, pool: Pool, rates: dict[str, Any]) -> tuple[int, float]:
        """KV blocks a replica, and those of a mean prompt."""
        blocks = pool.profile.kv_tokens // pool.profile.block
        prompt = float(rates["prompt_tokens_s"]) / max(float(rates["requests_s"]), 1e-12)
        return blocks, math.ceil(prompt / pool.profile.block)

    def react(self, t: float, seen: Seen, state: Run) -> Actions:
        """Counts, and where it migrates who goes where."""
        actions = super().react(t, seen, state)
        if not self.migrate or seen.closer is None:
            return actions
        replicas, requests = seen.replicas, None
        orders: list[tuple[int, int, int]] = []
        for p, (pool, (_, prompt)) in enumerate(zip(state.fleet.pools, state.memory, strict=True)):
            near = _near(p, pool, replicas, prompt)
            if near.pressed(self.migrate_freeness):
                requests = seen.requests if requests is None else requests
                orders += moves(p, near, requests, pool.profile.block, self.migrate_freeness)
        return replace(actions, migrate=orders)

    def count(self, pool: PoolSeen, memory: tuple[int, float]) -> int:
        """One more, one fewer, or as it is."""
        if self.freeness(pool, pool.ordered, memory) < self.up_freeness * (1 + self.headroom):
            return pool.ordered + 1
        spare = self.down_freeness * (1 + self.headroom)
        if pool.ordered > 1 and self.freeness(pool, pool.ordered - 1, memory) > spare:
            return pool.ordered - 1
        return pool.ordered

    def freeness(self, pool: PoolSeen, replicas: int, memory: tuple[int, float]) -> float:
        """Free blocks a request if there were so many replicas; infinite without requests."""
        blocks, prompt = memory
        if pool.present == 0:
            return math.inf
        used = pool.kv_fraction * pool.active * blocks
        free = max(0.0, replicas * blocks - used)
        return (free - pool.waiting * prompt) / pool.present


@dataclass(frozen=True)
class Near:
    """A pool's active replicas, one entry each: number, blocks that are free, requests."""

    replica: np.ndarray
    free: np.ndarray  # f8, less what waiting prompts need
    present: np.ndarray  # f8, requests

    @property
    def freeness(self) -> np.ndarray:
        """f8, blocks a request; infinite without requests."""
        return _a_request(self.free, self.present)

    def pressed(self, threshold: float) -> bool:
        """Whether one has less than the threshold and another more."""
        return bool((self.freeness < threshold).any() and (self.freeness > threshold).any())


def moves(p: int, near: Near, requests: SeenRequests, block: int, threshold: float) -> list[tuple[int, int, int]]:
    """(request, pool, replica): from the k-th least free replica to the k-th freest, one each.

    Of replicas below the threshold and above it; where the freer one stays above it and the two come nearer to each
    other without changing places. The running request with the shortest prompt goes (Llumnix: that is shortest so far,
    which is not seen here).
    """
    order = np.argsort(near.freeness, kind="stable")
    sources = [i for i in order if near.freeness[i] < threshold]
    targets = [i for i in order[::-1] if near.freeness[i] > threshold]
    found = []
    for i, j in zip(sources, targets, strict=False):
        here = (requests.pool == p) & (requests.replica == near.replica[i]) & (requests.where == "running")
        if not here.any():
            continue
        running = np.flatnonzero(here)
        one = running[np.argmin(requests.input_tokens[running])]
        size = math.ceil(int(requests.input_tokens[one]) / block)
        left = _a_request(near.free[i] + size, near.present[i] - 1)
        right = _a_request(near.free[j] - size, near.present[j] + 1)
        before, after = near.freeness[j] - near.freeness[i], right - left
        if right >= threshold and 0 < after < before:
            found.append((int(requests.request[one]), p, int(near.replica[j])))
    return found


def _near(p: int, pool: Pool, replicas: SeenReplicas, prompt: float) -> Near:
    """prompt: blocks of a mean one."""
    here = (replicas.pool == p) & (replicas.state == "active")
    blocks = {profile.name: profile.kv_tokens // profile.block for profile in pool.profiles}
    room = np.array([blocks.get(str(name), 0) for name in replicas.profile[here]], np.float64)
    free = room * (1 - replicas.kv_fraction[here]) - replicas.waiting[here] * prompt
    return Near(replicas.replica[here], free, replicas.running[here] + replicas.waiting[here])


def _a_request(free: Any, present: Any) -> np.ndarray:
    """f8, infinite where there are no requests."""
    return np.asarray(np.where(present > 0, free / np.maximum(present, 1), np.inf))

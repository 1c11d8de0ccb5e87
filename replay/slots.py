"""A replay's replicas in the kernel's arrays: put into a slot, found there, counted."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .kernel import layout as k
from .kernel.state import State, fresh_replica, more_slots
from .lives import Lives
from .machines import Machines
from .world import World, cache_room

Ask = Callable[[int, float, int], int]  # a command to the kernel: what, t, which


class Slots:
    """Every replica's slot in the kernel, its machines, its life so far.

    `ask` runs a command of the kernel; `state` is replaced where arrays grow.
    """

    def __init__(self, world: World, state: State, ask: Ask) -> None:
        self.world, self.state, self.ask = world, state, ask
        self.lives = Lives()
        self.machines = Machines(world)
        self.born = [0] * len(world.fleet.pools)  # replicas numbered so far
        self._columns: tuple[Any, list[tuple[int, np.ndarray]]] = (None, [])  # of `state`, by pool: see _stretch

    def _slot(self, pool: int) -> int:
        first, slots = int(self.state.pool.first[pool]), int(self.state.pool.slots[pool])
        free = np.flatnonzero(self.state.rep.state[first : first + slots] == k.FREE)
        if len(free):
            return first + int(free[0])
        counts = self.state.pool.slots.copy()
        counts[pool] *= 2
        self.state = more_slots(self.state, counts)
        self.ask(k.ARRANGE, 0.0, 0)
        return self._slot(pool)

    def place(self, pool: int, t: float, state: int, profile: int, index: int | None = None) -> int:
        """A fresh replica in a free slot of the pool, which is returned; the pool's rows are yet to be arranged."""
        slot, shape = self._slot(pool), self.world.profiles[profile]
        if index is None:
            index = self.born[pool]
            self.born[pool] += 1
        record = self.lives.born(pool, index, profile, shape.gpus_per_replica)
        self.machines.occupy(pool, profile, t)
        rep = fresh_replica(self.state, slot)
        values = {
            "pool": pool, "record": record, "index": index, "profile": profile, "state": state, "block": shape.block,
            "blocks": shape.kv_tokens // shape.block, "max_seqs": shape.max_seqs, "max_batch": shape.max_batch_tokens,
        }  # fmt: skip
        for field, value in values.items():
            rep[field] = value
        if int(self.state.ctl.cached[0]):
            rep.per_hash = int(self.state.ctl.hash_tokens[0]) // shape.block
            per_slot = int((self.state.rep.blocks // np.maximum(self.state.rep.per_hash, 1)).sum())
            self.state = cache_room(self.state, per_slot + 1)
        self.lives.note(record, t, "active" if state == k.ACTIVE else "starting")
        return slot

    def _stretch(self, pool: int) -> tuple[int, np.ndarray]:
        """The pool's first slot, and what every slot of it is in; as they stand, also later."""
        if self._columns[0] is not self.state.rep:  # a record array's fields are slow to get, and ticks ask a lot
            rep, pools = self.state.rep.view(np.ndarray), self.state.pool.view(np.ndarray)
            stretches = zip(pools["first"].tolist(), pools["slots"].tolist(), strict=True)
            now = rep["state"]
            self._columns = (self.state.rep, [(first, now[first : first + slots]) for first, slots in stretches])
        return self._columns[1][pool]

    def live(self, pool: int, *states: int) -> np.ndarray:
        """Slots of the pool's replicas in these states."""
        first, now = self._stretch(pool)
        among = now == states[0]  # np.isin takes ten times as long on so few
        for state in states[1:]:
            among |= now == state
        return first + np.flatnonzero(among)

    def count(self, pool: int, profile: int | None = None) -> int:
        """Replicas of the pool that start or are active; of the profile, where one is named."""
        if profile is not None:
            return int(np.count_nonzero(self.state.rep.profile[self.live(pool, k.STARTING, k.ACTIVE)] == profile))
        _, now = self._stretch(pool)
        return int(np.count_nonzero(now == k.STARTING)) + int(np.count_nonzero(now == k.ACTIVE))

    def numbered(self, pool: int, indexes: Sequence[int]) -> list[int]:
        """Slots of the pool's starting or active replicas of these numbers, by number."""
        live = self.live(pool, k.STARTING, k.ACTIVE).tolist()
        wanted = set(indexes)
        return sorted(
            (slot for slot in live if int(self.state.rep.index[slot]) in wanted),
            key=lambda slot: int(self.state.rep.index[slot]),
        )

    def slot_of(self, record: int) -> int:
        """The slot of a replica that is not off."""
        rep = self.state.rep
        return int(np.flatnonzero((rep.record == record) & (rep.state != k.FREE))[0])

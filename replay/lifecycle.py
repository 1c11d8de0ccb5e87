"""Replicas coming and going: started, drained, lent, reshaped, lost, within the machines a region has."""

from collections.abc import Sequence

import numpy as np

from .columns import OUTSTANDING_TOKENS
from .kernel import layout as k
from .kernel.state import State
from .regroups import Group, Regroups
from .slots import Ask, Slots
from .world import World


class Lifecycle(Slots):
    """What becomes of every replica of a replay. Rules: docs/replay.md."""

    def __init__(self, world: World, state: State, ask: Ask, seed: int, instant_start: bool) -> None:
        super().__init__(world, state, ask)
        self.seed, self.instant_start = seed, instant_start
        self.actions_s: list[float] = []
        pools = len(world.fleet.pools)
        self.denied = np.zeros(pools, np.int64)
        self.denied_down = np.zeros(pools, np.int64)  # of these, because their region was down
        self.lent: list[int] = []  # records donated and on their machines, oldest first
        self.lending: set[int] = set()  # records that drain to be donated
        self.reshaping: dict[int, int] = {}  # record that drains -> profile row it comes back with
        self.regroups = Regroups()
        self.ready: list[int] = []  # records that started in no time and are yet to be activated
        self.down: dict[str, float] = {}  # region -> when it returns

    def harvest(self) -> None:
        """What went off since the last look, in order: slot and machines are free, unless it is lent or comes back."""
        rep = self.state.rep
        ended = np.flatnonzero(rep.view(np.ndarray)["state"] == k.ENDED)
        if not len(ended):
            return
        for slot in ended[np.lexsort((rep.index[ended], rep.pool[ended], rep.off_s[ended]))]:
            one = rep[slot]
            record, pool, off_s = int(one.record), int(one.pool), float(one.off_s)
            self.lives.busy_s[record] = float(one.busy_s)
            one.state = k.FREE
            if record in self.lending:
                self.lending.remove(record)
                self.lives.note(record, off_s, "donated")
                self.lent.append(record)
                self.lent.sort(key=lambda r: (self.lives.log[r][-1][0], self.lives.who[r][:2]))
                continue
            if group := self.regroups.ended(record):
                if not group.left:
                    self.switch_off(group.empty, off_s)
                    self._follow(group, off_s)
                continue
            self.switch_off([record], off_s)
            if record in self.reshaping:
                self._come_back(pool, off_s, self.reshaping.pop(record), self.lives.who[record][1])

    def _follow(self, group: Group, t: float) -> int:
        """What takes the place of a group starts, within the pool's bound, where it finds machines; how many do."""
        place, started = self.world.fleet.pools[group.pool], 0
        down = place.region in self.down
        for profile in group.profiles:
            more = self._expected(group.pool) + 1
            if not down and place.clamp(more) >= more and self.machines.has_room(group.pool, profile):
                self._begin(group.pool, t, "swap", profile, lasts_s=group.lasts_s)
                started += 1
            else:
                self.denied[group.pool] += 1
                self.denied_down[group.pool] += int(down)
        self._activate_ready(t)
        return started

    def _come_back(self, pool: int, t: float, profile: int, index: int) -> None:
        """A reshaped replica starts with its other profile, where that finds machines."""
        if self.machines.has_room(pool, profile):
            self._begin(pool, t, "swap", profile, index)
            self._activate_ready(t)
        else:
            self.denied[pool] += 1

    # --- starting ---

    def _startup_s(self, pool: int, kind: str, profile: int, index: int) -> float:
        if self.instant_start:
            return 0.0
        startup = self.world.profiles[profile].startup_s
        # by pool and index, so that every policy meets the same start-up times
        return startup.draw(getattr(startup, kind), np.random.default_rng([self.seed, pool, index]))

    def _begin(
        self, pool: int, t: float, kind: str, profile: int, index: int | None = None, lasts_s: float | None = None
    ) -> None:
        """A replica starts at t; at once active where its start takes no time. lasts_s: not drawn."""
        if lasts_s is None or self.instant_start:
            lasts_s = self._startup_s(pool, kind, profile, self.born[pool] if index is None else index)
        slot = self.place(pool, t, k.STARTING, profile, index)
        rep = self.state.rep[slot]
        if lasts_s == 0:
            self.lives.note(int(rep.record), t, "active")
            self.ready.append(int(rep.record))
            return
        rep.ready_s = t + lasts_s
        self.lives.promise(int(rep.record), t + lasts_s, "active")
        self.ask(k.STARTS, t + lasts_s, slot)

    def _activate_ready(self, t: float) -> None:
        """Those of one order become active by number, whatever machines they came from."""
        for record in sorted(self.ready, key=lambda r: self.lives.who[r][:2]):
            self.ask(k.ACTIVATE, t, self.slot_of(record))
        self.ready.clear()

    def _start_one(self, pool: int, t: float, profile: int | None = None) -> bool:
        """Reclaim a lent replica, start on free machines, or take another pool's lent one; False: denied."""
        own = int(self.world.own[pool]) if profile is None else profile
        region = self.world.fleet.pools[pool].region
        if region in self.down:
            return False
        for record in self.lent:
            lender, index, its, _ = self.lives.who[record]
            if lender == pool and profile in (None, its):
                self.vacate(record, t)
                self._begin(pool, t, "warm", its, index)
                return True
        if self.machines.has_room(pool, own):
            self._begin(pool, t, "cold", own)
            return True
        return self._swap(pool, own, t)

    def _swap(self, pool: int, own: int, t: float) -> bool:
        """Send off as many lent replicas of other pools, the oldest first, as the new one's GPUs need."""
        going: list[int] = []
        for record in self.lent:
            lender, _, profile, _ = self.lives.who[record]
            if self.machines.key(lender, profile) != self.machines.key(pool, own):
                continue
            going.append(record)
            if self.machines.has_room(pool, own, spared=sum(self.lives.who[r][3] for r in going)):
                for gone in going:
                    self.vacate(gone, t)
                self._begin(pool, t, "swap", own)
                return True
        return False

    def vacate(self, record: int, t: float) -> None:
        """A lent replica gives its machines back."""
        self.lent.remove(record)
        self.switch_off([record], t)

    def switch_off(self, records: Sequence[int], t: float) -> None:
        """Their logs end, and their machines are free."""
        for record in records:
            pool, _, profile, _ = self.lives.who[record]
            self.lives.note(record, t, "off")
            self.machines.vacate(pool, profile, t)

    # --- scaling ---

    def _expected(self, pool: int, profile: int | None = None) -> int:
        """Those that start or are active, that come back reshaped, and that follow others on their machines."""
        turning = [self.reshaping.get(int(self.state.rep.record[s])) for s in self.live(pool, k.DRAINING)]
        back = [other for other in turning if other is not None and profile in (None, other)]
        return self.count(pool, profile) + len(back) + self.regroups.coming(pool, profile)

    def _gives_way(self, record: int) -> bool:
        """Whether it drains for another, so that it is not to be taken back."""
        return record in self.reshaping or record in self.regroups

    def scale(self, pool: int, wanted: int, t: float, profile: int | None = None) -> None:
        """Bring the pool to `wanted` starting or active replicas, within its bounds and its region's machines.

        profile: of its replicas of that profile, and of these only; the bounds are of all together.
        """
        if profile is None:
            wanted = self.world.fleet.pools[pool].clamp(wanted)
            if not self.reshaping and not self.regroups.of and wanted == self.count(pool):
                return
            missing = wanted - self._expected(pool)
        else:
            have = self._expected(pool)
            more = wanted - self._expected(pool, profile)
            bound = self.world.fleet.pools[pool].clamp(have + more) - have
            missing = min(more, max(bound, 0)) if more > 0 else max(more, min(bound, 0))
        if missing < 0:
            self.drain(pool, -missing, t, profile=profile)
        if missing <= 0:
            return
        started = self._take_back(pool, missing, t, profile)
        while started < missing and self._start_one(pool, t, profile):
            started += 1
        self._activate_ready(t)
        self.denied[pool] += missing - started
        if self.world.fleet.pools[pool].region in self.down:
            self.denied_down[pool] += missing - started
        self.actions_s += [t] * started

    def _take_back(self, pool: int, missing: int, t: float, profile: int | None) -> int:
        """Up to so many of those that drain, the oldest first, are active again; how many are."""
        rep = self.state.rep
        free = [s for s in self.live(pool, k.DRAINING).tolist() if not self._gives_way(int(rep.record[s]))]
        free = [s for s in free if profile in (None, int(rep.profile[s]))]
        records = [int(rep.record[s]) for s in sorted(free, key=lambda s: int(rep.index[s]))[:missing]]
        for record in records:
            self.lending.discard(record)
            self.lives.note(record, t, "active")
            self.ask(k.ACTIVATE, t, self.slot_of(record))
        return len(records)

    def open(self, pool: int, more: int, t: float) -> None:
        """That many more replicas than the pool has, those that come back reshaped included; never fewer."""
        have = self._expected(pool)
        if self.world.fleet.pools[pool].clamp(have + more) > have:
            self.scale(pool, have + more, t)

    def drain(self, pool: int, surplus: int, t: float, lend: bool = False, profile: int | None = None) -> None:
        """Cancel starting ones, then drain those with the fewest outstanding tokens, ties to the youngest."""
        self.ask(k.LOOK, t, 0)
        rep, live = self.state.rep, self.live(pool, k.STARTING, k.ACTIVE)
        live = live if profile is None else live[rep.profile[live] == profile]
        tokens = self.state.rows[rep.row[live], OUTSTANDING_TOKENS]
        tokens = np.where(rep.state[live] == k.STARTING, -1.0, tokens)
        order = np.lexsort((-rep.index[live], tokens))
        for slot in live[order[:surplus]]:
            record = int(rep.record[slot])
            if rep.state[slot] != k.STARTING:  # a start that is cancelled ends here
                self.lives.note(record, t, "draining")
            if lend:
                self.lending.add(record)
            self.actions_s.append(t)
            self.ask(k.DRAIN, t, int(slot))
        self.harvest()

    def reshape(self, pool: int, index: int, profile: int, t: float) -> None:
        """The pool's replica `index` drains and comes back with the other profile; no other than a live one."""
        for slot in self.numbered(pool, [index]):
            self.reshaping[int(self.state.rep.record[slot])] = profile
            self._send_off(slot, t)
        self.harvest()

    def regroup(
        self, pool: int, indexes: Sequence[int], profiles: Sequence[int], lasts_s: float | None, t: float
    ) -> None:
        """Those of these replicas that live drain; when all are off, one of each profile starts; of none, at once."""
        if not indexes:
            self.actions_s += [t] * self._follow(Group(pool, tuple(profiles), lasts_s), t)
            return
        slots = self.numbered(pool, indexes)
        records = [int(self.state.rep.record[slot]) for slot in slots]
        self.regroups.begin(Group(pool, tuple(profiles), lasts_s), records)
        for slot in slots:
            self._send_off(slot, t)
        self.harvest()

    def _send_off(self, slot: int, t: float) -> None:
        """It drains for what follows it: the driver is told when it is off."""
        self.state.rep.awaited[slot] = 1
        self.actions_s.append(t)
        self.lives.note(int(self.state.rep.record[slot]), t, "draining")
        self.ask(k.DRAIN, t, slot)

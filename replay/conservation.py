"""Conservation, checked while a replay runs (`check=True`): nothing appears, disappears or is counted twice.

Each time the kernel returns, what its arrays count is compared with what they list, in numpy: requests and GPU-seconds
here, tokens and blocks in `holdings.py`. The laws: docs/replay.md.
"""

from functools import partial
from itertools import islice

import numpy as np

from .columns import OK, REJECTED
from .holdings import ConservationError, Sight, check_batches, check_blocks, check_tokens
from .kernel import layout as k
from .lifecycle import Lifecycle
from .lives import STATES
from .requests import Requests

__all__ = ["Conservation", "ConservationError"]

_HANDED, _DONE = 1, 2  # where a request is; 0: still to come
_AS_LIVES = {k.STARTING: "starting", k.ACTIVE: "active", k.DRAINING: "draining"}


class Conservation:
    """The accounts of one replay, kept beside it: a byte, an output length and a mark for each request handed over."""

    def __init__(self, life: Lifecycle) -> None:
        self.life = life
        self.handed, self.turns = 0, 0  # requests, and those of them that wait for an earlier turn
        self.where = np.zeros(0, np.int8)
        self.input = np.zeros(0, np.int64)
        self.output = np.zeros(0, np.int64)
        self.follows = np.zeros(0, bool)  # whether a turn comes after it
        self.counted = 0  # finished rows of the kernel's buffer already in the accounts
        self.ended = 0
        self.followed = 0  # turns that completed and have a next one
        self.completed_output = np.zeros(len(life.world.fleet.pools), np.int64)
        self.rejected = np.zeros_like(self.completed_output)
        self.open: set[int] = set()  # records whose machines are not given back
        self.seen = 0  # records looked at
        self.closed_s = 0.0  # GPU-seconds of the others
        self.rested = 0  # records that ended whose busy time was looked at

    # --- what the driver tells ---

    def hand(self, requests: Requests, part: slice) -> None:
        """These requests are handed to the kernel next."""
        given = requests.input_tokens[part]
        n = self.handed + len(given)
        if n > len(self.where):
            for name in ("where", "input", "output", "follows"):
                old = getattr(self, name)
                longer = np.zeros(max(n, 2 * len(old)), old.dtype)
                longer[: len(old)] = old
                setattr(self, name, longer)
        rows = slice(self.handed, n)
        self.where[rows], self.input[rows], self.output[rows] = _HANDED, given, requests.output_tokens[part]
        if requests.follow is not None:
            self.follows[rows] = requests.follow[part] >= 0
            self.turns += int((requests.follow[part] >= 0).sum())
        self.handed = n

    def drain(self) -> None:
        """The driver takes the finished rows away."""
        self._count_ended(self._sight())
        self.counted = 0

    # --- the laws ---

    def check(self) -> None:
        """Every law, of what stands now; ConservationError where one is broken."""
        sight = self._sight()
        self._count_ended(sight)
        self._requests(sight)
        self._pools(sight)
        check_batches(sight)
        check_tokens(sight)
        check_blocks(sight)
        self._machines(sight)
        self._gpu_seconds(sight)
        self._logs(sight)

    def _sight(self) -> Sight:
        return Sight(self.life.state, [str(pool) for pool in self.life.world.fleet.pools])

    def _count_ended(self, sight: Sight) -> None:
        """New finished rows; each request ends once."""
        done = sight.st.done.view(np.ndarray)[self.counted : int(sight.ctl["out"])]
        if not len(done):
            return
        self.counted += len(done)
        numbers, at = np.unique(done["request"], return_index=True)
        twice = np.delete(done["request"], at)
        sight.same("requests", "ends of", 1, np.full(len(twice), 2), lambda i: f"request {twice[i]}")
        known = (numbers >= 0) & (numbers < self.handed)
        sight.same("requests", "ended without being handed over", True, known, lambda i: f"request {numbers[i]}")
        before = self.where[numbers]
        sight.same("requests", "ended before (2: yes)", _HANDED, before, lambda i: f"request {numbers[i]}")
        self.where[numbers] = _DONE
        self.ended += len(done)
        fine = done["status"] == OK
        self.followed += int(self.follows[done["request"][fine]].sum())
        np.add.at(self.completed_output, done["pool"][fine], self.output[done["request"][fine]])
        np.add.at(self.rejected, done["pool"][done["status"] == REJECTED], 1)
        times = [done["arrival_s"], done["admitted_s"], done["first_s"], done["done_s"]]
        for what, first, then in zip(("admitted", "first token", "done"), times[:-1], times[1:], strict=True):
            early = fine & ~(first <= then)
            sight.same("requests", f"{what} in time", False, early, lambda i: f"request {done['request'][i]}")

    def _requests(self, sight: Sight) -> None:
        """Handed over = ended + still to arrive + turns not sent + in flight, each in one place."""
        ctl, here = sight.ctl, sight.fly[sight.fly["gone"] == 0]
        sight.same("requests", "in flight", int(ctl["in_flight"]), [len(here)])
        to_arrive, unsent = int(ctl["last"] - ctl["next"]), self.turns - self.followed
        places = (
            f"ended {self.ended}, to arrive {to_arrive}, turns not sent {unsent}, in flight {int(ctl['in_flight'])}"
        )
        found = self.ended + to_arrive + unsent + int(ctl["in_flight"])
        sight.same("requests", f"handed over ({places})", self.handed, [found])
        numbers = here["request"]
        times = np.bincount(numbers, minlength=1)[numbers] if len(numbers) else numbers
        sight.same("requests", "times in flight", 1, times, lambda i: f"request {numbers[i]}")
        sight.same(
            "requests", "in flight and (2) ended", _HANDED, self.where[numbers], lambda i: f"request {numbers[i]}"
        )
        waiting_to_arrive = sight.number[int(ctl["next"]) : int(ctl["last"])]
        both = np.isin(numbers, waiting_to_arrive)
        sight.same("requests", "in flight and still to arrive", False, both, lambda i: f"request {numbers[i]}")

    def _pools(self, sight: Sight) -> None:
        """What pools count."""
        fly = sight.fly
        name = sight.pool_name
        for field, phase in (("queued", k.QUEUED), ("held", k.HELD)):
            there = fly["pool"][(fly["phase"] == phase) & (fly["gone"] == 0)]
            sight.same("requests", field, np.bincount(there, minlength=len(sight.pool)), sight.pool[field], name)
        sight.same(
            "tokens", "output of completed requests", self.completed_output, sight.pool["completed_output"], name
        )
        sight.same("requests", "rejected", self.rejected, sight.pool["rejected"], name)
        if int(sight.ctl["lanes"]):
            return  # a decode pool counts what lands there as arrivals too
        new = (fly["phase"] == k.TRAVELLING) & (fly["stage"] == k.NEW) & (fly["gone"] == 0)
        new &= (fly["tries"] == 0) & (fly["restarts"] == 0)
        numbers, last = sight.number, int(sight.ctl["last"])
        turns = numbers[last:][self.where[numbers[last:]] == _HANDED]
        turns = turns[~np.isin(turns, fly["request"][fly["gone"] == 0])]
        unsent = np.concatenate([numbers[int(sight.ctl["next"]) : last], turns])
        arrived = self.handed - len(unsent) - int(new.sum())
        sight.same("requests", "arrived", arrived, [int(sight.pool["arrived"].sum())])
        tokens = int(self.input[: self.handed].sum() - self.input[unsent].sum() - fly["input"][new].sum())
        sight.same("tokens", "prompts of arrived requests", tokens, [int(sight.pool["arrived_input"].sum())])

    def _machines(self, sight: Sight) -> None:
        """GPUs occupied are those of the replicas that are not off, and no more than a region has."""
        world, lives = self.life.world, self.life.lives
        held: dict[tuple[str, str | None], int] = {}
        records = [int(r) for r in sight.rep["record"][sight.rep["state"] != k.FREE]]
        records += self.life.lent + self.life.regroups.kept()
        for record in records:
            pool, _, profile, gpus = lives.who[record]
            key = (world.fleet.pools[pool].region, world.profiles[profile].gpu)
            held[key] = held.get(key, 0) + gpus
        for key in held.keys() | self.life.machines.taken.keys():
            region, gpu = key
            place = partial("{} of region {}".format, gpu or "GPU", region)
            sight.same("GPUs", "occupied", held.get(key, 0), [self.life.machines.taken.get(key, 0)], place)
            if region in world.fleet.inventory:
                have = world.fleet.inventory[region].get(gpu or "", 0)
                sight.same("GPUs", "within its machines", have, [max(have, held.get(key, 0))], place)

    def _gpu_seconds(self, sight: Sight) -> None:
        """The replicas' logs last as long as their machines were occupied."""
        lives, t = self.life.lives, sight.t
        self.open |= set(range(self.seen, len(lives.who)))
        self.seen = len(lives.who)
        off, total = STATES.index("off"), 0.0
        for record in sorted(self.open):
            log = lives.log[record]
            begin, (last_s, last) = log[0][0], log[-1]
            gone = last == off and last_s <= t
            lasted = lives.who[record][3] * ((last_s if gone else t) - begin)
            if gone:
                self.open.remove(record)
                self.closed_s += lasted
            else:
                total += lasted
        occupied = self.life.machines.given_back_s + sum(self.life.machines.taken.values()) * t
        close = np.isclose(occupied, self.closed_s + total, rtol=1e-9, atol=1e-6 * max(1.0, abs(t)))
        sight.same("GPU-seconds", "provisioned", occupied, [occupied if close else self.closed_s + total])

    def _logs(self, sight: Sight) -> None:
        """Each replica's log says what the kernel says, and it was busy no longer than it lived."""
        lives, t, rep = self.life.lives, sight.t, sight.rep
        # one that is ready now becomes active at this instant
        certain = np.isin(rep["state"], list(_AS_LIVES)) & ((rep["state"] != k.STARTING) | (rep["ready_s"] > t))
        slots = np.flatnonzero(certain)
        logs = [lives.log[record] for record in rep["record"][slots].tolist()]
        expected = [STATES.index(_AS_LIVES[state]) for state in rep["state"][slots].tolist()]
        now = [[state for at, state in log if at <= t][-1] for log in logs]
        busy, lived = rep["busy_s"][slots], np.array([t - log[0][0] for log in logs])

        def name(i: int) -> str:
            return sight.replica_name(int(slots[i]))

        sight.same("GPU-seconds", f"state in its log, of {STATES}", expected, now, name)
        sight.same("GPU-seconds", "busy within its life", np.minimum(busy, lived * (1 + 1e-9) + 1e-9), busy, name)
        self._ended_logs(sight)

    def _ended_logs(self, sight: Sight) -> None:
        """Nor was one that has ended; donated, it served no more."""
        lives, over = self.life.lives, (STATES.index("donated"), STATES.index("off"))
        ended = list(islice(lives.busy_s.items(), self.rested, None))
        self.rested = len(lives.busy_s)
        logs = [lives.log[record] for record, _ in ended]
        lasts = [next((at for at, state in log if state in over), sight.t) - log[0][0] for log in logs]
        busy, lived = np.array([busy_s for _, busy_s in ended]), np.array(lasts)

        def name(i: int) -> str:
            pool, index, _, _ = lives.who[ended[i][0]]
            return f"replica {index} of {sight.pool_name(pool)}"

        most = np.minimum(busy, lived * (1 + 1e-9) + 1e-9)
        sight.same("GPU-seconds", "busy within its life, which is over", most, busy, name)

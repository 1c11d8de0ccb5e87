"""How requests of the slow, obvious fleet find their way: regions, hold queues, clients, sessions, migrations."""

import copy
import math
from bisect import insort
from collections import Counter

from reference_model import Request, Rules
from reference_replica import Replica

BATCH = 2  # the tier


class Clients:
    """The part of `Fleet` that moves requests between places."""

    rules: Rules
    now: float
    coming: list[tuple[float, int, str, Request]]  # (when, number, what, request): arrivals to be, in their order
    queues: dict[int, list[Request]]  # by pool: no replica is active
    holds: dict[int, list[Request]]
    deferred: list[Request]  # held by the router of their pool
    refused: dict[int, int]  # by pool: how many in a row it has held again at this instant
    counts: dict[int, Counter[str]]
    travels: dict[Request, Replica]  # migrating requests and where their blocks are

    def later(self, at: float, what: str, request: Request) -> None:
        insort(self.coming, (at, request.number, what, request), key=lambda e: e[:2])

    def arrive(self, what: str, request: Request) -> None:
        sent = {"sent": self.send, "reached": self.reach, "moved": self.land}
        {**sent, "released": self.route, "again": self.ask}[what](request)

    # regions
    def near(self, request: Request) -> list[int]:
        """The pools of its service by latency from its origin; ties: its own region, then the fleet's order."""

        def distance(pool: int) -> tuple[float, bool]:
            region = self.rules.region(pool)
            return self.rules.latency(request.origin, region), region != request.origin

        pools = [p for p, s in enumerate(self.rules.pool_service) if s == request.service]
        return sorted((p for p in pools if self.rules.lane(p) != "decode"), key=distance)

    def home(self, request: Request) -> int:
        return self.nearest_up(self.near(request), request.origin)

    def nearest_up(self, pools: list[int], region: int) -> int:
        """The pool of the region, else the first that is up."""
        # reading: where every region of the service is down, as if none were
        up = [p for p in pools if not self.is_down(self.rules.region(p))] or pools
        own = [p for p in up if self.rules.region(p) == region]
        return (own or up)[0]

    def utilisation(self, pool: int) -> float:
        # reading: KV in tokens of whole blocks, blocks of migrating requests included, evictable ones not
        active = self.pool(pool)
        if not active:
            return 1.0
        return sum(r.held * r.shape.block for r in active) / sum(r.shape.blocks * r.shape.block for r in active)

    def region_choice(self, request: Request) -> int:
        # reading: a held request goes to its home pool by `home`, under every region rule
        if self.rules.threshold is None or (request.held and not request.released):
            return self.home(request)
        pools = self.near(request)
        below = [p for p in pools if self.utilisation(p) < self.rules.threshold]
        return below[0] if below else min(pools, key=self.utilisation)

    def send(self, request: Request) -> None:
        """A client sends it, or it starts again: the region is chosen."""
        if self.rules.timeout_s is not None:
            request.patience = self.now + self.rules.timeout_s
        one_way = 0.0
        if self.rules.pool_service:
            request.pool = self.region_choice(request)
            one_way = self.rules.latency(request.origin, self.rules.region(request.pool))
        if request.tries == 1 and request.restarts == 0:
            self.came(request)
        # reading: network is that of the last sending; a migration does not change it
        request.network = 2 * one_way
        if one_way > 0:
            self.later(self.now + one_way, "reached", request)
        else:
            self.reach(request)

    def came(self, request: Request) -> None:
        """Counted in its pool as it is sent there, once, and as it lands in a decode lane."""
        batch = request.input * (request.tier == BATCH)
        counts = self.counts.setdefault(request.pool, Counter())
        counts.update(arrivals=1, arrived_input_tokens=request.input, arrived_batch_tokens=batch)

    def turned_away(self, request: Request) -> bool:
        """Whether it finds its region down, and would now choose one that is up."""
        if not self.rules.pool_service or not self.is_down(self.rules.region(request.pool)):
            return False
        return not self.is_down(self.rules.region(self.region_choice(request)))

    def reach(self, request: Request) -> None:
        if self.turned_away(request):
            self.again(request)
            return
        # reading: a held request travels to its home pool first; hold_s counts from there, and a released one is there
        if request.held and not request.released:
            request.held_since = self.now
            self.holds.setdefault(request.pool, []).append(request)
            self.holds[request.pool].sort(key=lambda r: r.rank)  # stable: receipt
        else:
            self.route(request)

    # hold queues
    def release(self, pool: int, count: int) -> None:
        queue = self.holds.get(pool, [])
        for request in queue[:count]:
            queue.remove(request)
            request.hold += self.now - request.held_since
            request.released = True
            self.later(self.now, "released", request)

    # held by the router
    def defer(self, request: Request) -> None:
        request.held_since = self.now
        self.deferred.append(request)

    def ask_again(self, pool: int | None = None) -> None:
        """What the routers hold, of one pool or all, arrives again."""
        if pool is None:
            self.refused.clear()
        self.refused.pop(pool, None)
        for request in [r for r in self.deferred if pool in (None, r.pool)]:
            self.deferred.remove(request)
            request.hold += self.now - request.held_since if request.admitted is None else 0.0
            self.later(self.now, "again", request)

    def ask(self, request: Request) -> None:
        """Held by the router so far: asked again, unless the round is over."""
        refused = self.refused.get(request.pool, 0)
        if self.rules.refusals and refused >= self.rules.refusals:
            self.defer(request)
            return
        self.route(request)
        if request in self.deferred:
            self.refused[request.pool] = refused + 1

    def next_beat(self, at: float | None = None) -> float:
        """The first heartbeat after now, or at `at`; inf where the heart stands still or no router holds anything."""
        h = self.rules.heartbeat_s
        if not self.deferred or not h or self.fruitless >= self.rules.fruitless:
            return math.inf
        while self.begin + self.beats * h < self.now or (at is None and self.begin + self.beats * h == self.now):
            self.beats += 1
        return self.begin + self.beats * h

    def beat(self) -> None:
        held = sum(map(len, self.holds.values())) + len(self.deferred)
        there = [r for r in self.requests if r.status == "waiting"]
        # reading: requests that are gone already but run on to the iteration's end are not there
        self.fruitless = self.fruitless + 1 if held == len(there) else 0
        self.ask_again()

    def completed(self, done: list[Request], handed: list[int]) -> None:
        """Next turns, and releases; all iterations of this instant have ended."""
        for request in done:
            at = self.counts.setdefault(request.pool, Counter())
            at.update(completions=1, completed_output_tokens=request.output, completed=1)
            at.update(ttft_s=request.first - request.arrival, e2e_s=request.done - request.arrival)
        for pool in handed:
            self.counts.setdefault(pool, Counter()).update(completions=1)
        for request in done:
            after = self.rules.next[request.number] if self.rules.next else -1
            if after >= 0:
                # reading: a turn completes at the replica, the way back is not waited for
                turn = self.requests[after]
                turn.arrival, turn.status = self.now + self.rules.think_s[after], "waiting"
                self.later(turn.arrival, "sent", turn)
        # reading: u is taken once all iterations of the instant took effect; each completion releases by that u
        if self.rules.release is not None:
            low, high = self.rules.release
            for pool in [request.pool for request in done] + handed:  # a hand-over counts as a completion there
                u = self.utilisation(pool)
                few, many = self.rules.releases[1], self.rules.releases[0]
                self.release(pool, many if u < low else few if u < high else 0)

    # clients
    def give_up(self, request: Request) -> None:
        """Its client has seen no token in time."""
        # reading: a token counts as seen when the replica emits it
        self.remove(request)
        request.patience = None
        k = request.tries - 1
        if k == self.rules.retries:
            request.status = "abandoned"
            return
        request.fresh()
        # reading: a new request is held by its tier again; one that starts again after a fault is not
        request.released = False
        request.tries += 1
        self.later(self.now + self.rules.backoff_s * self.rules.factor**k, "sent", request)

    def remove(self, request: Request) -> None:
        """It leaves wherever it is; in an iteration in progress a ghost stays until its end."""
        self.coming[:] = [e for e in self.coming if e[3] is not request]
        if request in self.travels:  # reading: the blocks at its source are freed at once
            self.unload(request)
        for queue in self.queues.values():
            if request in queue:
                queue.remove(request)
        for queue in self.holds.values():
            if request in queue:
                queue.remove(request)
                request.hold += self.now - request.held_since
        if request in self.deferred:
            self.deferred.remove(request)
            request.hold += self.now - request.held_since if request.admitted is None else 0.0
        for replica in self.replicas:
            if request in replica.waiting:
                replica.waiting.remove(request)
            elif request in replica.running and replica.plan is not None:
                ghost = copy.copy(request)
                ghost.ghost, ghost.patience = True, None
                replica.forget(request, ghost)
            elif request in replica.running:  # its iteration ended at this instant
                replica.leave(request)

    def again(self, request: Request) -> None:
        """After a fault: from nothing, from its origin."""
        # reading: tries do not count; those that waited in a pool's queue count a restart too
        request.fresh()
        request.restarts += 1
        request.patience = None
        self.later(self.now, "sent", request)

    # migrations
    def migrate(self, number: int, pool: int, index: int) -> None:
        # reading: only a request that waits or runs on a replica, to another one; the last order counts
        request = self.requests[number]
        for replica in self.replicas:
            if (replica.pool, replica.index) == (pool, index):
                continue
            if request in replica.waiting:
                replica.waiting.remove(request)
                request.computed = 0
                request.moving = (pool, index)
                self.depart(request, replica)
            elif request in replica.running:
                request.moving = (pool, index)
                if replica.plan is None:  # its iteration ended at this instant
                    replica.segment = None
                    replica.running.remove(request)
                    replica.sent.append(request)
                    self.depart(request, replica)

    def depart(self, request: Request, source: Replica) -> None:
        """On its way; where it ran, its blocks are in `source.sent`."""
        network = self.rules.latency(self.rules.region(source.pool), self.rules.region(request.moving[0]))
        if request in source.sent:
            self.travels[request] = source
        self.later(self.now + (network + source.shape.transfer_s(request.computed)), "moved", request)

    # lanes
    def hand_over(self, request: Request, source: Replica) -> None:
        """It emitted a token in a prefill lane and goes on in a decode lane."""
        here = self.rules.region(source.pool)

        def distance(pool: int) -> tuple[float, bool]:
            region = self.rules.region(pool)
            return self.rules.latency(here, region), region != here

        pools = sorted(self.rules.decodes(source.pool), key=distance)
        request.moving = (self.nearest_up(pools, here), -1)
        request.prefilled, request.left = (source.pool, source.index), self.now

    def fits(self, request: Request, replica: Replica) -> bool:
        """Whether the replica takes the request, as far as KV can ever hold it."""
        whole = request.input + request.output - 1
        if self.rules.lane(replica.pool) != "prefill":
            return replica.holds(whole)
        # reading: a decode pool's profile is the one it was given, whatever was reshaped
        shapes = [self.rules.shapes[p] for p in self.rules.decodes(replica.pool)]
        # reading: one that comes back by migration with its output all but complete goes on nowhere
        goes_on = request.generated + 1 < request.output
        return replica.holds(request.input + request.generated) and (
            not goes_on or any(-(-whole // s.block) <= s.blocks for s in shapes)
        )

    def unload(self, request: Request) -> None:
        """Its blocks at the source are freed."""
        source = self.travels.pop(request)
        if request in source.sent:  # else the source is lost
            source.sent.remove(request)
            source.kv.leave(request)

    def land(self, request: Request) -> None:
        """It reaches the replica that it migrates to."""
        if request in self.travels:
            source = self.travels[request]
            self.unload(request)
            self.end_drained(source)  # it may have waited for nothing else, and is off before the request is routed
        pool, index = request.moving
        request.pool, request.moving = pool, None
        request.predicted = request.own[1]  # a prefill lane counts for one token only
        while request.predicted <= request.generated:
            request.predicted += self.extend(request)
        if index < 0:
            request.transfer += self.now - request.left
            self.came(request)
            self.route(request)
            return
        replica = self.find(pool, index)
        if replica is None or replica.state != "active":
            request.computed = 0
            self.route(request)
        else:
            self.place(request, replica)

    def route(self, request: Request) -> None:
        raise NotImplementedError

    def place(self, request: Request, replica: Replica) -> None:
        raise NotImplementedError

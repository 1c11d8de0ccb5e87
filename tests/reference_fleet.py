"""The slow, obvious fleet: one instant at a time."""

import math
from collections import Counter
from collections.abc import Callable

from reference_clients import Clients
from reference_machines import Machines
from reference_model import Request, Rules
from reference_replica import Replica
from reference_routers import HOLDING, ROUTERS


class Fleet(Clients, Machines):
    """Replays requests over pools of replicas; `ticks` maps a time to a function of the fleet."""

    def __init__(
        self,
        replicas: list[Replica],
        router: str,
        extend: Callable[[Request], int] = lambda r: 30,
        kappa: float = 2.0,
        rules: Rules | None = None,
    ):
        self.replicas = replicas
        self.router = router
        self.extend = extend
        self.kappa = kappa
        self.rules = rules or Rules()
        self.last: dict[int, int] = {}
        self.queues: dict[int, list[Request]] = {}
        self.holds: dict[int, list[Request]] = {}
        self.deferred: list[Request] = []
        self.refused: dict[int, int] = {}
        self.beats, self.fruitless, self.begin = 1, 0, 0.0
        self.coming: list[tuple[float, int, str, Request]] = []
        self.travels: dict[Request, Replica] = {}
        self.denied: dict[int, int] = {}
        self.actions: list[float] = []  # when each was ordered
        self.down: dict[int, float] = {}
        self.groups: list = []
        self.requests: list[Request] = []
        self.counts: dict[int, Counter[str]] = {}  # by pool, so far: what policies see
        self.now = 0.0

    # routing
    def choose(self, request: Request, active: list[Replica]) -> Replica | str:
        if self.router == "round-robin":
            last = self.last.get(request.pool, -1)
            chosen = next((r for r in active if r.index > last), active[0])
            self.last[request.pool] = chosen.index
            return chosen
        if self.router in ROUTERS:
            return ROUTERS[self.router](self, request, active)
        score = {
            "least-requests": lambda r: r.requests(),
            "least-outstanding": lambda r: r.outstanding(),
            "preserve": lambda r: self.kappa * r.prefill_tokens() + r.expected(),
        }[self.router]
        return min(active, key=lambda r: (score(r), r.index))

    def route(self, request: Request) -> None:
        active = self.pool(request.pool)
        if not active and self.router not in HOLDING:
            self.queues.setdefault(request.pool, []).append(request)
            return
        chosen = self.choose(request, active)
        if isinstance(chosen, Replica):
            self.fruitless = 0
            self.refused.pop(request.pool, None)
            self.place(request, chosen)
        else:
            self.defer(request)
            if chosen == "open":
                self.open(request.pool)

    def place(self, request: Request, replica: Replica) -> None:
        request.replica = replica.index
        # reading: the replica that a request migrates to rejects it likewise
        if not self.fits(request, replica):
            request.status, request.patience = "rejected", None
        else:
            if self.rules.lane(replica.pool) == "prefill":
                request.predicted = request.generated + 1  # the one it is here for
            replica.receive(request)

    def activate(self, replica: Replica) -> None:
        replica.become("active", self.now)
        if self.router in HOLDING:
            self.fruitless = 0
            self.ask_again(replica.pool)
        for request in self.queues.pop(replica.pool, []):
            self.route(request)

    # time
    def run(self, requests: list[Request], ticks: dict[float, Callable[["Fleet"], None]] | None = None) -> None:
        ticks = dict(ticks or {})
        faults = list(self.rules.faults)
        self.requests = requests
        self.begin = min((r.arrival for r in requests), default=0.0)
        instants = 0
        follow = {n for n in self.rules.next if n >= 0}
        for request in requests:
            if request.number in follow:
                request.status = "not-sent"
            else:
                self.later(request.arrival, "sent", request)
        while True:
            times = [r.end for r in self.replicas]
            times += [r.ready for r in self.replicas if r.state == "starting"]
            times += [at for at, *_ in faults]
            times += list(ticks)
            times += [r.patience for r in self.patient()]
            times += [self.coming[0][0]] if self.coming else []
            times += [self.next_beat()]
            self.now = min(times, default=math.inf)
            if self.now == math.inf or self.over():
                return
            self.instant(faults, ticks)
            instants += 1
            if len(requests) <= 200 or instants % 100 == 0:  # the checks cost more than the replay
                self.check()

    def over(self) -> bool:
        """Nothing is left to replay: not even the tick of this instant is."""
        return not self.coming and all(r.status != "waiting" for r in self.requests)

    def patient(self) -> list[Request]:
        """Requests whose clients may give up."""
        return [r for r in self.requests if r.patience is not None] if self.rules.timeout_s is not None else []

    def instant(self, faults: list, ticks: dict[float, Callable[["Fleet"], None]]) -> None:
        now, beat = self.now, self.next_beat(self.now)
        self.end_iterations()
        if now == beat:
            self.beat()
        self.tidy()
        if self.over():
            return
        while any(at == now for at, *_ in faults):
            _, *what = faults.pop(next(k for k, fault in enumerate(faults) if fault[0] == now))
            self.strike(*what)
        if now in ticks:
            ticks.pop(now)(self)
            self.tidy()
        for request in [r for r in self.patient() if r.patience == now]:
            self.give_up(request)
        self.tidy()
        while self.coming and self.coming[0][0] == now:
            _, _, what, request = self.coming.pop(0)
            self.arrive(what, request)
            self.tidy()
        for replica in self.replicas:
            if replica.plan is None and replica.requests():
                replica.begin(now)

    def end_iterations(self) -> None:
        done, handed = [], []
        for replica in sorted(self.replicas, key=lambda r: (r.pool, r.index)):
            if replica.end == self.now:
                prefills = self.rules.lane(replica.pool) == "prefill"
                completed, moved = replica.finish(self.extend, prefills)
                done += completed
                for request in moved:
                    if request.moving is None:
                        self.hand_over(request, replica)
                        handed.append(replica.pool)
                    self.depart(request, replica)
        self.completed(done, handed)

    # laws
    def check(self) -> None:
        """Conservation: every waiting request is in exactly one place, every block is some request's or evictable."""
        at = f"at t={self.now}"
        places = [e[3] for e in self.coming]
        places += [r for queue in [*self.queues.values(), *self.holds.values(), self.deferred] for r in queue]
        for replica in self.replicas:
            try:
                replica.check()
            except AssertionError as error:
                raise AssertionError(f"{error} {at}, replica {replica.index} of pool {replica.pool}") from error
            places += [r for r in [*replica.running, *replica.waiting] if not r.ghost]
        sent = [r for replica in self.replicas for r in replica.sent]
        assert set(sent) <= {e[3] for e in self.coming if e[2] == "moved"}, (
            f"blocks held for a request not on its way {at}"
        )
        numbers = sorted(r.number for r in places)
        waiting = [r.number for r in self.requests if r.status == "waiting"]
        assert numbers == sorted(waiting), f"requests in places {numbers}, waiting {waiting} {at}"
        assert all(not self.pool(pool) for pool, queue in self.queues.items() if queue), f"queued beside active {at}"
        for region, machines in self.rules.inventory.items():
            for gpu in machines:
                assert self.free_gpus(region, gpu) >= 0, f"{gpu} of region {region} oversold {at}"

"""The slow, obvious fleet: one iteration at a time, with lists, straight from docs/replay.md.

Kept as the judge of the numba kernel: nothing here is shared with `lmaas.replay` but the profile's numbers.
Routers are plain functions over `Replica` objects. Time order at one instant: iterations end, replicas become
ready, the tick's actions, arrivals, idle replicas start.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Latency:
    base: float
    knots: Sequence[float]
    slopes: Sequence[float]
    attn_pair: float
    prefix_kv: float
    decode_seq: float
    decode_kv: float

    def tokens(self, n: int) -> float:
        total = 0.0
        ends = [*self.knots[1:], math.inf]
        for slope, low, high in zip(self.slopes, self.knots, ends, strict=True):
            total += slope * max(0.0, min(n, high) - low)
        return total

    def iteration(self, n: int, pairs: float, prefix: int, seqs: int, context: int) -> float:
        return (
            self.base
            + self.tokens(n)
            + self.attn_pair * pairs
            + self.prefix_kv * prefix
            + self.decode_seq * seqs
            + self.decode_kv * context
        )


@dataclass
class Shape:
    latency: Latency
    kv_tokens: int
    block: int
    max_batch_tokens: int
    max_seqs: int

    @property
    def blocks(self) -> int:
        return self.kv_tokens // self.block


@dataclass(eq=False)
class Request:
    number: int
    arrival: float
    pool: int
    input: int
    output: int
    predicted: int = 1
    kind: int = 0
    computed: int = 0
    generated: int = 0
    preemptions: int = 0
    status: str = "waiting"
    replica: int = -1
    admitted: float | None = None
    first: float | None = None
    done: float | None = None

    @property
    def need(self) -> int:
        return self.input + self.generated - self.computed


@dataclass(eq=False)
class Replica:
    pool: int
    index: int
    shape: Shape
    state: str = "active"
    ready: float = 0.0
    started: float = 0.0
    off: float | None = None
    running: list[Request] = field(default_factory=list)  # admission order
    waiting: deque[Request] = field(default_factory=deque)
    plan: list[tuple[Request, int]] | None = None
    end: float = math.inf
    segment: tuple | None = None  # unchanged decode batch: (members, start, iterations so far, first duration)
    held: int = 0  # blocks held once this iteration is planned

    def blocks_of(self, tokens: int) -> int:
        return -(-tokens // self.shape.block)

    def begin(self, now: float) -> None:
        shape = self.shape
        budget, plan, preempted = shape.max_batch_tokens, [], False
        free = shape.blocks - sum(self.blocks_of(r.computed) for r in self.running)
        for request in list(self.running):
            if budget == 0 or request not in self.running:
                break
            take = min(request.need, budget)
            add = self.blocks_of(request.computed + take) - self.blocks_of(request.computed)
            gone = False
            while add > free:
                victim = self.running.pop()
                free += self.blocks_of(victim.computed)
                victim.computed = 0
                victim.preemptions += 1
                self.waiting.appendleft(victim)
                preempted = True
                if victim is request:
                    gone = True
                    break
            if gone:
                break
            free -= add
            budget -= take
            plan.append((request, take))
        while not preempted and budget > 0 and len(self.running) < shape.max_seqs and self.waiting:
            head = self.waiting[0]
            if self.blocks_of(head.input + head.generated) > free:
                break
            self.waiting.popleft()
            self.running.append(head)
            if head.admitted is None:
                head.admitted = now
            take = min(head.need, budget)
            free -= self.blocks_of(take)
            budget -= take
            plan.append((head, take))
        self.held = shape.blocks - free
        if not plan:
            self.plan, self.end, self.segment = None, math.inf, None
            return
        self.plan = plan
        self.end = self._end(plan, now)

    def _end(self, plan: list[tuple[Request, int]], now: float) -> float:
        decodes = [r for r, _ in plan if r.generated > 0 and r.need == 1]
        chunks = [(r, take) for r, take in plan if not (r.generated > 0 and r.need == 1)]
        pairs = sum(take * r.computed + take * (take + 1) / 2 for r, take in chunks)
        prefix = sum(r.computed for r, _ in chunks)
        context = sum(r.computed + 1 for r in decodes)
        n = sum(take for _, take in plan)
        duration = self.shape.latency.iteration(n, pairs, prefix, len(decodes), context)
        if chunks:
            self.segment = None
            return now + duration
        # times are computed from the last change of the batch, so that rounding does not build up
        members = tuple(r.number for r in decodes)
        if self.segment is not None and self.segment[0] == members:
            _, start, count, first = self.segment
        else:
            start, count, first = now, 0, duration
        count += 1
        self.segment = (members, start, count, first)
        growth = self.shape.latency.decode_kv * len(decodes)
        return start + (count * first + growth * (count * (count - 1) / 2))

    def finish(self, extend: Callable[[Request], int]) -> list[Request]:
        """The planned iteration takes effect; returns the completed requests."""
        completed = []
        for request, take in self.plan:
            request.computed += take
            if request.need == 0:
                request.generated += 1
                if request.first is None:
                    request.first = self.end
                if request.generated == request.output:
                    request.done, request.status = self.end, "ok"
                    self.running.remove(request)
                    completed.append(request)
                else:
                    while request.predicted <= request.generated:
                        request.predicted += extend(request)
        self.held = sum(self.blocks_of(r.computed) for r in self.running)
        self.plan, self.end = None, math.inf
        if completed:
            self.segment = None
        return completed

    # what routers may see
    def requests(self) -> int:
        return len(self.running) + len(self.waiting)

    def prefill_tokens(self) -> int:
        """Prompt tokens (and tokens to recompute after a preemption) not yet prefilled."""
        return sum(r.need for r in [*self.running, *self.waiting] if not (r.generated > 0 and r.need == 1))

    def outstanding(self) -> int:
        every = [*self.running, *self.waiting]
        return self.prefill_tokens() + sum(r.predicted - r.generated for r in every)

    def expected(self) -> int:
        return sum(r.input + r.predicted for r in [*self.running, *self.waiting])


class Fleet:
    """Replays requests over pools of replicas; `ticks` maps a time to a function of the fleet."""

    def __init__(
        self, replicas: list[Replica], router: str, extend: Callable[[Request], int] = lambda r: 30, kappa=2.0
    ):
        self.replicas = replicas
        self.router = router
        self.extend = extend
        self.kappa = kappa
        self.last: dict[int, int] = {}
        self.queues: dict[int, deque[Request]] = {}
        self.now = 0.0
        self.drained: list[Replica] = []

    def pool(self, pool: int, *states: str) -> list[Replica]:
        rows = [r for r in self.replicas if r.pool == pool and r.state in (states or ("active",))]
        return sorted(rows, key=lambda r: r.index)

    def choose(self, request: Request, active: list[Replica]) -> Replica:
        if self.router == "round-robin":
            last = self.last.get(request.pool, -1)
            chosen = next((r for r in active if r.index > last), active[0])
            self.last[request.pool] = chosen.index
            return chosen
        score = {
            "least-requests": lambda r: r.requests(),
            "least-outstanding": lambda r: r.outstanding(),
            "preserve": lambda r: self.kappa * r.prefill_tokens() + r.expected(),
        }[self.router]
        return min(active, key=lambda r: (score(r), r.index))

    def route(self, request: Request) -> None:
        active = self.pool(request.pool)
        if not active:
            self.queues.setdefault(request.pool, deque()).append(request)
            return
        replica = self.choose(request, active)
        request.replica = replica.index
        if replica.blocks_of(request.input + request.output - 1) > replica.shape.blocks:
            request.status = "rejected"
            return
        replica.waiting.append(request)

    def activate(self, replica: Replica) -> None:
        replica.state = "active"
        queue = self.queues.pop(replica.pool, deque())
        for request in queue:
            self.route(request)

    def scale(self, pool: int, count: int, startup_s: float) -> None:
        live = self.pool(pool, "starting", "active")
        for replica in self.pool(pool, "draining"):  # take back draining replicas first, oldest first
            if len(live) >= count:
                break
            self.activate(replica)
            live.append(replica)
        while len(live) < count:
            index = 1 + max((r.index for r in self.replicas if r.pool == pool), default=-1)
            shape = self.pool(pool, "starting", "active", "draining", "off")[0].shape
            new = Replica(pool, index, shape, "starting", self.now + startup_s, self.now)
            self.replicas.append(new)
            live.append(new)
            if startup_s == 0:
                self.activate(new)
        while len(live) > count:
            victim = min(live, key=lambda r: (r.outstanding(), -r.index))
            live.remove(victim)
            if victim.requests() == 0:
                victim.state, victim.off = "off", self.now
            else:
                victim.state = "draining"

    def run(self, requests: list[Request], ticks: dict[float, Callable[["Fleet"], None]] | None = None) -> None:
        ticks = dict(ticks or {})
        arrivals = deque(requests)
        while True:
            times = [r.end for r in self.replicas]
            times += [r.ready for r in self.replicas if r.state == "starting"]
            times += list(ticks)
            times += [arrivals[0].arrival] if arrivals else []
            now = self.now = min(times, default=math.inf)
            if now == math.inf or (not arrivals and all(r.status != "waiting" for r in requests)):
                return
            for replica in self.replicas:
                if replica.end == now:
                    replica.finish(self.extend)
                    if replica.state == "draining" and replica.requests() == 0:
                        replica.state, replica.off = "off", now
            for replica in sorted(self.replicas, key=lambda r: (r.pool, r.index)):
                if replica.state == "starting" and replica.ready == now:
                    self.activate(replica)
            if now in ticks:
                ticks.pop(now)(self)
            while arrivals and arrivals[0].arrival == now:
                self.route(arrivals.popleft())
            for replica in self.replicas:
                if replica.plan is None and replica.requests():
                    replica.begin(now)
                    self.check(replica)

    def check(self, replica: Replica) -> None:
        assert replica.held <= replica.shape.blocks, (
            f"KV: {replica.held} of {replica.shape.blocks} blocks at t={self.now}"
        )
        assert len(replica.running) <= replica.shape.max_seqs

"""One replica of the slow, obvious fleet: one iteration at a time, with lists."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from reference_cache import Blocks
from reference_model import Request, Shape


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
    waiting: list[Request] = field(default_factory=list)  # by (rank, order of receipt)
    plan: list[tuple[Request, int]] | None = None
    end: float = math.inf
    segment: tuple | None = None  # unchanged decode batch: (members, start, iterations so far, first duration)
    sent: list[Request] = field(default_factory=list)  # migrating: their blocks are held here until they arrive
    received: int = 0
    after: str = "off"  # what it becomes once drained: off, donated, or starting with `next_shape`
    next_shape: Shape | None = None
    began: float = 0.0  # the iteration in progress
    busy: list[float] = field(default_factory=lambda: [0.0])  # seconds in iterations, by start of the replica

    def __post_init__(self):
        self.kv = Blocks(self.shape)
        self.history = [(self.started, self.state)]

    # its life
    def become(self, state: str, now: float) -> None:
        self.state = state
        self.history.append((now, state))
        self.off = now if state == "off" else None

    def start(self, shape: Shape, now: float, startup_s: float) -> None:
        """Start again, under its own number."""
        # reading: a start begins with an empty prefix cache
        self.shape, self.kv, self.segment, self.after = shape, Blocks(shape), None, "off"
        self.ready = now + startup_s
        self.busy.append(0.0)
        self.become("starting", now)

    def spans(self) -> list[tuple[str, float, float | None]]:
        """(state, from, to) without the empty ones; the last one is open."""
        times = [t for t, _ in self.history[1:]]
        rows = zip(self.history, [*times, None], strict=True)
        return [(state, begin, end) for (begin, state), end in rows if begin != end and state != "off"]

    def donated(self) -> list[tuple[float, float | None]]:
        return [(begin, end) for state, begin, end in self.spans() if state == "donated"]

    @property
    def drained(self) -> bool:
        return not self.running and not self.waiting and not self.sent

    # its queue
    def blocks_of(self, tokens: int) -> int:
        return self.kv.of(tokens)

    @property
    def held(self) -> int:
        return self.kv.used

    def holds(self, tokens: int) -> bool:
        """Whether it can ever hold that many."""
        return self.blocks_of(tokens) <= self.shape.blocks

    def receive(self, request: Request) -> None:
        request.receipt = self.received
        self.received += 1
        self._queue(request)

    def _queue(self, request: Request) -> None:
        self.waiting.append(request)
        self.waiting.sort(key=lambda r: (r.rank, r.receipt))

    # starting an iteration
    def begin(self, now: float) -> None:
        preempted = True
        self.plan = None
        # reading: a start that preempted all and planned nothing (blocks of migrating ones) is tried again at once
        while preempted and not self.plan:
            preempted = self._plan(now)
        if not self.plan:
            self.plan, self.end, self.segment = None, math.inf, None
            return
        self.began, self.end = now, self._end(self.plan, now)

    def _plan(self, now: float) -> bool:
        """Fill `plan`; true if a request was preempted."""
        kv, budget, preempted = self.kv, self.shape.max_batch_tokens, False
        self.plan = []
        for request in list(self.running):
            if budget == 0 or request not in self.running:
                break
            take = min(request.need, budget)
            add = kv.of(request.computed + take) - kv.of(request.computed)
            while add > kv.free and request in self.running:
                self._preempt(self.running[-1])
                preempted = True
            if request not in self.running:
                break
            kv.take(request, add)
            budget -= take
            self.plan.append((request, take))
        while not preempted and budget > 0 and len(self.running) < self.shape.max_seqs and self.waiting:
            head = self.waiting[0]
            if not self._admit(head, now):
                break
            take = min(head.need, budget)
            kv.take(head, kv.of(head.computed + take) - head.shared * kv.per)
            budget -= take
            self.plan.append((head, take))
        return preempted

    def _preempt(self, victim: Request) -> None:
        self.running.remove(victim)
        self.kv.leave(victim)
        victim.computed = 0
        victim.preemptions += 1
        self._queue(victim)

    def _admit(self, head: Request, now: float) -> bool:
        # reading: one that migrated here with its KV looks for no hit
        hit = 0 if head.computed else self.kv.hit(head)
        self.kv.pin(head, hit)
        if self.kv.of(head.input + head.generated) - hit * self.kv.per > self.kv.free:
            self.kv.unpin(head)
            return False
        if hit:
            head.computed = hit * self.shape.hash_tokens
            head.cached_tokens += head.computed
        self.waiting.remove(head)
        self.running.append(head)
        if head.admitted is None:
            head.admitted = now
        return True

    def _end(self, plan: list[tuple[Request, int]], now: float) -> float:
        decodes = [r for r, _ in plan if r.decodes]
        chunks = [(r, take) for r, take in plan if not r.decodes]
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

    # ending it
    def finish(self, extend: Callable[[Request], int], prefills: bool = False) -> tuple[list[Request], list[Request]]:
        """The planned iteration takes effect; returns (completed, leaving for another replica).

        prefills: its lane is prefill, so whoever emits leaves.
        """
        self.busy[-1] += self.end - self.began
        emitted = []
        for request, take in self.plan:
            request.computed += take
            if request.need == 0 and not request.ghost:
                self._emit(request, None if prefills else extend)
                emitted.append(request)
        for request in self.running:
            # reading: what an aborted request computed in its last iteration enters the cache
            self.kv.enter(request)
        completed = [r for r in self.running if r.status == "ok"]
        leaving = [r for r in self.running if r.moving or (prefills and r in emitted)]
        moved = [r for r in leaving if r.status != "ok" and not r.ghost]
        for request in list(self.running):
            if request in completed or request.ghost:
                self.leave(request)
            elif request in moved:
                self.running.remove(request)
                self.sent.append(request)
        self.plan, self.end = None, math.inf
        if completed or moved:
            self.segment = None
        return completed, moved

    def _emit(self, request: Request, extend: Callable[[Request], int] | None) -> None:
        request.generated += 1
        request.patience = None
        if request.first is None:
            request.first = self.end
        if request.generated == request.output:
            request.done, request.status = self.end, "ok"
            return
        while extend is not None and request.predicted <= request.generated:  # None: it leaves, and is predicted anew
            request.predicted += extend(request)

    def leave(self, request: Request) -> None:
        """A running request goes, and its blocks."""
        self.running.remove(request)
        self.kv.leave(request)

    def forget(self, request: Request, ghost: Request) -> None:
        """The client of a running request is gone: `ghost` takes its place until the iteration ends."""
        self.running = [ghost if r is request else r for r in self.running]
        self.plan = [(ghost if r is request else r, take) for r, take in self.plan]
        self.kv.rename(request, ghost)

    # what routers may see
    def requests(self) -> int:
        return len(self.running) + len(self.waiting)

    def prefill_tokens(self) -> int:
        """Prompt tokens (and tokens to recompute after a preemption) not yet prefilled."""
        return sum(r.need for r in [*self.running, *self.waiting] if not r.decodes)

    def outstanding(self) -> int:
        every = [*self.running, *self.waiting]
        return self.prefill_tokens() + sum(r.predicted - r.generated for r in every)

    def expected(self) -> int:
        return sum(r.input + r.predicted for r in [*self.running, *self.waiting])

    def check(self) -> None:
        tokens = {r: r.computed for r in [*self.running, *self.sent]}
        for request, take in self.plan or []:
            tokens[request] += take
        self.kv.check(tokens)
        assert len(self.running) <= self.shape.max_seqs
        assert self.waiting == sorted(self.waiting, key=lambda r: (r.rank, r.receipt))
        if self.state in ("off", "donated", "starting"):
            assert self.drained, f"{self.state} with requests"

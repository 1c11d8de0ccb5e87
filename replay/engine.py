"""The driver around the kernel: arrays in, ticks and faults answered, arrays out; in memory or as a stream."""

import itertools
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .anticipation import NO_ANTICIPATION, Anticipation
from .columns import HOLD, OPEN
from .conservation import Conservation
from .fleet import Fleet, check_lanes
from .fleetcheck import check_counts
from .kernel import layout as k
from .lifecycle import Lifecycle
from .lookout import Close, Lookout
from .losses import faults_due
from .orders import carry_out, check_migrations
from .outcome import Collected, Outcome, outcome_of
from .profile import Profile
from .protocol import NOTHING, Actions, Seen
from .requests import NO_EXTENSION, Extension, Requests, arrivals
from .room import grow, make_room
from .routernames import ready
from .routers import Router
from .world import World, anticipated, state_of, world_of

__all__ = ["NEVER", "NO_EXTENSION", "Controller", "Extension", "Outcome", "Replay", "Requests", "compiled"]


def compiled() -> bool:
    """Whether the kernel lies compiled in numba's cache beside it; elsewhere (NUMBA_CACHE_DIR) it is not looked for."""
    beside = Path(__file__).parent / "kernel" / "__pycache__"
    return os.environ.get("NUMBA_CACHE_DIR") is not None or any(beside.glob("loop.*.nbi"))


class Controller(NamedTuple):
    """When the policy wants to act next, and what it does then; `next_after(t)` is inf for never."""

    next_after: Callable[[float], float]
    act: Callable[[float, Seen], Actions]


NEVER = Controller(lambda t: np.inf, lambda t, seen: NOTHING)
MOVING = (k.STARTS, k.ACTIVATE, k.DRAIN, k.LOSE, k.LOSE_QUEUE, k.RELEASE_HELD, k.MIGRATE)  # of these room is made first
QUIET_S = 86_400.0  # a day: batch work is due within one
CHUNK = 1 << 16  # requests handed to the kernel at a time, and finished ones handed back: buffers that stay in cache
CHECKED = 1 << 14  # with check=True: returns often enough to notice soon, and rarely enough to cost as much again


def bad_answer(answer: int) -> str:
    """What was wrong with a router's answer."""
    if answer == k.NO_NUMBER:
        return "scored a replica NaN"
    if answer == k.NO_ROW:
        return "scored every replica infinite and does not hold"
    if answer in (HOLD, OPEN):
        return "held a request without saying that it does (Router(holds=True))"
    return f"answered {answer}, which is no replica of the pool,"


class Replay:
    """One replay of requests over a fleet: `run()` or `stream()`, once.

    Raises UserError (exit 5) where the fleet is impossible; a router's bad answer is a RuntimeError of that policy.
    initial: replicas a pool to begin with, active at begin_s (None: the first arrival). anticipation: the KV to
    come that the controller sees (SeenReplicas.ahead).
    """

    def __init__(
        self,
        requests: Requests,
        fleet: Fleet,
        initial: Sequence[int],
        router: str | Router = "round-robin",
        controller: Controller = NEVER,
        extension: Extension = NO_EXTENSION,
        instant_start: bool = False,
        scales: bool | None = None,
        seed: int = 0,
        begin_s: float | None = None,
        profiles: Sequence[Profile] = (),
        anticipation: Anticipation = NO_ANTICIPATION,
    ) -> None:
        self.requests, self.fleet, self.controller = requests, fleet, controller
        self.router: Router = ready(router, seed)
        check_lanes(fleet)
        check_counts(fleet, initial, scales=controller is not NEVER or self.router.holds)
        self.world: World = world_of(fleet, profiles)
        scales = controller is not NEVER if scales is None else scales
        first = float(requests.arrival_s[0]) if len(requests) else 0.0
        self.begin_s = first if begin_s is None else begin_s
        state = state_of(
            self.world,
            requests,
            [max(4, 2 * (n + sum(m for _, m in pool.mixed))) for n, pool in zip(initial, fleet.pools, strict=True)],
            self.router,
            self._extension(extension),
            self.router.reads_tokens or scales,  # scale-in looks for the fewest outstanding tokens
            CHUNK,
        )
        state = anticipated(state, anticipation)
        state.ctl.begin_s = self.begin_s
        self.opens = scales
        self.life = Lifecycle(self.world, state, self._ask, seed, instant_start)
        self._table: tuple[Any, Any] = (None, None)
        self._code: Any = None
        self.sent, self.part = 0, CHUNK
        self.accounts: Conservation | None = None
        self.next_tick = controller.next_after(self.begin_s)
        self.quiet_s: float | None = None  # since when nothing but ticks is left
        self.lookout = Lookout(self.begin_s)
        self._place(initial)
        self.due = faults_due(self.life)

    @property
    def st(self) -> Any:
        """The kernel's arrays as they stand."""
        return self.life.state

    # --- set-up ---

    def _extension(self, extension: Extension) -> Extension:
        """The router's own, where it has one; a table of one row is for all kinds."""
        kinds = int(self.requests.kind.max(initial=0)) + 1
        if self.router.extend_tokens is not None:
            return Extension(np.zeros(1, np.int64), np.full((kinds, 1), self.router.extend_tokens, np.int64))
        if len(extension.tokens) > 1 or len(extension.edges):
            return extension
        return replace(extension, tokens=np.repeat(extension.tokens, kinds, axis=0))

    def _check_kinds(self, requests: Requests) -> None:
        """ValueError for requests of a kind that the extension table has no row for, which would be read beyond it."""
        rows = (len(self.st.extend) - 1) // (len(self.st.edges) + 1)
        if len(requests) and not 0 <= int(requests.kind.min()) <= int(requests.kind.max()) < rows:
            found = f"{int(requests.kind.min())} to {int(requests.kind.max())}"
            raise ValueError(f"requests are of kinds {found}; the extension table has rows for kinds 0 to {rows - 1}")

    def _place(self, initial: Sequence[int]) -> None:
        for pool, n in enumerate(initial):
            own = [int(self.world.own[pool])] * n
            mixed = [self.world.profiles.index(p) for p, m in self.fleet.pools[pool].mixed for _ in range(m)]
            for profile in own + mixed:
                self.life.place(pool, self.begin_s, k.ACTIVE, profile)
        self._ask(k.ARRANGE, self.begin_s, 0)

    def _parts(self, requests: Requests) -> Iterator[None]:
        """Hand the requests to the kernel part by part; sessions go in one, since a turn may need any row."""
        self._check_kinds(requests)
        size = len(requests) if requests.follow is not None else self.part
        buffer: np.ndarray | None = None
        for at in range(0, max(len(requests), 1), max(size, 1)):
            part = slice(at, at + size)
            if self.accounts is not None:
                self.accounts.hand(requests, part)
            rows, last = arrivals(requests, self.sent, self.world.group_of, buffer, part)
            buffer = rows if buffer is None else buffer
            self.sent += len(rows)
            self.st.ctl.next, self.st.ctl.last = 0, last
            self.life.state = self.st._replace(arr=rows)
            yield

    def _ask(self, what: int, t: float, which: int) -> int:
        from .kernel.handle import code_of, table_of
        from .kernel.loop import kernel  # compiles or loads the cache on first use

        if what in MOVING:
            make_room(self.life)
        if self._table[0] is not self.life.state:
            self._table = (self.life.state, table_of(self.life.state))
        if self._code is None:
            self._code = code_of(self.router.route)
        name = self.router.route.__name__
        try:
            why = int(kernel(self._code, what, t, which, self._table[1]))
        except Exception as error:
            if Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent.name == "kernel":
                raise  # not the router's fault
            now = float(self.st.ctl.now[0])
            raise RuntimeError(f"router {name} raised {type(error).__name__} at t={now:g} s: {error}") from error
        if why == k.BAD_ROUTE:
            now = float(self.st.ctl.now[0]) if what == k.RUN else t
            raise RuntimeError(f"router {name} {bad_answer(int(self.st.ctl.answer[0]))} at t={now:g} s")
        return why

    # --- the policy's turn ---

    def look(self, t: float) -> Seen:
        """The fleet at t, as a policy sees it."""
        self._ask(k.LOOK, t, 0)
        lent = [self.life.lives.who[record][0] for record in self.life.lent]
        donated = np.bincount(lent, minlength=len(self.fleet.pools))
        return self.lookout.look(
            t, self.st.seen, donated, Close(lambda: self.st, self.world.profiles, self.requests.deadline_s)
        )

    def _tick(self, t: float) -> None:
        self.life.harvest()
        seen = self.look(t)
        actions = self.controller.act(t, seen)
        if seen.closer is not None:
            seen.closer.close()
        check_migrations(actions.migrate, self.life, t)
        carry_out(actions, self.life, self.router, t, (seen.active + seen.starting).tolist())

    # --- running ---

    def run(self, check: bool = False) -> Outcome:
        """Replay everything; the outcome by request and by replica.

        check: conservation of requests, tokens, blocks and GPU-seconds is checked while it runs (docs/replay.md);
        ConservationError where it is broken.
        """
        collected = Collected(len(self.requests))
        for rows in self.stream([], check):
            collected.add(rows)
        return outcome_of(self.requests, collected, self.life, self.begin_s)

    def stream(self, chunks: Iterable[Requests], check: bool = False) -> Iterator[np.ndarray]:
        """Replay the first requests and then these, in arrival order; yields finished rows (layout.DONE) as they come.

        A yielded array is valid until the next is asked for. The memory is that of the requests in flight; with check
        (see run) 18 bytes a request more.
        """
        if check:
            self._keep_accounts()
        for requests in itertools.chain([self.requests], chunks):
            for _ in self._parts(requests):
                yield from self._advance(more=True)
        yield from self._advance(more=False)
        yield self._drained()

    def _keep_accounts(self) -> None:
        """Check from now on: smaller parts and buffers, so that the kernel returns often whatever the policy."""
        self.accounts = Conservation(self.life)
        self.part = CHECKED
        self.life.state = self.st._replace(done=self.st.done[: CHECKED + 2 * self.st.ends.shape[1] + 2])

    def _drained(self) -> Any:
        if self.accounts is not None:
            self.accounts.drain()
        rows = self.st.done[: int(self.st.ctl.out[0])]
        self.st.ctl.out = 0
        return rows

    def _advance(self, more: bool) -> Iterator[np.ndarray]:
        """Run to the end of the chunk, or of everything; yields full buffers of finished rows."""
        while True:
            until = min(self.next_tick, self.due[0][0] if self.due else np.inf)
            why = self._ask(k.RUN, until, int(more))
            if self.accounts is not None:
                self.accounts.check()
            if why in (k.DONE_ALL, k.MORE):
                return
            if why == k.OUT_FULL:
                yield self._drained()
                make_room(self.life)
            elif why == k.FLIGHT_FULL or why == k.AGENDA_FULL:
                grow(self.life, why)
            elif why == k.WANTED:
                self._answer(float(self.st.ctl.now[0]))
            else:
                while self.due and self.due[0][0] <= until:
                    self.due.pop(0)[1](until)
                if self.next_tick <= until:
                    self._tick(until)
                    self.next_tick = self.controller.next_after(until)
                if not more and self._over(until):
                    return

    def _over(self, t: float) -> bool:
        """Whether nothing but ticks has been left for a day: what is held or queued now stays so."""
        ctl, pools = self.st.ctl, self.st.pool
        left = int(ctl.events[0]) + int(ctl.idle[0]) + len(self.due) + int(ctl.agenda[0]) - int(ctl.beat[0])
        if left or int(ctl.in_flight[0]) > int((pools.held + pools.queued).sum()):
            self.quiet_s = None
        elif self.quiet_s is None:
            self.quiet_s = t
        return self.quiet_s is not None and t - self.quiet_s >= QUIET_S

    def _answer(self, t: float) -> None:
        """Between two ticks: a replica the driver waited for is off, or a router asked for one more."""
        self.life.harvest()
        for pool, asked in enumerate(self.st.pool.opened.tolist()):
            self.st.pool.opened[pool] = 0
            if asked and self.opens:
                self.life.open(pool, asked, t)

"""The driver around the kernel: arrays in, ticks and faults answered, arrays out; in memory or as a stream."""

import itertools
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .anticipation import NO_ANTICIPATION, Anticipation
from .columns import HOLD, NOT_SENT, OPEN, UNSERVED
from .conservation import Conservation
from .fleet import Fleet, check_lanes
from .fleetcheck import check_counts
from .kernel import layout as k
from .kernel.heap import SLOT_BITS
from .lifecycle import Lifecycle
from .lookout import Close, Lookout
from .losses import lose_region, lose_replica, restore
from .orders import check_migrations
from .outcome import Collected, Outcome
from .profile import Profile
from .protocol import NOTHING, Actions, Seen
from .requests import NO_EXTENSION, Extension, Requests, arrivals
from .routers import Router, ready
from .world import World, anticipated, params_of, state_of, world_of

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
MOST_IN_FLIGHT = 1 << SLOT_BITS  # requests sent and not ended: more have no number in the kernel's heaps
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
        self._faults()

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

    def _faults(self) -> None:
        """(time, what) of faults and of regions that return, in time order."""
        due: list[tuple[float, Callable[[float], None]]] = []
        for fault in self.fleet.faults:
            if fault.region is not None:
                due.append((fault.at_s, partial(lose_region, self.life, fault.region, fault.until_s)))
                due.append((fault.until_s, partial(restore, self.life, fault.region)))
            elif fault.pool is not None and fault.replica is not None:
                due.append((fault.at_s, partial(lose_replica, self.life, fault.pool, fault.replica)))
        self.due = sorted((entry for entry in due if np.isfinite(entry[0])), key=lambda entry: entry[0])

    def _ask(self, what: int, t: float, which: int) -> int:
        from .kernel.handle import code_of, table_of
        from .kernel.loop import kernel  # compiles or loads the cache on first use

        if what in MOVING:
            self._make_room()
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
        self.carry_out(actions, t, (seen.active + seen.starting).tolist())

    def carry_out(self, actions: Actions, t: float, have: Sequence[float] = ()) -> None:
        """Do what a policy wants done at t, which is now; ValueError for what cannot be meant.

        have: replicas starting or active, by pool, where that is known: who ticks often mostly wants just these.
        """
        names = [profile.name for profile in self.world.profiles]
        for pool, wanted in actions.replicas.items():
            if self._as_it_is(pool, wanted, have):
                continue
            self._valid(pool, wanted, "replicas", t)
            self.life.scale(int(pool), int(wanted), t)
        for (pool, name), wanted in actions.replicas_of.items():
            self._valid(pool, wanted, f"replicas of {name}", t)
            self.life.scale(int(pool), int(wanted), t, names.index(name))
        for pool, n in actions.donate.items():
            self._valid(pool, n, "replicas to donate", t)
            self.life.drain(int(pool), int(n), t, lend=True)
        for (pool, name), n in actions.donate_of.items():
            self._valid(pool, n, f"replicas of {name} to donate", t)
            self.life.drain(int(pool), int(n), t, lend=True, profile=names.index(name))
        for pool, replica, name in actions.reshape:
            self._valid(pool, replica, "as a replica to reshape", t)
            self.life.reshape(int(pool), int(replica), names.index(name), t)
        for pool, replicas, followers, start_s in actions.regroup:
            for replica in replicas:
                self._valid(pool, replica, "as a replica to regroup", t)
            follow = [names.index(name) for name in followers]
            self.life.regroup(int(pool), [int(r) for r in replicas], follow, start_s, t)
        for request, pool, replica in actions.migrate:
            self._valid(pool, replica, "as a replica to migrate to", t)
            self._migrate(int(request), int(pool), int(replica), t)
        for pool, n in actions.release.items():
            self._valid(pool, n, "held requests to release", t)
            held = int(self.st.pool.held[pool])  # more would not fit beside the pool in one number
            self._ask(k.RELEASE_HELD, t, int(pool) * k.PHASE + min(int(n), held))
        if actions.weights is not None:
            self._reweigh(actions.weights)

    def _reweigh(self, weights: Sequence[Sequence[float]]) -> None:
        """The router goes by these weights from now on; ValueError where it has none, or not such."""
        if "weights" not in self.router.params:
            raise ValueError(f"router {self.router.route.__name__} has no weights to be set")
        self.router = replace(self.router, params={**self.router.params, "weights": [list(row) for row in weights]})
        self.life.state = self.st._replace(params=params_of(self.router))

    def _migrate(self, request: int, pool: int, replica: int, t: float) -> None:
        """A request that waits or runs on a replica leaves for another one; others stay where they are."""
        if int(self.st.ctl.free[0]) < 2:
            self._grow(k.FLIGHT_FULL)
        fly, rep = self.st.fly, self.st.rep
        here = (fly.request == request) & (fly.gone == 0) & np.isin(fly.phase, (k.WAITING, k.PREFILL, k.DECODE))
        for q in np.flatnonzero(here):
            at = rep[int(fly.replica[q])]
            if (int(at.pool), int(at.index)) != (pool, replica):
                fly.target[q], fly.target_pool[q] = replica, pool
                self._ask(k.MIGRATE, t, int(q))

    def _as_it_is(self, pool: int, wanted: float, have: Sequence[float]) -> bool:
        """Whether the pool needs no look at all: it has what is wanted, within its bounds, and nothing gives way."""
        if not 0 <= pool < len(have) or have[int(pool)] != wanted or self.life.reshaping or self.life.regroups.of:
            return False
        return self.fleet.pools[int(pool)].clamp(int(wanted)) == wanted

    def _valid(self, pool: int, n: float, what: str, t: float) -> None:
        if not np.isfinite(n) or n < 0 or not 0 <= pool < len(self.fleet.pools):
            raise ValueError(f"asked for {n} {what} in pool {pool} at t={t:g} s")

    # --- running ---

    def run(self, check: bool = False) -> Outcome:
        """Replay everything; the outcome by request and by replica.

        check: conservation of requests, tokens, blocks and GPU-seconds is checked while it runs (docs/replay.md);
        ConservationError where it is broken.
        """
        collected = Collected(len(self.requests))
        for rows in self.stream([], check):
            collected.add(rows)
        last_s = collected.last_s()
        return self._outcome(collected.columns(self.requests.arrival_s), last_s)

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
                self._make_room()
            elif why == k.FLIGHT_FULL or why == k.AGENDA_FULL:
                self._grow(why)
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

    def _make_room(self) -> None:
        """In one go all in flight may be sent again (agenda), and all that are queued in a pool be rejected (done).

        Starts that are cancelled stay on the agenda until their time comes, so there may be any number of these, too.
        """
        from .kernel.state import longer

        ctl, widest = self.st.ctl, self.st.ends.shape[1]
        while int(ctl.agenda[0] + ctl.in_flight[0]) + 2 * widest + 8 > len(self.st.agenda):
            self._grow(k.AGENDA_FULL)
        rows = int(ctl.out[0] + self.st.pool.queued.max(initial=0)) + widest + 2
        if rows > len(self.st.done):
            self.life.state = self.st._replace(done=longer(self.st, "done", 2 * rows))

    def _grow(self, why: int) -> None:
        from .kernel.state import longer, more_flights

        if why == k.FLIGHT_FULL:
            have = len(self.st.fly)
            if have >= MOST_IN_FLIGHT:  # of this policy's fleet; others may do with less
                raise RuntimeError(
                    f"{have:,} requests wait or run at t={float(self.st.ctl.now[0]):g} s, the most a replay can hold; "
                    "give this policy more replicas, its clients a timeout, or replay a shorter part of the trace"
                )
            self.life.state = more_flights(self.st, min(2 * have, MOST_IN_FLIGHT))
        else:
            self.life.state = self.st._replace(agenda=longer(self.st, "agenda", 2 * len(self.st.agenda)))

    # --- results ---

    def _outcome(self, columns: dict[str, np.ndarray], last_s: float) -> Outcome:
        n = len(self.requests)
        if self.requests.follow is not None:
            unserved = columns["status"] == UNSERVED
            waiting = np.zeros(n, bool)
            waiting[self.st.fly.request[(self.st.fly.phase != k.ELSEWHERE) & (self.st.fly.gone == 0)]] = True
            later = np.isin(np.arange(n), self.requests.follow)
            columns["status"][unserved & later & ~waiting] = NOT_SENT
        end = max(self.begin_s, last_s)
        end = max(end, float(self.requests.arrival_s[-1])) if n else end
        self.life.harvest()
        lives, rep = self.life.lives, self.st.rep
        for slot in np.flatnonzero(rep.state != k.FREE):
            lives.busy_s[int(rep.record[slot])] = float(rep.busy_s[slot])
        return Outcome(
            **columns,
            replicas=lives.replicas(),
            profiles=self.world.profiles,
            spans=lives.spans(end),
            busy_s=np.array([lives.busy_s.get(i, 0.0) for i in range(len(lives.who))]),
            actions_s=np.array(self.life.actions_s, np.float64),
            denied=self.life.denied,
            denied_down=self.life.denied_down,
            end_s=end,
        )

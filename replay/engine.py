"""The driver around the kernel: arrays in, control ticks answered, arrays out."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError

from . import columns as c
from .fleet import Fleet
from .protocol import NOTHING, Actions, Seen
from .routers import ROUTERS, Router

STATES = ("starting", "active", "draining", "off")


@dataclass(frozen=True)
class Requests:
    """What is replayed, in arrival order; arrays of one length.

    arrival_s f8, rising; pool i8, number in the fleet; input_tokens, output_tokens i8 >= 1; predicted_tokens f8, what
    routers take the output to be (ignored by routers that read no tokens); kind i8, row of the extension table.
    """

    arrival_s: np.ndarray
    pool: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    predicted_tokens: np.ndarray
    kind: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What happened: arrays aligned with the requests, and the life of every replica.

    status i8 (columns.OK, REJECTED, UNSERVED), record i8 (row in `replicas`), preemptions i8; admitted_s, first_s,
    done_s f8, NaN where it did not happen. replicas: record, pool, replica. spans: record, pool, replica, state (one
    of STATES but off), from_s, to_s. busy_s f8 by record. actions_s f8: when a replica was started, taken back or
    drained, one entry each. end_s: last completion.
    """

    status: np.ndarray
    record: np.ndarray
    preemptions: np.ndarray
    admitted_s: np.ndarray
    first_s: np.ndarray
    done_s: np.ndarray
    replicas: pl.DataFrame
    spans: pl.DataFrame
    busy_s: np.ndarray
    actions_s: np.ndarray
    end_s: float


@dataclass(frozen=True)
class Extension:
    """What an outlived prediction grows by: tokens[kind, i] once generated[i] tokens are there (grid, rising)."""

    generated: np.ndarray
    tokens: np.ndarray


NO_EXTENSION = Extension(np.zeros(1, np.int64), np.full((1, 1), 30, np.int64))


def compiled() -> bool:
    """Whether the kernel lies compiled in numba's cache beside it; elsewhere (NUMBA_CACHE_DIR) it is not looked for."""
    beside = Path(__file__).parent / "__pycache__"
    return os.environ.get("NUMBA_CACHE_DIR") is not None or any(beside.glob("kernel.*.nbi"))


class Controller(NamedTuple):
    """When the policy wants to act next, and what it does then; `next_after(t)` is inf for never."""

    next_after: Callable[[float], float]
    act: Callable[[float, Seen], Actions]


NEVER = Controller(lambda t: np.inf, lambda t, seen: NOTHING)


class Replay:
    """One replay of requests over a fleet: `run()` once.

    Raises UserError (exit 5) where the fleet is impossible; a router's bad answer is a RuntimeError of that policy.
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
    ) -> None:
        self.requests, self.fleet, self.controller, self.seed = requests, fleet, controller, seed
        self.router: Router = ROUTERS.load(router) if isinstance(router, str) else router
        self.instant_start = instant_start
        self._check(initial)
        scales = controller is not NEVER if scales is None else scales
        self.st = self._state(initial, extension, scales)
        self.made: list[tuple[int, int]] = []  # (pool, index) by record
        self.log: list[tuple[int, float, int]] = []  # (record, time, index in STATES)
        self.busy: dict[int, float] = {}
        self.counts = [0] * len(fleet.pools)
        self.actions: list[float] = []
        first = float(requests.arrival_s[0]) if len(requests.arrival_s) else 0.0
        self.begin_s = first if begin_s is None else begin_s
        self.last_seen: np.ndarray | None = None
        self.last_t = self.begin_s
        for pool, n in enumerate(initial):
            for _ in range(n):
                self._place(pool, self.begin_s, c.ACTIVE)
        self._ask(c.ARRANGE)

    # --- set-up ---

    def _check(self, initial: Sequence[int]) -> None:
        for pool, n in zip(self.fleet.pools, initial, strict=True):
            if n < 0:
                raise UserError(f"pool {pool}: {n} replicas to begin with", Exit.CONFIG)
            if n == 0 and self.controller is NEVER:
                raise UserError(f"pool {pool}: no replica to begin with and a policy that never adds one", Exit.CONFIG)

    def _state(self, initial: Sequence[int], extension: Extension, scales: bool) -> Any:
        from .state import empty_state

        shapes = [pool.profile for pool in self.fleet.pools]
        slots = np.array([max(4, 2 * n) for n in initial], np.int64)
        widest = max(p.max_seqs for p in shapes)
        block = max(p.block for p in shapes)
        n = len(self.requests.arrival_s)
        flights = min(max(1024, n // 8), 1 << 20)
        st = empty_state(int(slots.sum()), widest, block, len(shapes), flights, n + 2 * widest + 2)
        st.pool[:, c.Q_FIRST] = np.concatenate([[0], np.cumsum(slots)[:-1]])
        st.pool[:, c.Q_SLOTS] = slots
        latency = np.array(
            [
                [getattr(p.latency, f) for f in ("base", "attn_pair", "prefix_kv", "decode_seq", "decode_kv")]
                for p in shapes
            ]
        )
        most = max(p.max_batch_tokens for p in shapes)
        token_s = np.stack([p.latency.token_s(most) for p in shapes])
        tokens = self.router.tokens or scales  # scale-in looks for the fewest outstanding tokens
        st.ctl[c.C_TOKENS], st.ctl[c.C_LOOK] = int(tokens), int(self.router.tokens)
        if self.router.extend_tokens is not None:
            kinds = int(self.requests.kind.max(initial=0)) + 1
            extension = Extension(np.zeros(1, np.int64), np.full((kinds, 1), self.router.extend_tokens, np.int64))
        r = self.requests
        predicted = np.clip(np.rint(r.predicted_tokens), 1, 1 << 40).astype(np.int64)
        what = np.stack([r.pool, r.input_tokens, r.output_tokens, predicted, r.kind], axis=1).astype(np.int64)
        return st._replace(
            latency=latency,
            token_s=token_s,
            extend_at=np.array(extension.generated, np.int64),
            extend_by=np.array(extension.tokens, np.int64),
            params=np.array([*self.router.params.values(), 0.0]),
            arrival=np.array(r.arrival_s, np.float64),  # a copy: Polars lends read-only arrays
            what=np.ascontiguousarray(what),
        )

    def _ask(self, what: int, t: float = 0.0, which: int = 0) -> int:
        from .kernel import kernel  # compiles or loads the cache on first use

        return int(kernel(self.router.route, what, t, which, tuple(self.st)))

    # --- replicas come and go ---

    def _slot(self, pool: int) -> int:
        first, slots = self.st.pool[pool, [c.Q_FIRST, c.Q_SLOTS]]
        states = self.st.rep[first : first + slots, c.R_STATE]
        free = np.flatnonzero(states == c.FREE)
        if len(free):
            return int(first + free[0])
        from .state import more_slots

        counts = self.st.pool[:, c.Q_SLOTS].copy()
        counts[pool] *= 2
        self.st = more_slots(self.st, counts)
        self._ask(c.ARRANGE)
        return self._slot(pool)

    def _add(self, pool: int, t: float, startup_s: float) -> None:
        """A new replica of the pool, active after startup_s (0: at once)."""
        if startup_s == 0:
            self._ask(c.ACTIVATE, t, self._place(pool, t, c.ACTIVE))
            return
        r = self._place(pool, t, c.STARTING)
        self.st.rep_t[r, c.R_READY] = t + startup_s
        self._note(int(self.st.rep[r, c.R_RECORD]), t + startup_s, "active")
        self._ask(c.ARRANGE)

    def _place(self, pool: int, t: float, state: int) -> int:
        """A fresh replica in a free slot of the pool; the kernel is yet to arrange the pool's rows."""
        r, profile = self._slot(pool), self.fleet.pools[pool].profile
        record, index = len(self.made), self.counts[pool]
        self.counts[pool] += 1
        self.made.append((pool, index))
        rep = self.st.rep
        row = rep[r, c.R_ROW]
        rep[r] = 0
        rep[r, [c.R_POOL, c.R_RECORD, c.R_INDEX, c.R_PROFILE, c.R_ROW]] = pool, record, index, pool, row
        rep[r, [c.R_BLOCKS, c.R_BLOCK]] = profile.kv_tokens // profile.block, profile.block
        rep[r, [c.R_MAX_SEQS, c.R_MAX_BATCH]] = profile.max_seqs, profile.max_batch_tokens
        rep[r, [c.R_HEAD, c.R_TAIL, c.R_PARTIAL]] = -1
        self.st.rep_t[r] = np.inf
        self.st.rep_t[r, c.R_BUSY] = 0.0
        self.st.residue[r] = 0
        rep[r, c.R_STATE] = state
        self._note(record, t, "active" if state == c.ACTIVE else "starting")
        return r

    def _note(self, record: int, t: float, state: str) -> None:
        self.log.append((record, t, STATES.index(state)))

    def _harvest(self) -> None:
        """Free the slots of replicas that went off since the last look."""
        rep = self.st.rep
        for r in np.flatnonzero(rep[:, c.R_STATE] == c.ENDED):
            self._note(int(rep[r, c.R_RECORD]), float(self.st.rep_t[r, c.R_OFF]), "off")
            self.busy[int(rep[r, c.R_RECORD])] = float(self.st.rep_t[r, c.R_BUSY])
            rep[r, c.R_STATE] = c.FREE

    def _startup_s(self, pool: int) -> float:
        if self.instant_start:
            return 0.0
        startup = self.fleet.pools[pool].profile.startup_s
        # by pool and index, so that every policy meets the same start-up times
        return startup.draw(startup.cold, np.random.default_rng([self.seed, pool, self.counts[pool]]))

    def _live(self, pool: int, *states: int) -> np.ndarray:
        first, slots = self.st.pool[pool, [c.Q_FIRST, c.Q_SLOTS]]
        rows = np.arange(first, first + slots)
        return rows[np.isin(self.st.rep[rows, c.R_STATE], states)]

    def scale(self, pool: int, wanted: int, t: float) -> None:
        """Take back draining replicas, start new ones, or drain those with the fewest outstanding tokens."""
        wanted = self.fleet.pools[pool].clamp(wanted)
        live = self._live(pool, c.STARTING, c.ACTIVE)
        missing = wanted - len(live)
        self.actions += [t] * abs(missing)
        if missing > 0:
            draining = self._live(pool, c.DRAINING)
            oldest = draining[np.argsort(self.st.rep[draining, c.R_INDEX])][:missing]
            for r in oldest:
                self._note(int(self.st.rep[r, c.R_RECORD]), t, "active")
                self._ask(c.ACTIVATE, t, int(r))
            for _ in range(missing - len(oldest)):
                self._add(pool, t, self._startup_s(pool))
        elif missing < 0:
            self._scale_in(live, -missing, t)

    def _scale_in(self, live: np.ndarray, surplus: int, t: float) -> None:
        self._ask(c.LOOK, t)
        rep = self.st.rep
        tokens = self.st.rows[rep[live, c.R_ROW], c.OUTSTANDING_TOKENS]
        tokens = np.where(rep[live, c.R_STATE] == c.STARTING, 0.0, tokens)
        order = np.lexsort((-rep[live, c.R_INDEX], tokens))  # ties to the youngest
        for r in live[order[:surplus]]:
            record = int(rep[r, c.R_RECORD])
            if rep[r, c.R_STATE] == c.STARTING:  # its promised activation will not happen
                self.log.remove((record, float(self.st.rep_t[r, c.R_READY]), STATES.index("active")))
                self.st.rep_t[r, c.R_READY] = np.inf
            else:
                self._note(record, t, "draining")
            self._ask(c.DRAIN, t, int(r))
        self._harvest()

    # --- the policy's turn ---

    def look(self, t: float) -> Seen:
        """The fleet at t, as a policy sees it."""
        self._ask(c.LOOK, t)
        seen = self.st.seen.copy()
        so_far = seen[:, c.S_ARRIVED :]
        since = so_far if self.last_seen is None else so_far - self.last_seen
        interval_s, self.last_seen, self.last_t = t - self.last_t, so_far, t
        return Seen(
            t=t,
            interval_s=interval_s,
            active=seen[:, c.S_ACTIVE],
            starting=seen[:, c.S_STARTING],
            draining=seen[:, c.S_DRAINING],
            queued=seen[:, c.S_QUEUED],
            waiting=seen[:, c.S_WAITING],
            running=seen[:, c.S_RUNNING],
            outstanding_tokens=seen[:, c.S_OUTSTANDING],
            kv_fraction=seen[:, c.S_KV] / np.maximum(seen[:, c.S_KV_CAPACITY], 1.0),
            arrivals=since[:, 0],
            arrived_input_tokens=since[:, 1],
            completions=since[:, 2],
            completed_output_tokens=since[:, 3],
        )

    def _tick(self, t: float) -> None:
        self._harvest()
        seen = self.look(t)
        for pool, wanted in self.controller.act(t, seen).replicas.items():
            if not np.isfinite(wanted) or wanted < 0 or not 0 <= pool < len(self.fleet.pools):
                raise ValueError(f"asked for {wanted} replicas in pool {pool} at t={t:g} s")
            if self.fleet.pools[pool].clamp(wanted) != seen.active[pool] + seen.starting[pool]:
                self.scale(int(pool), int(wanted), t)

    def run(self) -> Outcome:
        """Replay everything; the outcome by request and by replica."""
        from .state import more_flights

        until = self.controller.next_after(self.begin_s)
        while True:
            why = self._ask(c.RUN, until)
            if why == c.DONE:
                return self._outcome()
            if why == c.TICK:
                self._tick(until)
                until = self.controller.next_after(until)
            elif why == c.FLIGHT_FULL:
                self.st = more_flights(self.st, 2 * len(self.st.fly))
            else:
                raise RuntimeError(f"the router named no replica of the pool at t={self.st.clock[c.T_NOW]:g} s")

    # --- results ---

    def _outcome(self) -> Outcome:
        n, out = len(self.requests.arrival_s), int(self.st.ctl[c.C_OUT])
        done, done_t = self.st.done[:out], self.st.done_t[:out]
        at = done[:, c.O_REQUEST]

        def scatter(column: np.ndarray, empty: float, kind: type) -> np.ndarray:
            full: np.ndarray = np.full(n, empty, kind)
            full[at] = column
            return full

        status = scatter(done[:, c.O_STATUS], c.UNSERVED, np.int64)
        times = [scatter(done_t[:, k], np.nan, np.float64) for k in (c.O_ADMITTED, c.O_FIRST, c.O_DONE)]
        times = [np.where((status == c.OK) & np.isfinite(x), x, np.nan) for x in times]
        end = float(np.nanmax(times[2], initial=self.begin_s))
        end = max(end, float(self.requests.arrival_s[-1])) if n else end
        self._harvest()
        for r in np.flatnonzero(self.st.rep[:, c.R_STATE] != c.FREE):
            self.busy[int(self.st.rep[r, c.R_RECORD])] = float(self.st.rep_t[r, c.R_BUSY])
        replicas = pl.DataFrame(
            [(i, p, k) for i, (p, k) in enumerate(self.made)],
            schema={"record": pl.Int64, "pool": pl.Int64, "replica": pl.Int64},
            orient="row",
        )
        return Outcome(
            status=status,
            record=scatter(done[:, c.O_RECORD], -1, np.int64),
            preemptions=scatter(done[:, c.O_PREEMPTIONS], 0, np.int64),
            admitted_s=times[0],
            first_s=times[1],
            done_s=times[2],
            replicas=replicas,
            spans=_spans(self.log, replicas, end),
            busy_s=np.array([self.busy.get(i, 0.0) for i in range(len(self.made))]),
            actions_s=np.array(self.actions, np.float64),
            end_s=end,
        )


def _spans(log: list[tuple[int, float, int]], replicas: pl.DataFrame, end_s: float) -> pl.DataFrame:
    """Spans of starting, active and draining, from the log of state changes; what lasts ends at end_s."""
    schema = {"record": pl.Int64, "from_s": pl.Float64, "state": pl.Int64}
    return (
        pl.DataFrame(log, schema=schema, orient="row")
        .with_row_index("order")
        .sort("record", "from_s", "order")
        .with_columns(to_s=pl.col("from_s").shift(-1).over("record").fill_null(end_s))
        .with_columns(to_s=pl.col("to_s").clip(upper_bound=end_s))
        .filter((pl.col("state") < STATES.index("off")) & (pl.col("to_s") > pl.col("from_s")))
        .with_columns(state=pl.col("state").replace_strict(dict(enumerate(STATES)), return_dtype=pl.String))
        .join(replicas, on="record", how="left")
        .select("record", "pool", "replica", "state", "from_s", "to_s")
    )

"""Policies that react, at window fidelity: their own `react`, tick by tick, on a fluid model of every pool."""

from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from lmaas.replay.engine import Controller
from lmaas.replay.protocol import Actions, Seen

from .guard import guarded
from .prepare import Prepared
from .reacting import Timetable, told
from .window_demand import Steps
from .window_plan import Grid
from .window_response import Response, smoothed, unhurried


@dataclass
class _Pool:
    """One pool of the fluid: replicas serving, starting (when ready) and draining (when gone), and work left over."""

    active: int
    count: int  # replicas ever made, as the replay numbers them: start-up times are drawn by number
    starting: list[float] = field(default_factory=list)
    draining: list[float] = field(default_factory=list)
    left: float = 0.0
    load: float = 0.0
    actions: int = 0

    def settle(self, t: float) -> None:
        """What is due by t: starts become active, drained replicas go."""
        self.active += sum(ready <= t for ready in self.starting)
        self.starting = [ready for ready in self.starting if ready > t]
        self.draining = [gone for gone in self.draining if gone > t]


def scan(
    policy: Any,
    state: Any,
    ready: Prepared,
    steps: Steps,
    responses: list[Response],
    grid: Grid,
    initial: list[int],
    plan: tuple[Timetable, np.ndarray, set[float]] | None = None,
) -> list[pl.DataFrame]:
    """One frame a pool, a row a window (columns of window_plan.score, per_window): the policy reacts at every step.

    steps: of control_s, from ready.start_s on. A pool's requests present are its response's at the load of the step
    before. plan: of a policy that plans too, with the times it decides at and those windows begin at; what it asks for
    is applied at the first tick from then on.
    """
    fluid = _Fluid(ready, steps, responses, initial)
    decide = partial(_followed, policy, state)
    reacting = guarded(Controller(lambda t: np.inf, decide), ready.fleet)
    table, times, fresh = plan or (None, np.zeros(0), set())
    planned = times[::-1].tolist()
    for j in range(steps.count):
        t = steps.start_s + j * steps.step_s
        for pool in fluid.pools:
            pool.settle(t)
        wanted: dict[int, int] = {}
        seen = fluid.look(t, j)
        while table is not None and planned and planned[-1] <= t + 1e-9:
            when = planned.pop()
            wanted |= told(policy, state, table, when, seen, when in fresh).replicas
        if j:
            wanted |= reacting.act(t, seen).replicas
        for number, replicas in wanted.items():
            fluid.scale(number, int(replicas), t)
        fluid.step(j)
    return fluid.frames(grid)


def _followed(policy: Any, state: Any, t: float, seen: Seen) -> Actions:
    """What the policy wants; ValueError for what windows cannot follow: the result would not be the policy's."""
    actions: Actions = policy.react(t, seen, state)
    asked = {"replicas_of", "donate", "donate_of", "reshape", "regroup", "migrate", "release", "weights"}
    beyond = sorted(name for name in asked if getattr(actions, name, None))
    if beyond:
        raise ValueError(f"asked to {', '.join(beyond)}: windows follow replica counts only; take --fidelity request")
    return actions


class _Fluid:
    """All pools: inflow smoothed over τ, Lindley backlog, capacity n·c; what it was at every step."""

    def __init__(self, ready: Prepared, steps: Steps, responses: list[Response], initial: list[int]) -> None:
        self.ready, self.steps, self.responses = ready, steps, responses
        work = steps.of["work"]
        self.inflow = np.stack([smoothed(w, steps.step_s, r.tau_s) for w, r in zip(work, responses, strict=True)])
        arrived = steps.of["requests"]
        self.alone = np.stack([unhurried(n, steps.step_s, r.alone_s) for n, r in zip(arrived, responses, strict=True)])
        self.per_s = [ready.rates[pool.service, pool.lane] for pool in ready.fleet.pools]
        self.pools = [_Pool(n, n) for n in initial]
        shape = (len(self.pools), steps.count)
        self.active, self.paid, self.load, self.left = (np.zeros(shape) for _ in range(4))
        self.starting, self.acted = np.zeros(shape), np.zeros(shape)
        self.slower: dict[tuple[int, int], np.ndarray] = {}

    def requests(self, number: int, j: int) -> float:
        """Requests present in a pool when step j has ended, waiting ones included."""
        pool, response, rates = self.pools[number], self.responses[number], self.per_s[number]
        if pool.active == 0:
            return (pool.left + pool.load * response.tau_s) * rates.requests_s
        key = (number, pool.active)
        if key not in self.slower:
            self.slower[key] = response.read(response.slower, response.load, float(pool.active))
        top = float(response.load[-1])
        x = min(pool.load, top) / top * (len(response.load) - 1)
        at = min(int(x), len(response.load) - 2)
        row = self.slower[key]
        inside = float(row[at] + (row[at + 1] - row[at]) * (x - at))
        beyond = max(pool.load - top, 0.0) * response.tau_s * rates.requests_s
        return float(self.alone[number, j]) * inside + pool.active * beyond

    def look(self, t: float, j: int) -> Seen:
        """What the policy sees; of what the fluid does not have (a wider Seen) nothing."""
        fleet, of, pools = self.ready.fleet.pools, self.steps.of, range(len(self.pools))
        before = {name: column[:, j - 1] if j else np.zeros(len(fleet)) for name, column in of.items()}
        present = np.array([self.requests(p, j - 1) if j else 0.0 for p in pools])
        active = np.array([float(pool.active) for pool in self.pools])
        room = active * np.array([float(pool.profile.max_seqs) for pool in fleet])
        running = np.minimum(present, room)
        prompt = np.array([r.prompt_tokens_s / r.requests_s for r in self.per_s])
        answer = np.array([r.output_tokens_s / r.requests_s for r in self.per_s])
        capacity = np.maximum(active, 1.0) * np.array([float(pool.profile.kv_tokens) for pool in fleet])
        held = running * (prompt + answer / 2)
        known = {
            "t": t,
            "interval_s": self.steps.step_s,
            "active": active,
            "starting": np.array([float(len(pool.starting)) for pool in self.pools]),
            "draining": np.array([float(len(pool.draining)) for pool in self.pools]),
            "queued": np.where(active == 0, present, 0.0),
            "waiting": np.where(active == 0, 0.0, present - running),
            "running": running,
            "outstanding_tokens": (present - running) * (prompt + answer) + running * answer / 2,
            "kv_fraction": np.minimum(held / capacity, 1.0),
            "arrivals": before["requests"],
            "arrived_input_tokens": before["input_tokens"],
            "completions": before["requests"],
            "completed_output_tokens": before["output_tokens"],
            "mean_ttft_s": np.full(len(self.pools), np.nan),  # not known of windows
            "mean_e2e_s": np.full(len(self.pools), np.nan),
        }
        return Seen(
            **{f.name: known.get(f.name, np.zeros(len(self.pools))) for f in fields(Seen) if f.name != "closer"}
        )  # type: ignore[arg-type]

    def scale(self, number: int, wanted: int, t: float) -> None:
        """As the replay: take back draining ones, then start; scale in from those that start, then drain."""
        pool, spec = self.pools[number], self.ready.fleet.pools[number]
        missing = spec.clamp(wanted) - pool.active - len(pool.starting)
        pool.actions += abs(missing)
        back = min(max(missing, 0), len(pool.draining))
        pool.active += back
        pool.draining = pool.draining[back:]
        for _ in range(missing - back):
            startup = spec.profile.startup_s
            rng = np.random.default_rng([self.ready.seed, number, pool.count])  # the replay's own draw
            pool.count += 1
            pool.starting.append(t + startup.draw(startup.cold, rng))
        surplus = max(-missing, 0)
        cancelled = min(surplus, len(pool.starting))
        pool.starting = pool.starting[: len(pool.starting) - cancelled]
        drained = min(surplus - cancelled, pool.active)
        pool.active -= drained
        pool.draining += [t + self.responses[number].drain_s] * drained

    def step(self, j: int) -> None:
        """One step of the fluid, and its record."""
        for number, pool in enumerate(self.pools):
            response, inflow = self.responses[number], float(self.inflow[number, j])
            net = (inflow - pool.active * response.capacity) * self.steps.step_s
            pool.left = max(0.0, pool.left + net)
            pool.load = (inflow + pool.left / response.tau_s) / max(pool.active, 1)
            self.active[number, j], self.load[number, j], self.left[number, j] = pool.active, pool.load, pool.left
            self.starting[number, j] = len(pool.starting)
            self.paid[number, j] = pool.active + len(pool.starting) + len(pool.draining)
            self.acted[number, j] = pool.actions

    def frames(self, grid: Grid) -> list[pl.DataFrame]:
        """The steps from the cut on, summed by window."""
        times = self.steps.start_s + np.arange(self.steps.count) * self.steps.step_s
        end = grid.start_s[-1] + grid.length_s[-1]
        length = np.clip(end - times, 0.0, self.steps.step_s)
        window = np.floor((times - grid.start_s[0]) / grid.window_s + 1e-9).astype(np.int64)
        keep = (window >= 0) & (window < len(grid.start_s))
        return [self._frame(number, window[keep], length[keep], keep, grid) for number in range(len(self.pools))]

    def _frame(self, number: int, window: np.ndarray, length: np.ndarray, keep: np.ndarray, grid: Grid) -> pl.DataFrame:
        response = self.responses[number]
        gpus = self.ready.fleet.pools[number].profile.gpus_per_replica / 3600.0
        active, load, paid = self.active[number, keep], self.load[number, keep], self.paid[number, keep]
        some = active > 0
        share = np.where(some, response.read(response.attained, load, active), 0.0)
        busy = np.where(some, response.read(response.busy, load, active), 0.0)

        def summed(values: np.ndarray) -> np.ndarray:
            return np.bincount(window, values, minlength=len(grid.start_s))

        tail = np.zeros(len(grid.start_s))
        tail[-1] = paid[-1] * response.tail_s + self.left[number, keep][-1] / response.capacity
        acted = np.diff(self.acted[number], prepend=0.0)[keep]
        columns = {
            "setting": np.zeros(len(grid.start_s), np.int64),
            "window": np.arange(len(grid.start_s)),
            "requests": summed(self.steps.of["requests"][number, keep]),
            "provisioned": summed(paid * length) / np.maximum(summed(length), 1e-9),
            "active": summed(active * length) / np.maximum(summed(length), 1e-9),
            "attained": summed(self.steps.of["possible"][number, keep] * share),
            "hours": (summed(paid * length) + tail) * gpus,
            "active_hours": summed(active * length) * gpus,
            "tail_hours": tail * gpus,
            "startup_hours": summed(self.starting[number, keep] * length) * gpus,
            "served_s": summed(active * length),
            "busy_s": summed(busy * active * length),
            "backlog": summed(self.left[number, keep] * length),
            "actions": summed(acted),
        }
        return pl.DataFrame(columns)

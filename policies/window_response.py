"""How a pool answers to load: curves learned by load tests on the training part, read by window fidelity.

Load z is work per replica-second, in units of μ: (A + B/τ)/n with A the work that arrived a second over the last τ (the
mean time in the system at μ), B the work left over from before (Lindley) and n active replicas. Learned and used alike.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.signal import fftconvolve

from lmaas.replay import columns as c
from lmaas.replay.engine import Outcome, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.rates import Mix, Rates, attained

from .window_demand import Work, possible

LEVELS = (1, 2, 4, 8, 16)  # replicas of the load tests; larger pools answer like the largest
SHARES_OF_MU = (0.1, 0.3, 0.6, 0.8, 1.0)
SHARES_OF_CAPACITY = (0.7, 0.85, 1.0, 1.2, 1.6)
LEAST, MOST = 1500, 12_000  # requests a load test
SPAN = 30.0  # a load test lasts this many times τ where MOST allows
BLOCK = 250  # consecutive arrivals kept together: their bursts are the trace's own
BINS = 40


@dataclass(frozen=True)
class Response:
    """What a pool does at load z with n replicas: rows of the tables are `levels`, columns `load`.

    attained: share of the possible requests that attain; slower: requests present over those that would be if each had
    a replica to itself; alone_s: how long each would take then (a sample, rising); busy: share of time in an iteration.
    capacity: work a replica-second when flooded (1 is μ). drain_s: from scale-in to empty, for the replica that is
    emptiest; tail_s: from the last arrival to the last completion.
    """

    tau_s: float
    capacity: float
    levels: np.ndarray
    load: np.ndarray
    attained: np.ndarray
    slower: np.ndarray
    busy: np.ndarray
    drain_s: float
    tail_s: float
    alone_s: np.ndarray

    def read(self, table: np.ndarray, load: np.ndarray, replicas: np.ndarray | float) -> np.ndarray:
        """Values of a table at loads and replica counts: linear in the load and in the logarithm of the count."""
        x = np.clip(load / self.load[-1], 0.0, 1.0) * (len(self.load) - 1)
        at = np.minimum(x.astype(np.int64), len(self.load) - 2)
        y = np.interp(np.log2(np.maximum(replicas, 1)), np.log2(self.levels), np.arange(len(self.levels)))
        row = np.minimum(np.asarray(y).astype(np.int64), max(len(self.levels) - 2, 0))
        above = np.minimum(row + 1, len(self.levels) - 1)
        u, v = x - at, y - row
        low = table[row, at] * (1 - u) + table[row, at + 1] * u
        high = table[above, at] * (1 - u) + table[above, at + 1] * u
        return np.asarray(low * (1 - v) + high * v)


def unhurried(requests: np.ndarray, step_s: float, alone_s: np.ndarray) -> np.ndarray:
    """Requests present when each step ends, if each stayed alone_s: arrivals times the share that has not left."""
    steps = np.arange(math.ceil(float(alone_s[-1]) / step_s) + 1)
    kernel = [float(np.clip(alone_s / step_s - k, 0.0, 1.0).mean()) for k in steps]  # spread evenly over their step
    return np.asarray(np.maximum(fftconvolve(requests, kernel)[: len(requests)], 0.0))


def smoothed(work: np.ndarray, step_s: float, tau_s: float) -> np.ndarray:
    """A: work a second over the last τ (at least one step), along the last axis; what lies before counts as empty."""
    steps = max(1, round(tau_s / step_s))
    total = np.cumsum(work, axis=-1)
    before = np.zeros_like(total)
    before[..., steps:] = total[..., :-steps]
    return np.asarray((total - before) / (steps * step_s))


def backlog(inflow: np.ndarray, outflow: np.ndarray | float) -> np.ndarray:
    """Lindley's recursion B' = max(0, B + inflow - outflow) from B = 0, along the last axis, by a sum and a minimum.

    B_j = C_j - min(0, C_1, ..., C_j), C the cumulative sum of inflow - outflow (Lindley 1952).
    """
    net = np.cumsum(inflow - outflow, axis=-1)
    return np.asarray(net - np.minimum(np.minimum.accumulate(net, axis=-1), 0.0))


def learn(
    pool: Pool, rates: Rates, work: Work, mix: Mix, arrival_s: np.ndarray, *, step_s: float, most: int
) -> Response:
    """Load tests of the pool's own training arrivals (mix, arrival_s), sped up or slowed down to each load.

    most: the largest replica count that will be asked for. Nothing from after the cut enters.
    """
    tests = _Tests(pool, work, mix, arrival_s, step_s, max(rates.mean_running / rates.requests_s, step_s))
    levels = np.array([n for n in LEVELS if n < 2 * most] or [1])
    capacity = tests.capacity(int(levels[min(2, len(levels) - 1)]))
    loads = sorted({*SHARES_OF_MU, *(capacity * share for share in SHARES_OF_CAPACITY)})
    grid = np.linspace(0.0, 3.0 * capacity, 121)
    tests.capacity_found = capacity
    tables = [tests.curves(int(n), loads, grid) for n in levels]
    attained_, slower, busy = (np.stack(parts) for parts in zip(*(t[:3] for t in tables), strict=True))
    drain, tail = (float(np.mean([t[k] for t in tables])) for k in (3, 4))
    return Response(tests.tau_s, capacity, levels, grid, attained_, slower, busy, drain, tail, tests.alone_s)


class _Tests:
    """One pool's load tests: the same arrivals at different speeds on different counts of replicas."""

    def __init__(self, pool: Pool, work: Work, mix: Mix, arrival_s: np.ndarray, step_s: float, tau_s: float) -> None:
        self.pool = Pool(pool.service, pool.region, pool.profile)  # as μ's load test: nothing mixed in
        self.step_s, self.tau_s = step_s, tau_s
        self.mix, self.arrival_s = mix, arrival_s
        self.work = work.of_requests(mix.input_tokens, mix.output_tokens)
        self.possible = possible(pool.profile, mix)
        alone = np.sort(pool.profile.alone_s(mix.input_tokens, mix.output_tokens)[1])
        self.alone_s = alone[np.linspace(0, len(alone) - 1, 1000).astype(np.int64)]
        self.capacity_found = np.inf

    def _blocks(self, n: int) -> np.ndarray:
        """Rows of n requests: whole blocks, evenly spread over the training part, again from the start if too few."""
        blocks = max(1, len(self.work) // BLOCK)
        want = -(-n // BLOCK)
        first = np.unique(np.linspace(0, blocks - 1, min(want, blocks)).astype(np.int64)) * BLOCK
        rows = np.concatenate([np.arange(f, min(f + BLOCK, len(self.work))) for f in first])
        return np.resize(rows, max(n, 2))

    def _arrivals(self, rows: np.ndarray, rate: float) -> np.ndarray:
        """When they come: their own gaps, block by block sped up to `rate` work a second."""
        gaps = np.append(np.diff(self.arrival_s), np.inf)[rows]
        block = np.arange(len(rows)) // BLOCK
        apart = np.append(rows[1:] != rows[:-1] + 1, True)
        gaps[apart] = np.nan
        sums = np.bincount(block, np.nan_to_num(gaps))
        kept = np.bincount(block, ~apart)
        mean = sums / np.maximum(kept, 1)
        mean = np.where(mean > 0, mean, 1.0)
        gaps = np.where(apart, mean[block], gaps)
        length = np.bincount(block, self.work[rows]) / rate
        gaps *= (length / np.maximum(np.bincount(block, gaps), 1e-12))[block]
        return np.concatenate([[0.0], np.cumsum(gaps)[:-1]])

    def _play(self, rows: np.ndarray, arrival: np.ndarray, n: int) -> Outcome:
        zeros = np.zeros(len(rows), np.int64)
        lengths = (self.mix.input_tokens[rows], self.mix.output_tokens[rows])
        requests = Requests(arrival, zeros, *lengths, lengths[1].astype(np.float64), zeros)
        return Replay(requests, Fleet((self.pool,)), [n], "least-requests").run()

    def capacity(self, n: int) -> float:
        """Work a replica-second while n replicas are flooded: the middle half of the completions."""
        rows = self._blocks(LEAST)
        out = self._play(rows, self._arrivals(rows, 1e6), n)
        done = np.where(out.status == c.OK, out.done_s, np.nan)
        low, high = np.nanquantile(done, 0.25), np.nanquantile(done, 0.75)
        served = self.work[rows][(done > low) & (done <= high)].sum()
        return max(float(served / max(high - low, 1e-9) / n), 1.0)

    def curves(
        self, n: int, loads: list[float], grid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
        """(attained, slower, busy) on the grid for n replicas, drain_s and tail_s at μ."""
        seen, steps, whole, ends = [], [], [], []
        for load in loads:
            size = int(np.clip(SPAN * self.tau_s * load * n / self.work.mean(), LEAST, MOST))
            rows = self._blocks(size)
            arrival = self._arrivals(rows, load * n)
            out = self._play(rows, arrival, n)
            z = self._load(arrival, self.work[rows], n)
            at = np.minimum((arrival / self.step_s).astype(np.int64), len(z) - 1)
            part = self.mix.take(rows)
            late = self.pool.profile.overhead_s
            ok = attained(part, out.first_s - arrival + late, out.done_s - arrival + late, out.status == c.OK)
            warm = (arrival >= min(self.tau_s, arrival[-1] / 4)) & self.possible[rows]
            seen.append((z[at][warm], ok[warm]))
            ends_s = (np.arange(len(z)) + 1) * self.step_s
            done = np.sort(out.done_s[out.status == c.OK])
            there = np.searchsorted(arrival, ends_s) - np.searchsorted(done, ends_s)
            alone = unhurried(np.bincount(at, minlength=len(z)).astype(np.float64), self.step_s, self.alone_s)
            steps.append((z, there, alone))
            whole.append((z, _occupied(out, arrival, ends_s, n)))
            if load == 1.0:
                ends = [*_drains(out, arrival, n)]
        zs, oks = (np.concatenate(x) for x in zip(*seen, strict=True))
        fit = _monotone(zs, oks.astype(np.float64), grid, increasing=False)
        zs, theres, alones = (np.concatenate(x) for x in zip(*steps, strict=True))
        slower = _monotone(zs, theres, grid, increasing=True, weight=np.maximum(alones, 1e-3))
        zs, occupied = (np.concatenate(x) for x in zip(*whole, strict=True))
        busy_fit = _monotone(zs, occupied, grid, increasing=True, origin=True)
        return fit, slower, busy_fit, ends[0], ends[1]

    def _load(self, arrival: np.ndarray, work: np.ndarray, n: int) -> np.ndarray:
        """z of every step of a load test."""
        per_step = np.bincount((arrival / self.step_s).astype(np.int64), work)
        rate = smoothed(per_step, self.step_s, self.tau_s)
        left = backlog(rate * self.step_s, n * self.capacity_found * self.step_s)
        return (rate + left / self.tau_s) / n


def _occupied(out: Outcome, arrival: np.ndarray, at_s: np.ndarray, n: int) -> np.ndarray:
    """Share of n replicas that have a request, and so an iteration in progress, at each instant."""
    ok, busy = out.status == c.OK, np.zeros(len(at_s))
    for record in range(n):
        mine = ok & (out.record == record)
        busy += np.searchsorted(arrival[mine], at_s) > np.searchsorted(np.sort(out.done_s[mine]), at_s)
    return np.asarray(busy / n)


def _drains(out: Outcome, arrival: np.ndarray, n: int) -> tuple[float, float]:
    """(mean over instants of the shortest time in which a replica would be empty, time from last arrival to end)."""
    ok = out.status == c.OK
    done, record, came = out.done_s[ok], out.record[ok], arrival[ok]
    shortest = []
    for t in np.linspace(0.2, 0.95, 40) * arrival[-1]:
        there = came <= t
        last = np.full(n, t)
        np.maximum.at(last, record[there], done[there])
        shortest.append(float(last.min() - t))
    return float(np.mean(shortest)), float(max(out.end_s - arrival[-1], 0.0))


def _monotone(
    x: np.ndarray,
    y: np.ndarray,
    grid: np.ndarray,
    *,
    increasing: bool,
    weight: np.ndarray | None = None,
    origin: bool = False,
) -> np.ndarray:
    """y a weight as a monotone function of x, least squares over BINS of equally many points, on the grid.

    origin: 0 at 0, and straight from there to the first bin; else flat below it, as above the last one.
    """
    weight = np.ones(len(x)) if weight is None else weight
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    weights = np.array([float(weight[part].sum()) for part in parts])
    means = np.array([float(y[part].sum()) for part in parts]) / weights
    fitted = isotonic_regression(means, weights=weights, increasing=increasing).x
    at = np.array([float(x[part].mean()) for part in parts])
    if origin:
        at, fitted = np.append(0.0, at), np.append(0.0, fitted)
    return np.asarray(np.interp(grid, at, fitted))

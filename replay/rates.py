"""Sustainable rates μ of a replica, found with the replay itself: a load test of a small pool.

PreServe's Alg. 1 tests one instance. A pool does better than its count times one instance, since an arrival finds a
replica that is not prefilling; one instance tested alone would size every fleet by what happens in the smallest.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from . import columns as c
from .engine import Outcome, Replay, Requests
from .fleet import Fleet, Pool
from .prefixes import Prefixes, hashed
from .profile import Profile

RUNS = 8  # stretches of the trace that a sample with prefixes is made of: a day's lengths change
MOST_COPIES = 1001  # of a trace, scaled at most a thousandfold
SAMPLE = 16_000  # requests of the mix a load test plays; 1 % of them is 160, so attainment is known to 0.1 points
POOL = 8  # replicas of the load test: the middle of what busy pools run, 4 to 16
# Share of a test's time that a first token may come later than alone, however lenient its limit: where that is as long
# as the test, a backlog that grows from beginning to end goes unseen. On 16 generated mixes (TTFT within 0.5 s to
# 24 h) rates are within 5 % of those from 128,000 requests; without it they were up to 77 % above them.
PATIENCE = 0.03
STEPS = 14  # bisections: the rate is known to 1 in 4,000 of the first bracket


@dataclass(frozen=True)
class Mix:
    """Lengths to load-test with, one entry a request; limits in seconds, inf where not asked; group i8: its tier.

    prefix: the prompts' hash blocks, where replicas cache them; then the order of the entries counts.
    """

    input_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft_s: np.ndarray
    tpot_s: np.ndarray
    e2e_s: np.ndarray
    group: np.ndarray
    prefix: Prefixes | None = None

    def take(self, rows: np.ndarray) -> "Mix":
        """These requests (numbers or a mask), in this order."""
        names = ("input_tokens", "output_tokens", "ttft_s", "tpot_s", "e2e_s", "group")
        taken = {name: getattr(self, name)[rows] for name in names}
        return Mix(**taken, prefix=None if self.prefix is None else self.prefix.take(rows))

    def sample(self, n: int, seed: int) -> "Mix":
        """n of the requests in an order of their own, with repeats where there are fewer.

        With prefixes in the trace's order, RUNS runs of it spread evenly: what repeats, repeats as far apart as there.
        """
        have = len(self.group)
        if self.prefix is None:
            rng = np.random.default_rng([seed, 1])
            return self.take(rng.permutation(have)[:n] if have >= n else rng.integers(0, have, n))
        if have <= n:
            again, order = np.divmod(np.arange(n), have)
        else:
            starts = np.linspace(0, have - n // RUNS, RUNS).astype(np.int64)
            order = (starts[:, None] + np.arange(n // RUNS)).reshape(-1)
            again = np.zeros(len(order), np.int64)
        taken = self.take(order)
        assert taken.prefix is not None
        copy = taken.prefix.copy + MOST_COPIES * again  # a repeat is a request of someone else
        return replace(taken, prefix=replace(taken.prefix, copy=copy).packed())


@dataclass(frozen=True)
class Rates:
    """What one replica sustains at the attainment target, per second, and how many requests then run on it."""

    requests_s: float
    prompt_tokens_s: float
    output_tokens_s: float
    total_tokens_s: float
    mean_running: float  # waiting ones included
    alone_attainment: float  # share that meets its thresholds on an idle replica: without hits no fleet can beat it
    sustained: bool = True  # False: not even the lowest rate tested attains the target
    hit_share: float | None = None  # of prompt tokens found in the pool's prefix caches; None: it has none


def attained(mix: Mix, ttft_s: np.ndarray, e2e_s: np.ndarray, done: np.ndarray) -> np.ndarray:
    """Whether each request completed within all its limits; a single-token answer meets any TPOT limit."""
    more = np.maximum(mix.output_tokens - 1, 1)
    tpot = np.where(mix.output_tokens > 1, (e2e_s - ttft_s) / more, 0.0)
    with np.errstate(invalid="ignore"):
        within: np.ndarray = done & (ttft_s <= mix.ttft_s) & (tpot <= mix.tpot_s) & (e2e_s <= mix.e2e_s)
    return within


@dataclass(frozen=True)
class Bench:
    """What a load test plays: POOL replicas of a fleet's last pool, and as many of a pool before it as feed it.

    alone_ttft_s, alone_e2e_s: by request of the mix, on idle, empty replicas; fits: whether their KV can hold it.
    feed: replicas of the pool before the last one for each request/s.
    """

    fleet: Fleet
    mix: Mix
    alone_ttft_s: np.ndarray
    alone_e2e_s: np.ndarray
    fits: np.ndarray
    feed: float = 0.0

    def play(self, arrival_s: np.ndarray, requests_s: float) -> Outcome:
        """The mix arriving at these times, so many a second."""
        mix, zeros = self.mix, np.zeros(len(arrival_s), np.int64)
        requests = Requests(
            arrival_s, zeros, mix.input_tokens, mix.output_tokens, mix.output_tokens.astype(float), zeros,
            **hashed(mix.prefix),
        )  # fmt: skip
        before = [math.ceil(requests_s * self.feed) + 1] * (len(self.fleet.pools) - 1)
        return Replay(requests, self.fleet, [*before, POOL], "least-requests").run()

    @property
    def alone_s(self) -> np.ndarray:
        """How long a request is in the last pool where nobody else is."""
        return self.alone_e2e_s - self.alone_ttft_s if self.feed else self.alone_e2e_s

    def present(self, out: Outcome, arrival_s: np.ndarray) -> float:
        """Mean requests in the last pool, a replica."""
        came = np.where(out.prefilled > 0, out.first_s + out.transfer_s, out.done_s) if self.feed else arrival_s
        return float(np.nansum(out.done_s - came) / (out.end_s - arrival_s[0])) / POOL


@dataclass(frozen=True)
class _Test:
    """What a load test is judged by: its arrivals at rate 1, which requests can attain, groups and their targets."""

    bench: Bench
    gaps: np.ndarray
    possible: np.ndarray
    group: np.ndarray
    targets: dict[int, float]


def _load_test(test: _Test, rate: float) -> tuple[bool, Outcome]:
    """(sustained, what happened) at a Poisson rate a replica; the first tenth is not judged."""
    bench, mix, n = test.bench, test.bench.mix, len(test.gaps)
    arrival = np.cumsum(test.gaps) / (rate * POOL)
    out = bench.play(arrival, rate * POOL)
    overhead_s = bench.fleet.pools[0].profile.overhead_s
    mix = replace(mix, ttft_s=np.minimum(mix.ttft_s, bench.alone_ttft_s + PATIENCE * arrival[-1]))
    ok = attained(mix, out.first_s - arrival + overhead_s, out.done_s - arrival + overhead_s, out.status == c.OK)
    judged = np.arange(n) >= n // 10
    for group, target in test.targets.items():
        members = judged & (test.group == group)
        # a hit may bring in a request that no idle, empty replica could: it must not make up for others
        if (ok & test.possible)[members].mean() < target:
            return False, out
    # a backlog that grows all along is no sustained rate, however lenient the limits (batch: 24 h)
    drained = bool(out.end_s - arrival[-1] <= 0.05 * arrival[-1] + 2 * float(bench.alone_e2e_s.max()))
    return drained, out


def sustainable_rates(profile: Profile, mix: Mix, attain: float, seed: int = 0) -> Rates:
    """The highest Poisson rate a replica at which every tier of the mix attains `attain` on a pool of POOL.

    A tier whose requests miss their limits even on an idle replica (a prompt too long for its TTFT) is held to
    `attain` of those that can meet them. Tiers with fewer than 50 requests in the sample are judged with the rest.
    """
    mix = mix.sample(SAMPLE, seed)
    fleet = Fleet((Pool("load-test", "default", profile),))
    alone = profile.alone_s(mix.input_tokens, mix.output_tokens)
    return search(Bench(fleet, mix, *alone, holds(profile, mix.input_tokens + mix.output_tokens - 1)), attain, seed)


def holds(profile: Profile, tokens: np.ndarray) -> np.ndarray:
    """Whether the replica's KV holds that many tokens, bool by request."""
    fits: np.ndarray = np.ceil(tokens / profile.block) <= profile.kv_tokens // profile.block
    return fits


def search(bench: Bench, attain: float, seed: int, start: float | None = None, steps: int = STEPS) -> Rates:
    """The highest Poisson rate a replica of the bench's last pool, as in `sustainable_rates`.

    start: requests/s a replica to look around first; steps: bisections.
    """
    mix = bench.mix
    possible = attained(mix, bench.alone_ttft_s, bench.alone_e2e_s, bench.fits)
    groups, counts = np.unique(mix.group, return_counts=True)
    group = np.where(np.isin(mix.group, groups[counts < 50]), -1, mix.group)
    # over those judged: in the trace's order the first tenth may be unlike the rest
    judged = np.arange(len(group)) >= len(group) // 10
    targets = {int(g): attain * float(possible[judged & (group == g)].mean()) for g in np.unique(group[judged])}
    gaps = np.random.default_rng([seed, 2]).exponential(1.0, len(group))
    alone = float(bench.alone_s.mean())
    # more than max_seqs at once, each at least as long as alone, no replica can hold
    test = _Test(bench, gaps, possible, group, targets)
    most = bench.fleet.pools[-1].profile.max_seqs / alone
    low, high = _bracket(test, 0.25 / alone if start is None else min(start, most / 2), most)
    for _ in range(steps):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _load_test(test, middle)[0] else (low, middle)
    sustained, out = _load_test(test, low)
    running = bench.present(out, np.cumsum(gaps) / (low * POOL))
    prompt, output = float(mix.input_tokens.mean()), float(mix.output_tokens.mean())
    begun = mix.input_tokens * (1 + out.preemptions)
    hits = None if mix.prefix is None else float(out.cached_tokens.sum() / begun.sum())
    return Rates(
        low, low * prompt, low * output, low * (prompt + output), running, float(possible.mean()), sustained, hits
    )


def _bracket(test: _Test, start: float, most: float) -> tuple[float, float]:
    """A sustained rate and one that is not (or `most`), at most a factor of two apart."""
    rate = start
    if _load_test(test, rate)[0]:
        while 2 * rate < most and _load_test(test, 2 * rate)[0]:
            rate *= 2
        return rate, 2 * rate
    for _ in range(12):  # down to a 4,096th of a quarter-busy replica; below that the mix is served one at a time
        rate /= 2
        if _load_test(test, rate)[0]:
            return rate, 2 * rate
    return rate / 2, rate

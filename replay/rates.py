"""Sustainable rates μ of a replica, found with the replay itself: a load test of a small pool.

PreServe's Alg. 1 tests one instance. A pool does better than its count times one instance, since an arrival finds a
replica that is not prefilling; one instance tested alone would size every fleet by what happens in the smallest.
"""

from dataclasses import dataclass

import numpy as np

from . import columns as c
from .engine import Replay, Requests
from .fleet import Fleet, Pool
from .profile import Profile

SAMPLE = 8000  # requests of the mix a load test plays; 1 % of them is 80, so attainment is known to about 0.1 points
POOL = 8  # replicas of the load test: the middle of what busy pools run, 4 to 16
LEAST = 1000
STEPS = 14  # bisections: the rate is known to 1 in 4,000 of the first bracket


@dataclass(frozen=True)
class Mix:
    """Lengths to load-test with, one entry a request; limits in seconds, inf where not asked; group i8: its tier."""

    input_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft_s: np.ndarray
    tpot_s: np.ndarray
    e2e_s: np.ndarray
    group: np.ndarray

    def sample(self, n: int, seed: int) -> "Mix":
        """At most n of the requests in an order of their own; where there are few, LEAST of them with repeats."""
        rng = np.random.default_rng([seed, 1])
        have = len(self.group)
        order = rng.permutation(have)[:n] if have >= LEAST else rng.integers(0, have, LEAST)
        return Mix(*(getattr(self, f)[order] for f in self.__dataclass_fields__))


@dataclass(frozen=True)
class Rates:
    """What one replica sustains at the attainment target, per second, and how many requests then run on it."""

    requests_s: float
    prompt_tokens_s: float
    output_tokens_s: float
    total_tokens_s: float
    mean_running: float  # waiting ones included
    alone_attainment: float  # share that meets its thresholds on an idle replica: no fleet can beat it
    sustained: bool = True  # False: not even the lowest rate tested attains the target


def attained(mix: Mix, ttft_s: np.ndarray, e2e_s: np.ndarray, done: np.ndarray) -> np.ndarray:
    """Whether each request completed within all its limits; a single-token answer meets any TPOT limit."""
    more = np.maximum(mix.output_tokens - 1, 1)
    tpot = np.where(mix.output_tokens > 1, (e2e_s - ttft_s) / more, 0.0)
    with np.errstate(invalid="ignore"):
        within: np.ndarray = done & (ttft_s <= mix.ttft_s) & (tpot <= mix.tpot_s) & (e2e_s <= mix.e2e_s)
    return within


def _load_test(
    profile: Profile, mix: Mix, gaps: np.ndarray, rate: float, targets: dict[int, float]
) -> tuple[bool, float]:
    """(sustained, mean requests present a replica) at a Poisson rate a replica; the first tenth is not judged."""
    n = len(gaps)
    arrival = np.cumsum(gaps) / (rate * POOL)
    zeros = np.zeros(n, np.int64)
    requests = Requests(arrival, zeros, mix.input_tokens, mix.output_tokens, mix.output_tokens.astype(float), zeros)
    pool = Fleet((Pool("load-test", "default", profile),))
    out = Replay(requests, pool, [POOL], "least-requests").run()
    ok = attained(
        mix, out.first_s - arrival + profile.overhead_s, out.done_s - arrival + profile.overhead_s, out.status == c.OK
    )
    judged = np.arange(n) >= n // 10
    present = float(np.nansum(out.done_s - arrival) / (out.end_s - arrival[0])) / POOL
    for group, target in targets.items():
        members = judged & (mix.group == group)
        if ok[members].mean() < target:
            return False, present
    _, alone = profile.alone_s(mix.input_tokens, mix.output_tokens)
    # a backlog that grows all along is no sustained rate, however lenient the limits (batch: 24 h)
    drained = bool(out.end_s - arrival[-1] <= 0.05 * arrival[-1] + 2 * float(alone.max()))
    return drained, present


def sustainable_rates(profile: Profile, mix: Mix, attain: float, seed: int = 0) -> Rates:
    """The highest Poisson rate a replica at which every tier of the mix attains `attain` on a pool of POOL.

    A tier whose requests miss their limits even on an idle replica (a prompt too long for its TTFT) is held to
    `attain` of those that can meet them. Tiers with fewer than 50 requests in the sample are judged with the rest.
    """
    mix = mix.sample(SAMPLE, seed)
    fits = np.ceil((mix.input_tokens + mix.output_tokens - 1) / profile.block) <= profile.kv_tokens // profile.block
    alone_ttft, alone_e2e = profile.alone_s(mix.input_tokens, mix.output_tokens)
    possible = attained(mix, alone_ttft, alone_e2e, fits)
    groups, counts = np.unique(mix.group, return_counts=True)
    small = np.isin(mix.group, groups[counts < 50])
    mix = Mix(**{**mix.__dict__, "group": np.where(small, -1, mix.group)})
    targets = {int(g): attain * float(possible[mix.group == g].mean()) for g in np.unique(mix.group)}
    gaps = np.random.default_rng([seed, 2]).exponential(1.0, len(mix.group))
    alone = float(alone_e2e.mean())
    # more than max_seqs at once, each at least as long as alone, no replica can hold
    low, high = _bracket(profile, mix, gaps, 0.25 / alone, profile.max_seqs / alone, targets)
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _load_test(profile, mix, gaps, middle, targets)[0] else (low, middle)
    sustained, running = _load_test(profile, mix, gaps, low, targets)
    prompt, output = float(mix.input_tokens.mean()), float(mix.output_tokens.mean())
    return Rates(low, low * prompt, low * output, low * (prompt + output), running, float(possible.mean()), sustained)


def _bracket(
    profile: Profile, mix: Mix, gaps: np.ndarray, start: float, most: float, targets: dict[int, float]
) -> tuple[float, float]:
    """A sustained rate and one that is not (or `most`), at most a factor of two apart."""
    rate = start
    if _load_test(profile, mix, gaps, rate, targets)[0]:
        while 2 * rate < most and _load_test(profile, mix, gaps, 2 * rate, targets)[0]:
            rate *= 2
        return rate, 2 * rate
    for _ in range(12):  # down to a 4,096th of a quarter-busy replica; below that the mix is served one at a time
        rate /= 2
        if _load_test(profile, mix, gaps, rate, targets)[0]:
            return rate, 2 * rate
    return rate / 2, rate

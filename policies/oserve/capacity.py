"""What one replica of each shape serves of each request type alone: OServe's n, by load test."""

import math
from collections.abc import Sequence

import numpy as np

from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Profile
from lmaas.replay.rates import POOL, Bench, Mix, attained, holds, search

TURNS = 16  # how often a test's replicas are filled anew: about so many requests for each that runs at once
LEAST, MOST = 3_000, 16_000  # requests of a test
HALVINGS = 6  # of a factor of two: known to about 1 %
NEAR = 0.7  # of what the formula says: where the search begins
SMALLER = 0.8  # next batch size tried where a decode step would miss its limit


def capacities(profiles: Sequence[Profile], mixes: Sequence[Mix], attain: float, seed: int = 0) -> np.ndarray:
    """Requests/s of one type alone that one replica of each shape sustains within its limits, f8[shapes, types].

    mixes: of each type. 0 where the shape cannot hold the type or serve it in time even when idle: where fewer than
    `attain` of the requests that the best shape serves in time alone. By load test (`rates.search`, in a pool of
    rates.POOL), a fifth of a second each. Of eight shapes and four types within 8 % of tests with 128,000 requests,
    where TTFT is nearly all prefill within 13 %.
    """
    found = np.zeros((len(profiles), len(mixes)))
    for j, mix in enumerate(mixes):
        if not len(mix.group):
            continue
        benches = [_bench(profile, mix, seed) for profile in profiles]
        possible = np.array([_possible(bench) for bench in benches])
        serves = (possible > 0) & (possible >= attain * possible.max())
        for k, profile in enumerate(profiles):
            if serves[k]:
                rates = search(benches[k], attain, seed, NEAR * estimate(profile, mix)[0], HALVINGS)
                found[k, j] = rates.requests_s if rates.sustained else 0.0
    return found


def estimate(profile: Profile, mix: Mix) -> tuple[float, float]:
    """(requests/s, requests at once) of a replica of the profile, by its formula at mean lengths: a first guess.

    As many run as its KV and its slots hold, or as few as the TPOT limit asks for; a request costs its prefill and its
    part of every decode step.
    """
    lat, inputs = profile.latency, mix.input_tokens.astype(np.float64)
    i, o = float(inputs.mean()), float(mix.output_tokens.mean())
    token_s = lat.token_s(profile.max_batch_tokens)

    def step_s(batch: float) -> float:
        tokens = min(int(batch), profile.max_batch_tokens)
        return float(lat.base + token_s[tokens] + batch * (lat.decode_seq + lat.decode_kv * (i + o / 2)))

    batch, limit = max(1.0, min(profile.max_seqs, profile.kv_tokens / (i + o / 2))), float(np.median(mix.tpot_s))
    while batch > 1 and step_s(batch) > limit:
        batch = max(1.0, SMALLER * batch)
    prefill = i * float(token_s[-1]) / profile.max_batch_tokens + lat.attn_pair * float((inputs**2).mean()) / 2
    return 1 / (prefill + o * step_s(batch) / batch), batch


def _bench(profile: Profile, mix: Mix, seed: int) -> Bench:
    wanted = min(max(math.ceil(TURNS * POOL * estimate(profile, mix)[1]), LEAST), MOST)
    sample = mix.sample(wanted, seed)
    fleet = Fleet((Pool("load-test", "default", profile),))
    alone = profile.alone_s(sample.input_tokens, sample.output_tokens)
    fits = holds(profile, sample.input_tokens + sample.output_tokens - 1)
    return Bench(fleet, sample, *alone, fits)


def _possible(bench: Bench) -> float:
    """Share of the requests that an idle replica serves in time."""
    return float(attained(bench.mix, bench.alone_ttft_s, bench.alone_e2e_s, bench.fits).mean())

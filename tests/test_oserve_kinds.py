"""OServe's request types and what shapes serve of them: by hand, against the nearest centre, against longer tests."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.policies.oserve.capacity import capacities, estimate
from lmaas.policies.oserve.kinds import Kinds
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile, find_profile
from lmaas.replay.rates import Bench, Mix, holds, search

few = settings(max_examples=30, deadline=None)
LENGTHS = ((100, 20), (100, 800), (4000, 20), (4000, 800))


def blobs(n, seed=0):
    """(input, output, which) of n requests around each of LENGTHS, shuffled."""
    rng = np.random.default_rng(seed)
    which = rng.permutation(np.repeat(np.arange(4), n))
    lengths = np.array(LENGTHS)[which] * rng.lognormal(0, 0.1, (4 * n, 2))
    return *np.maximum(1, lengths).astype(np.int64).T, which


def test_four_clouds_are_four_types_from_the_shortest_to_the_longest():
    inputs, outputs, which = blobs(200)
    kinds = Kinds.fit(inputs, outputs)
    assert kinds.of(inputs, outputs).tolist() == which.tolist()
    assert kinds.lengths == pytest.approx(np.array(LENGTHS), rel=0.05)


def test_the_same_seed_gives_the_same_types():
    inputs, outputs, _ = blobs(50)
    one, other = (Kinds.fit(inputs, outputs, types=3, seed=5) for _ in range(2))
    assert (one.centres == other.centres).all()


@few
@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=40), st.integers(1, 6))
def test_a_request_is_of_the_type_whose_centre_is_nearest(lengths, types):
    """By brute force; there are as many types as asked for or as there are different requests."""
    inputs, outputs = np.array(lengths).T
    kinds = Kinds.fit(inputs, outputs, types)
    assert kinds.types == min(types, len(set(lengths)))
    points = (np.log(np.stack([inputs, outputs], axis=1)) - kinds.middle) / kinds.spread
    off = ((points[:, None, :] - kinds.centres[None]) ** 2).sum(axis=2)
    assert off[np.arange(len(points)), kinds.of(inputs, outputs)] == pytest.approx(off.min(axis=1), abs=1e-9)
    assert (np.diff(kinds.lengths.sum(axis=1)) >= -1e-9).all()


def test_alike_requests_are_one_type_and_none_are_too():
    assert Kinds.fit(np.full(9, 100), np.full(9, 10)).types == 1
    nothing = np.zeros(0, np.int64)
    assert Kinds.fit(nothing, nothing).of(np.array([5, 5000]), np.array([1, 900])).tolist() == [0, 0]


def mix(inputs, outputs, ttft_s=1.0, tpot_s=0.1, n=4000, spread=0.5):
    rng = np.random.default_rng(1)
    lengths = [np.maximum(1, m * rng.lognormal(0, spread, n)).astype(np.int64) for m in (inputs, outputs)]
    limits = [np.full(n, x) for x in (ttft_s, tpot_s, math.inf)]
    return Mix(*lengths, *limits, np.zeros(n, np.int64))


SMALL = Profile(
    name="small", kv_tokens=20_000, max_batch_tokens=2048, max_seqs=64,
    latency=Latency(base=0.01, token_slopes=(1e-4,), decode_seq=1e-4, decode_kv=1e-7),
)  # fmt: skip


def test_capacities_are_those_of_much_longer_tests():
    profile = find_profile("llama-3.1-70b/h100/tp2/fp8")
    mixes = [mix(200, 200), mix(200, 200, ttft_s=10, tpot_s=0.2)]
    found = capacities([profile], mixes, 0.99)[0]
    for j, of in enumerate(mixes):
        rows = np.random.default_rng(0).integers(0, len(of.group), 60_000)
        sample = of.take(rows)
        alone = profile.alone_s(sample.input_tokens, sample.output_tokens)
        fits = holds(profile, sample.input_tokens + sample.output_tokens - 1)
        bench = Bench(Fleet((Pool("test", "default", profile),)), sample, *alone, fits)
        assert found[j] == pytest.approx(search(bench, 0.99, 1, found[j], 6).requests_s, rel=0.12)


def test_a_shape_serves_nothing_of_a_type_it_cannot_hold_or_serve_in_time():
    """19,999 tokens fill SMALL's KV; a prompt of 9,000 takes 0.95 s alone; the shape beside it does both."""
    large = SMALL.model_copy(update={"name": "large", "kv_tokens": 200_000})
    fast = SMALL.model_copy(update={"name": "fast", "latency": Latency(base=0.001, token_slopes=(1e-5,))})
    held = capacities([SMALL, large], [mix(21_000, 10, ttft_s=60, spread=0)], 0.99)
    assert held[0, 0] == 0 and held[1, 0] > 0
    timely = capacities([SMALL, fast], [mix(9000, 10, ttft_s=0.5, spread=0), mix(100, 10)], 0.99)
    assert timely[0, 0] == 0 and (timely[[1, 0, 1], [0, 1, 1]] > 0).all()


def test_a_type_that_no_shape_serves_in_time_or_that_has_no_requests_is_served_by_none():
    nobody = mix(100, 10).take(np.zeros(0, np.int64))
    assert (capacities([SMALL], [mix(100, 10, ttft_s=1e-3), nobody], 0.99) == 0).all()


def test_the_first_guess_by_hand():
    """64 at once by slots: a step is 10 ms + 64 · (0.1 + 0.1 ms + 0.1 µs · 105 tokens); 10 of them shared by 64."""
    step = 0.01 + 64 * (1e-4 + 1e-4 + 1e-7 * 105)
    rate, batch = estimate(SMALL, mix(100, 10, spread=0))
    assert batch == 64
    assert rate == pytest.approx(1 / (100 * 1e-4 + 10 * step / 64))

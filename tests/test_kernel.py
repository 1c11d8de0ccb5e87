"""The kernel equals the slow reference, request by request."""

import json
import os
from unittest.mock import patch

import numpy as np
import pytest
from cases import ROUTERS, assert_same, expected, play_fast, play_slow, same_lives
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmaas.replay import columns as c

# interpreted, for coverage of the kernels, the same tests run on fewer cases
EXAMPLES = 15 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 200
quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)


def coefficients(draw, exact):
    """Every coefficient nonzero; exact: dyadic numbers, so that equal times are equal floats."""
    unit = 1.0 if exact else draw(st.floats(0.3, 3.0))

    def scale(high, divisor):
        return draw(st.integers(1, high)) / divisor * unit

    knots = [0, *sorted(draw(st.sets(st.integers(1, 40), max_size=3)))]
    return {
        "base": scale(8, 4),
        "token_knots": knots,
        "token_slopes": [scale(8, 16) for _ in knots],
        "attn_pair": scale(4, 256),
        "prefix_kv": scale(4, 128),
        "decode_seq": scale(4, 64),
        "decode_kv": scale(4, 256),
    }


@st.composite
def cases(draw, scaling=False):
    exact = draw(st.booleans())
    block = draw(st.sampled_from([1, 2, 4, 16]))
    pools = draw(st.integers(1, 3))
    shapes = [
        {
            "latency": coefficients(draw, exact),
            "kv_tokens": draw(st.integers(2, 24)) * block + draw(st.integers(0, block - 1)),
            "block": block,
            "max_batch_tokens": draw(st.sampled_from([1, 3, 8, 32, 512])),
            "max_seqs": draw(st.integers(1, 6)),
        }
        for _ in range(pools)
    ]
    n = draw(st.integers(1, 40))
    gap = st.integers(0, 6) if exact else st.floats(0, 6)
    arrivals = np.cumsum([draw(gap) for _ in range(n)]).astype(float).tolist()

    def numbers(low, high):
        return [draw(st.integers(low, high)) for _ in range(n)]

    columns = (arrivals, numbers(0, pools - 1), numbers(1, 40), numbers(1, 24), numbers(1, 30), numbers(0, 1))
    ticks = {}
    for _ in range(draw(st.integers(1, 6)) if scaling else 0):
        at = float(draw(st.integers(0, 80))) if exact else draw(st.floats(0.01, 80))
        ticks[at] = [draw(st.integers(0 if p else 1, 4)) for p in range(pools)]
    return {
        "shapes": shapes,
        "requests": [list(row) for row in zip(*columns, strict=True)],
        "counts": [draw(st.integers(1, 3)) for _ in range(pools)],
        "ticks": ticks,
        "startup": draw(st.sampled_from([0.0, 3.0, 17.0])),
        "router": draw(st.sampled_from(ROUTERS)),
    }


def check(case):
    rows, fleet = play_slow(case)
    outcome, _ = play_fast(case)
    assert_same(expected(rows), outcome)
    assert len(outcome.replicas) == len(fleet.replicas)
    same_lives(fleet, outcome)
    return rows, outcome


@quick
@given(cases())
def test_fixed_fleet_equals_reference(case):
    check(case)


@quick
@given(cases(scaling=True))
def test_scaled_fleet_equals_reference(case):
    check(case)


def pressed(seed: int, n: int = 120) -> dict:
    """Long answers on a replica whose KV cache holds few of them: preemption after preemption."""
    rng = np.random.default_rng(seed)
    latency = {
        "base": 0.01, "token_knots": [0, 16], "token_slopes": [1e-3, 2e-3], "attn_pair": 1e-6, "prefix_kv": 1e-6,
        "decode_seq": 1e-4, "decode_kv": 1e-6,
    }  # fmt: skip
    shape = {"latency": latency, "kv_tokens": 400, "block": 16, "max_batch_tokens": 64, "max_seqs": 12}
    arrivals = np.cumsum(rng.exponential(0.35, n)).tolist()
    lengths = rng.integers(1, 120, n), rng.integers(1, 160, n), rng.integers(1, 200, n)
    requests = [
        [arrivals[k], int(rng.integers(0, 2)), *(int(x[k]) for x in lengths), int(rng.integers(0, 2))] for k in range(n)
    ]
    return {
        "shapes": [shape, {**shape, "block": 4, "max_batch_tokens": 50}],
        "requests": requests,
        "counts": [2, 1],
        "ticks": {10.0: [3, 2], 20.0: [1, 1], 24.5: [2, 1]},
        "startup": 2.5,
        "router": ROUTERS[seed % len(ROUTERS)],
    }


@pytest.mark.parametrize("seed", range(8))
def test_equals_reference_under_kv_pressure(seed):
    rows, _ = check(pressed(seed))
    assert sum(r.preemptions for r in rows) > 10  # else this would test nothing


def test_grows_with_the_fleet_and_the_queue():
    """More replicas than slots and more requests in flight than rooms were made for: same results."""
    case = pressed(3, n=1500 if EXAMPLES > 100 else 200)
    case["counts"] = [1, 1]
    case["ticks"] = {5.0: [9, 1], 6.0: [9, 30], 30.0: [2, 2], 31.0: [40, 3], 50.0: [1, 1]}
    for row in case["requests"]:
        row[0] /= 20  # a burst: thousands wait
    check(case)


def test_more_requests_in_flight_than_have_numbers_end_the_replay():
    """Room grows up to the most there may be; where that is too little it says so, and nothing is corrupted."""
    case = pressed(2)
    case["requests"] = [[0.0, *row[1:]] for row in case["requests"] * 15]  # 1,800 at once; room is made for 1,024
    with patch("lmaas.replay.room.MOST_IN_FLIGHT", 1800):
        outcome, replay = play_fast(case)
    assert len(replay.st.fly) == 1800
    assert_same(expected(play_slow(case)[0]), outcome)
    with (
        patch("lmaas.replay.room.MOST_IN_FLIGHT", 1799),
        pytest.raises(RuntimeError, match="1,799 requests wait or run at t=0 s, the most a replay can hold"),
    ):
        play_fast(case)


GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_golden(path):
    """Committed cases with the reference's results: fidelity where neither real data nor time is at hand."""
    golden = json.loads(path.read_text())
    rows, _ = play_slow(golden["case"])
    assert json.loads(json.dumps(expected(rows))) == golden["expected"]
    outcome, _ = play_fast(golden["case"])
    assert_same(golden["expected"], outcome)


def test_golden_cases_are_there():
    assert len(GOLDEN) >= 6


def test_statuses_are_counted():
    """Conservation: every request ends exactly once."""
    case = pressed(5)
    case["requests"][7][2] = 10_000  # no replica holds it
    outcome, replay = play_fast(case)
    assert outcome.status[7] == c.REJECTED
    assert np.isnan(outcome.done_s[7])
    assert (outcome.status == c.OK).sum() == len(case["requests"]) - 1
    assert replay.st.ctl.in_flight == 0
    assert replay.st.ctl.free == len(replay.st.free)
    assert (replay.st.rep.used == 0).all()
    for sums in ("prefill", "predicted", "generated", "input"):
        assert (replay.st.rep[sums] == 0).all()

"""What routers see of single requests equals its plain twin, at any time, with every feature; and costs none others."""

import os

import numpy as np
import pytest
import reference_views
from cases_full import FEATURES, full_cases, play_slow
from cases_kernel import play_fast
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_kernel import pressed

from lmaas.replay import columns as c
from lmaas.replay.kernel import layout as k
from lmaas.replay.routernames import find_router
from lmaas.replay.routers import Router

EXAMPLES = 10 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 40
quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)
DEEP = f"{ROOT}/tests/fixtures/deep_router.py:DEEP"
CHOICES = [name for name in FEATURES if name != "holder"]


def seen_slow(fleet, horizon):
    """{(pool, replica): (ahead, running, waiting)} of the active replicas."""
    return {
        (r.pool, r.index): (reference_views.ahead(r, horizon), *reference_views.flight(r))
        for r in fleet.replicas
        if r.state == "active"
    }


def seen_fast(replay, t):
    replay._ask(k.LOOK, t, 0)
    state, seen = replay.st, {}
    for pool in range(len(state.pool)):
        first = int(state.pool.first[pool])
        for row in range(first, first + int(state.pool.active[pool])):
            view, at = state.rows[row], int(state.flight_start[row])
            rows = state.flight[at : at + int(view[c.WAITING] + view[c.RUNNING])].tolist()
            running = [x for x in rows if x[c.F_RUNNING] == 1.0]
            assert rows[: len(running)] == running
            seen[pool, int(view[c.INDEX])] = (state.ahead[row].tolist(), running, rows[len(running) :])
    return seen


def check(case, times, horizon):
    slow, fast = {}, {}
    play_slow(case, {t: lambda fleet: slow.update({fleet.now: seen_slow(fleet, horizon)}) for t in times})
    looks = {t: lambda replay, t: fast.update({t: seen_fast(replay, t)}) for t in times}
    play_fast(case, router=find_router(f"{DEEP}(horizon={horizon})"), looks=looks)
    rows = 0
    for t in set(slow) & set(fast):
        assert slow[t].keys() == fast[t].keys(), t
        for replica, (ahead, running, waiting) in slow[t].items():
            mine = fast[t][replica]
            assert mine[0] == ahead, (t, replica)
            assert len(mine[1]) == len(running), (t, replica)
            assert mine[2][:1] == [pytest.approx(x, rel=1e-9) for x in waiting[:1]], (t, replica)  # the queue's head
            for a, b in zip(mine[1] + sorted(mine[2]), running + sorted(waiting), strict=True):
                assert a == pytest.approx(b, rel=1e-9), (t, replica)
                rows += 1
    return rows


@st.composite
def looked_at(draw):
    case = draw(full_cases(sorted(draw(st.sets(st.sampled_from(CHOICES))))))
    case["router"] = "least-requests"
    times = draw(st.lists(st.integers(1, 200), min_size=1, max_size=8, unique=True))
    return case, [x / 8 for x in times], draw(st.sampled_from([1, 2, 5, 40]))


@quick
@given(looked_at())
def test_views_equal_their_plain_twins(given):
    check(*given)


@pytest.mark.parametrize("ranked", [False, True])
def test_views_grow_with_the_fleet_and_the_queue(ranked):
    """More replicas than slots and more requests in flight than rooms were made for."""
    case = pressed(3, n=1300 if EXAMPLES > 10 else 150)
    case |= {"router": "least-requests", "counts": [1, 1], "ticks": {5.0: [9, 1], 6.0: [9, 30], 31.0: [40, 3]}}
    for row in case["requests"]:
        row[0] = np.floor(row[0] / 20 * 64) / 64 + 1.0
    if ranked:
        case["rank"] = [float(k * 7 % 5) for k in range(len(case["requests"]))]
    assert check(case, [3.0, 5.5, 6.0, 12.0, 31.0, 40.0], 25) > len(case["requests"])


def test_views_are_empty_where_a_router_does_not_ask():
    case = {
        "router": "least-requests", "ticks": {}, "startup": 0.0, "counts": [2], "requests": [[0.0, 0, 5, 9, 4, 0]] * 20,
        "shapes": [{
            "latency": {"base": 0.5, "token_knots": [0], "token_slopes": [0.0], "attn_pair": 0.0, "prefix_kv": 0.0,
                        "decode_seq": 0.0, "decode_kv": 0.0},
            "kv_tokens": 100, "block": 1, "max_batch_tokens": 8, "max_seqs": 5,
        }],
    }  # fmt: skip
    _, replay = play_fast(case)
    assert replay.st.ahead.size == 1
    assert len(replay.st.flight) == 1
    assert check(case, [1.0, 3.0, 6.5], 12) > 20


def test_weights_see_no_single_requests():
    route = find_router("least-requests").route
    for wrong in ({"ahead": 5}, {"flight": True}):
        with pytest.raises(ValueError, match="neither"):
            Router(route, weights={c.WAITING: 1.0}, **wrong)
    for wrong in (-1, 0.5, 20_000, np.inf, np.nan):
        with pytest.raises(ValueError, match="whole number of iterations"):
            Router(route, ahead=wrong)

"""Window fidelity piece by piece: small cases worked by hand."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_evaluate import PROFILE

from lmaas.policies.window_demand import MEASURES, Steps, Work
from lmaas.policies.window_plan import Grid, Plans, late_s, levels, score
from lmaas.policies.window_response import Response, backlog, smoothed, unhurried
from lmaas.policies.window_table import make_table
from lmaas.replay.fleet import Pool
from lmaas.replay.profile import Profile, Startup
from lmaas.replay.rates import Rates

SHAPE = Profile.model_validate(PROFILE)
POOL = Pool("s", "r", SHAPE)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 9))
def test_backlog_by_sum_and_minimum_is_the_loop(inflow, outflow):
    left, said = 0.0, []
    for came in inflow:
        left = max(0.0, left + came - outflow)
        said.append(left)
    assert backlog(np.array(inflow, float), float(outflow)) == pytest.approx(said, abs=1e-9)


def test_smoothing_keeps_the_mean_and_unhurried_is_littles_law():
    assert smoothed(np.full(20, 6.0), 2.0, 8.0)[4:] == pytest.approx(np.full(16, 3.0))  # 6 each 2 s: 3 a second
    assert smoothed(np.array([8.0, 0, 0, 0, 0, 0]), 2.0, 8.0) == pytest.approx([1, 1, 1, 1, 0, 0])
    present = unhurried(np.full(50, 4.0), 2.0, np.array([3.0, 5.0, 10.0]))
    assert present[10:] == pytest.approx(np.full(40, 2.0 * 6.0))  # 2 a second that stay 6 s on average


def test_a_start_up_beyond_the_lead_is_late():
    def pool(startup):
        return Pool("s", "r", SHAPE.model_copy(update={"startup_s": startup}))

    assert late_s(pool(Startup(cold=90)), 60.0) == 30.0
    assert late_s(pool(Startup(cold=90)), 120.0) == 0.0
    draws = np.random.default_rng(0)
    startup = Startup(cold=90, cv=0.4)
    late = np.mean([max(startup.draw(90, draws) - 90, 0) for _ in range(20_000)])
    assert late_s(pool(startup), 90.0) == pytest.approx(late, rel=0.05)
    assert late_s(pool(startup), 0.0) == 90.0


def response(capacity=2.0, **other):
    """Everybody attains up to load 1, nobody from 3 on; busy and slower grow with the load."""
    load = np.linspace(0, 6, 121)
    table = np.clip((3 - load) / 2, 0, 1)[None, :]
    asked = {
        "tau_s": 10.0, "capacity": capacity, "levels": np.array([1]), "load": load, "attained": table,
        "slower": 1 + load[None, :], "busy": np.minimum(load, 1)[None, :], "drain_s": 0.0, "tail_s": 0.0,
        "alone_s": np.array([5.0]),
    }  # fmt: skip
    return Response(**(asked | other))


def even(work, steps):
    """Steps of 10 s of one pool: a request, and so much work, in each."""
    values = dict.fromkeys(MEASURES, np.ones((1, steps))) | {"work": np.full((1, steps), work)}
    return Steps(0.0, 10.0, values)


def scored(work, counts, lead_s=0.0, instant=True, pool=POOL, **other):
    """Scores by window of one setting, windows of 600 s after a minute of warm-up."""
    windows = len(counts)
    steps, grid = even(work, 6 + 60 * windows), Grid(60 + 600.0 * np.arange(windows), np.full(windows, 600.0), 600.0)
    wants = pl.DataFrame(
        {
            "pool": [0] * windows,
            "window": range(windows),
            "replicas": [float(n) for n in counts],
            "known": [True] * windows,
        }
    )
    plans = [Plans(pl.DataFrame({"setting": [0], "factor": [1.0]}), wants)]
    plan = levels(plans, 0, pool, [counts[0]], windows)
    answer = response(**other)
    table = make_table(steps, 0, answer, np.unique(counts), first=6, per_window=60, windows=windows)
    return score(plan, pool, table, answer, grid, lead_s=lead_s, instant=instant)


def test_constant_demand_is_the_response_at_its_load():
    """20 of work each 10 s on one replica: load 2, half attain, for ever: there is no backlog at capacity 2."""
    got = scored(20.0, [1, 1, 1])
    assert (got["attained"] / got["requests"]).to_list() == pytest.approx([0.5] * 3)
    assert got["backlog"].to_list() == pytest.approx([0.0] * 3)
    assert got["hours"].to_list() == pytest.approx([600 / 3600 * 2] * 3)  # two GPUs a replica
    assert got["busy_s"].to_list() == pytest.approx([600.0] * 3)


def test_twice_the_replicas_at_twice_the_demand_change_nothing():
    one, two = scored(15.0, [1, 1]), scored(30.0, [2, 2])
    assert one["attained"].to_list() == pytest.approx(two["attained"].to_list())
    assert (2 * one["hours"]).to_list() == pytest.approx(two["hours"].to_list())


def test_twice_mu_halves_the_load():
    """Work is in replica-seconds at μ: twice the rate is half the work."""
    lengths = np.array([100, 900]), np.array([50, 10])
    rates = Rates(2.0, 1000.0, 60.0, 1060.0, 5.0, 1.0)
    fast = Rates(4.0, 2000.0, 120.0, 2120.0, 5.0, 1.0)
    slow_work, fast_work = (Work.of(SHAPE, r, *lengths).of_requests(*lengths) for r in (rates, fast))
    assert slow_work == pytest.approx(2 * fast_work)
    assert slow_work.mean() == pytest.approx(1 / 2.0)
    assert scored(24.0, [1])["attained"][0] < scored(12.0, [1])["attained"][0]


def test_no_replica_attains_nothing_and_leaves_everything():
    got = scored(10.0, [0, 4], pool=Pool("s", "r", SHAPE, minimum=0))
    assert got["attained"][0] == 0 and got["hours"][0] == 0
    # 600 s of 1 a second, twice what 4 replicas of capacity 2 clear of it a second: gone after 600 / 7 s
    assert got["attained"][1] / got["requests"][1] == pytest.approx(1 - 600 / 7 / 600, abs=0.01)


def test_backlog_carries_across_windows_as_the_loop_does():
    """One replica clears 2 a second; 3 a second come in windows 0 and 1, and 3 replicas work it off in window 2."""
    got = scored(30.0, [1, 1, 3])
    left, mean = 0.0, []
    for n in (1, 1, 3):
        seen = []
        for _ in range(60):
            left = max(0.0, left + 30 - n * 20)
            seen.append(left)
        mean.append(np.mean(seen))
    assert got["backlog"][0] / 600 == pytest.approx(mean[0], rel=0.02)
    assert got["attained"][1] == 0  # behind ten minutes of others
    assert 0 < got["attained"][2] < got["requests"][2]


def test_replicas_are_paid_from_the_order_and_serve_after_their_start():
    """Three from window 1 on, ordered 90 s before it: 90 s of two more; start-up 90 s, so none is late."""
    pool = Pool("s", "r", SHAPE.model_copy(update={"startup_s": Startup(cold=90)}))
    got = scored(10.0, [1, 3, 1], lead_s=90.0, instant=False, pool=pool, drain_s=30.0, tail_s=5.0)
    seconds = (got["hours"] * 3600 / 2).to_list()
    assert seconds == pytest.approx([600 + 2 * 90, 3 * 600, 600 + 2 * 30 + 5])
    assert got["active"].to_list() == [1, 3, 1]
    assert got["startup_hours"].sum() == pytest.approx(2 * 90 / 3600 * 2)
    late = scored(30.0, [1, 3, 1], lead_s=0.0, instant=False, pool=pool)
    assert late["attained"][1] < scored(30.0, [1, 3, 1])["attained"][1]

"""Chiron, TokenScale and the bounds: each rule by an example checked by hand."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from test_autoscalers import POOL, PROFILE, RATES, at

from lmaas.analysis.trace import TIERS
from lmaas.policies.autoscalers.chiron import NONE_WAITING, Chiron, Waiting
from lmaas.policies.autoscalers.tokenscale import (
    Known,
    TokenScale,
    buckets,
    newly,
    velocity,
)
from lmaas.policies.bounds import perfect_hours
from lmaas.policies.planning import PlanState
from lmaas.policies.registry import POLICIES, parse_policy
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.protocol import Actions, History, Seen, SeenRequests

FAST, BATCH = TIERS.index("interactive-fast"), TIERS.index("batch")
FLEET = Fleet((POOL, Pool("a", "us", PROFILE)))
HISTORY = History(0.0, 1200.0, 600.0, pl.DataFrame([{"service": "a", "lane": "shared", **RATES}]), pl.DataFrame())


class Closer:
    """Shows these requests."""

    def __init__(self, *rows, due_s=None):
        """rows: request, pool, where, tier, arrival_s, input and predicted output tokens; due_s: of each."""
        request, pool, where, tier, arrival, inputs, outputs = zip(*rows, strict=True) if rows else [()] * 7
        i8 = [np.array(c, np.int64) for c in (request, pool, tier, inputs, outputs)]
        self.shown = SeenRequests(
            i8[0], i8[1], np.zeros_like(i8[0]), np.array(where, "U10"), i8[2], np.array(arrival, float), i8[3], i8[4],
            due_s=np.full(len(rows), np.nan) if due_s is None else np.array(due_s, float),
        )  # fmt: skip

    def requests(self):
        return self.shown


def seen(t, closer, **pools):
    """Two pools of four replicas; values by pool."""
    zeros = {name: np.zeros(2) for name in Seen.__dataclass_fields__ if name not in ("t", "interval_s", "closer")}
    given = {name: np.array(value, float) for name, value in pools.items()}
    return Seen(t=float(t), interval_s=10.0, closer=closer, **(zeros | {"active": np.full(2, 4.0)} | given))


class TestChiron:
    """Ten requests a replica at μ, 1,100 tokens/s."""

    def count(self, present, batch=0, waiting=NONE_WAITING, memory=None, policy=None, t=0.0):
        policy = policy or Chiron()
        memory = memory or policy.remember(POOL, RATES)
        return policy.both(at(t, running=float(present)), batch, waiting, memory)

    def test_a_third_is_busy(self):
        assert self.count(40) == 12  # 4 busy
        assert self.count(41) == 13  # 4.1 / (1/3) = 12.3
        assert self.count(40, policy=Chiron(theta=0.8)) == 5
        assert self.count(0) == 1
        assert self.count(40, policy=Chiron(batch_size=20)) == 6

    def test_it_settles_where_requests_stay_the_same(self):
        """However many replicas the router spreads them over."""
        policy = Chiron()
        memory = policy.remember(POOL, RATES)
        assert {policy.count(at(running=40.0, active=n), memory) for n in (4, 12, 40)} == {12}

    def test_as_many_more_as_keep_every_group_in_time(self):
        """Groups due in 1,000 s and 5,000 s: 8.8 M tokens of the first before the second are 8,000 s of one replica."""
        due = Waiting(np.array([1000.0, 5000.0]), np.array([8.8e6, 1.0]))
        assert self.count(10, batch=2, waiting=due, policy=Chiron(theta=1.0)) == 3  # nine interactive: 1, none spare; 2
        assert self.count(12, batch=2, waiting=due) == 3  # ten: one busy of three; two spare ones are enough
        nothing_before = Waiting(np.array([1000.0, 1001.0]), np.array([8.8e6, 8.8e6]))
        assert self.count(12, batch=2, waiting=nothing_before) == 3

    def test_all_are_released_when_none_is_left(self):
        policy = Chiron(theta=1.0)
        memory = policy.remember(POOL, RATES)
        due = Waiting(np.array([1000.0, 5000.0]), np.array([8.8e6, 1.0]))
        assert self.count(12, 2, due, memory, policy) == 3
        assert self.count(11, 1, NONE_WAITING, memory, policy) == 3  # one still runs
        assert self.count(10, 0, NONE_WAITING, memory, policy) == 1

    def test_tiers_and_pools_are_told_apart(self):
        policy = Chiron(theta=1.0, deadline_s=5000.0)
        state = policy.start(FLEET, HISTORY)
        rows = [
            (0, 0, "running", FAST, 0.0, 100, 100),
            (1, 1, "running", BATCH, 0.0, 100, 100),
            (2, 1, "held", BATCH, -4000.0, 8_000_000, 800_000),  # due in 1,000 s
            (3, 1, "held", BATCH, 0.0, 100, 100),
        ]
        said = policy.react(0.0, seen(0, Closer(*rows), running=[31.0, 12.0]), state)
        assert said == Actions({0: 4, 1: 2 + 2})  # 11 interactive in the second: two, none of them spare
        own = Closer(*rows, due_s=[np.nan] * 3 + [100.0])  # of one hour with the large one: nothing goes before
        assert policy.react(0.0, seen(0, own, running=[31.0, 12.0]), policy.start(FLEET, HISTORY)).replicas[1] == 2
        own = Closer(*rows, due_s=[np.nan, np.nan, 9000.0, np.nan])  # 200 tokens go before the large one
        assert policy.react(0.0, seen(0, own, running=[31.0, 12.0]), policy.start(FLEET, HISTORY)).replicas[1] == 3


class TestTokenScale:
    """Alone a prompt of 500 takes 10 ms + 500 · 0.1 ms; 16,000 tokens of KV, at most 64 at once."""

    def start(self, **parameters):
        policy = TokenScale(**parameters)
        return policy, policy.start(FLEET, HISTORY)

    def test_nine_buckets(self):
        assert buckets(np.array([0, 255, 256, 1023, 1024, 9999]), np.array([0, 99, 100, 349, 350, 9999])).tolist() == [
            0, 0, 4, 4, 8, 8,
        ]  # fmt: skip

    def test_velocities_of_the_profile(self):
        _, state = self.start()
        assert state.memory[0].prefill_tokens_s == pytest.approx(500 / 0.06)
        # 30 of 500 in and 50 out fit: an iteration takes 10 ms + 30 · (0.1 + 1 + 0.525) ms
        step = 0.01 + 30 * 1.625e-3
        assert velocity(state.memory[0], np.array([500.0]), np.array([50.0])) == pytest.approx(30 / step / 50 * 550)

    def test_rates_over_velocities(self):
        """40 requests/s of 500 and 50: prefill 20,000 · 0.06 / 500 = 2.4, decode 40 · 50 · 58.75 ms / 30 = 3.92."""
        policy, state = self.start()
        rows = [(n, 0, "running", FAST, 0.0, 500, 50) for n in range(400)]
        tick = seen(10, Closer(*rows), arrivals=[400, 0], arrived_input_tokens=[200_000, 0])
        assert policy.react(10.0, tick, state).replicas == {0: 4, 1: 1}
        policy, state = self.start(headroom=1.0)
        assert policy.react(10.0, tick, state).replicas[0] == 8

    @pytest.mark.parametrize(("lane", "replicas"), [("prefill", 3), ("decode", 4), ("shared", 4)])
    def test_lanes_each_by_their_part(self, lane, replicas):
        policy = TokenScale()
        memory = policy.velocities(replace(POOL, lane=lane), RATES, math.inf)
        sums = np.zeros((3, 9))
        sums[:, 3] = 400, 200_000, 20_000
        tick = at(10, arrivals=400.0, arrived_input_tokens=200_000.0)
        policy.add(tick, memory, sums)
        assert policy.count(tick, memory) == replicas

    def test_a_slow_network_limits_prefill(self):
        profile = PROFILE.model_copy(update={"kv_bytes_per_token": 100_000})
        pool = replace(POOL, profile=profile, lane="prefill")
        assert TokenScale().velocities(pool, RATES, 1e8).prefill_tokens_s == 1000
        assert TokenScale().velocities(pool, RATES, math.inf).prefill_tokens_s == pytest.approx(500 / 0.06)

    def test_what_is_there_counts_once_and_what_has_gone_too(self):
        known = Known()
        first = Closer((0, 0, "running", FAST, 0, 500, 50), (1, 1, "waiting", FAST, 0, 2000, 400)).requests()
        assert newly(first, known, 2)[:, :, [3, 8]].tolist() == [
            [[1, 0], [500, 0], [50, 0]],
            [[0, 1], [0, 2000], [0, 400]],
        ]
        assert newly(first, known, 2).sum() == 0
        over = Closer((1, 0, "running", FAST, 0, 2000, 400), (2, 0, "held", FAST, 0, 9, 9)).requests()
        assert newly(over, known, 2).sum(axis=(1, 2)).tolist() == [2401, 0]  # handed over to another pool
        policy, state = self.start()
        policy.add(at(arrivals=2.0, arrived_input_tokens=200.0), state.memory[0], np.zeros((3, 9)))
        assert state.memory[0].looks[0][2][:, 0].tolist() == [2, 200, 2]  # no answer was seen: a token each

    def test_forgets_after_its_window(self):
        policy, state = self.start(window_s=20.0)
        for t in range(0, 60, 10):
            policy.add(at(t, arrivals=float(t)), state.memory[0], np.zeros((3, 9)))
        assert [t for t, *_ in state.memory[0].looks] == [40, 50]
        short, state = self.start(window_s=1e-9)  # below the resolution of t: still the last look
        for t in (1e6, 1e6 + 10):
            short.add(at(t, arrivals=1.0), state.memory[0], np.zeros((3, 9)))
        assert [t for t, *_ in state.memory[0].looks] == [1e6 + 10]

    def test_told_the_truth_it_has_foresight(self):
        assert not parse_policy("tokenscale").policy.foresight
        assert parse_policy("tokenscale(lengths=true, length_error=0.1)").policy.foresight


def test_the_perfect_system_is_requests_over_mu():
    """Two requests/s a replica, windows of 600 s: 1,201 requests need two, none needs the minimum."""
    policy = POLICIES.load("perfect-system")()
    state = policy.start(FLEET, HISTORY)
    assert isinstance(state, PlanState)
    rows = [
        (0.0, start, 600.0, "a", "eu", metric, None, value)
        for start, n in ((1200.0, 1200.0), (1800.0, 1201.0), (2400.0, 0.0))
        for metric, value in (("requests", n), ("prompt_tokens", 1e9), ("output_tokens", 1e9), ("total_tokens", 2e9))
    ]
    names = ("issued_s", "start_s", "length_s", "service", "origin", "metric", "quantile", "value")
    demand = pl.DataFrame(rows, schema=names, orient="row")
    assert policy.plan_all(demand, state)["replicas"].to_list() == [1, 2, 0]
    assert policy.instant_start
    assert policy.foresight


def test_perfect_hours_are_those_of_its_windows():
    """A replica of two GPUs: 2, 1 and no replicas for ten minutes, and three for one."""
    plan = pl.DataFrame(
        {"start_s": [0.0, 600.0, 1200.0, 1800.0], "service": ["a"] * 4, "region": ["eu"] * 4, "lane": ["shared"] * 4,
         "replicas": [2, 1, 0, 3]}
    )  # fmt: skip
    pools = (replace(POOL, profile=PROFILE.model_copy(update={"gpus_per_replica": 2})),)
    assert perfect_hours(plan, pools, 600.0, 1860.0) == pytest.approx(2 * (30 + 3) / 60)


def test_zero_cold_start_is_hpa_without_waiting():
    policy, hpa = (parse_policy(text).policy for text in ("zero-cold-start(target=10)", "hpa(target=10)"))
    tick = seen(15, None, running=[60.0, 10.0])
    said = [p.react(15.0, tick, p.start(FLEET, HISTORY)) for p in (policy, hpa)]
    assert said[0] == said[1]
    assert (policy.instant_start, policy.foresight) == (True, True)
    assert (hpa.instant_start, hpa.foresight) == (False, False)

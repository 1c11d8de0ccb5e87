"""The industry's autoscalers: each rule by an example checked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lmaas.policies.autoscalers.aibrix import AibrixApa, AibrixKpa
from lmaas.policies.autoscalers.base import PoolSeen, Samples
from lmaas.policies.autoscalers.dynamo import DynamoPlanner, Load, decode_tokens_s, prefill_tokens_s
from lmaas.policies.autoscalers.hpa import Hpa
from lmaas.policies.autoscalers.keda import Keda
from lmaas.policies.autoscalers.knative import Knative
from lmaas.policies.autoscalers.kv_thresholds import KvThresholds
from lmaas.policies.autoscalers.llumnix import Llumnix, Near, moves
from lmaas.policies.autoscalers.ray_serve import RayServe
from lmaas.policies.autoscalers.wva import Capacity, Wva
from lmaas.policies.knobs import knob_of
from lmaas.replay.fleet import Pool
from lmaas.replay.profile import Latency, Profile
from lmaas.replay.protocol import SeenRequests

RATES = {
    "requests_s": 2.0, "prompt_tokens_s": 1000.0, "output_tokens_s": 100.0, "total_tokens_s": 1100.0,
    "mean_running": 10.0,
}  # fmt: skip
LATENCY = Latency(base=0.01, token_knots=[0], token_slopes=[1e-4], decode_seq=1e-3, decode_kv=1e-6)
PROFILE = Profile(name="p", kv_tokens=16_000, max_batch_tokens=1000, max_seqs=64, latency=LATENCY)
POOL = Pool("a", "eu", PROFILE)
EMPTY = PoolSeen(
    t=0.0, interval_s=10.0, active=4, starting=0, running=0.0, waiting=0.0, kv_fraction=0.0, arrivals=0.0,
    arrived_input_tokens=0.0, completions=0.0, completed_output_tokens=0.0, mean_ttft_s=math.nan, mean_e2e_s=math.nan,
)  # fmt: skip


def at(t=0.0, **seen):
    return replace(EMPTY, t=float(t), **seen)


def asked(number, replica, tokens, where):
    """Requests of pool 4."""
    zeros = np.zeros(len(number))
    return SeenRequests(
        np.array(number), np.full(len(number), 4), np.array(replica), np.array(where), zeros, zeros, np.array(tokens),
        zeros,
    )  # fmt: skip


def fresh(policy):
    return policy.remember(POOL, RATES)


def counts(policy, *ticks):
    """What it says at these ticks, one after the other."""
    memory = fresh(policy)
    return [policy.count(tick, memory) for tick in ticks]


def test_samples_keep_a_period_and_average_a_shorter_one():
    samples = Samples(60.0)
    for t in range(0, 100, 10):
        samples.add(float(t), float(t))
    assert [t for t, _ in samples.kept] == [30, 40, 50, 60, 70, 80, 90]
    assert (samples.mean(), samples.mean(20.0), samples.most()) == (65.0, 85.0, 90.0)


class TestHpa:
    """Ten requests a replica."""

    POLICY = Hpa(target=10)

    def test_the_ratio_outside_its_tolerance(self):
        assert counts(self.POLICY, at(running=44)) == [4]  # 1.1
        assert counts(self.POLICY, at(running=45)) == [5]  # ceil(4 · 1.125)

    def test_replicas_not_ready_count_as_idle_on_the_way_out(self):
        assert counts(self.POLICY, at(running=80, active=4, starting=4)) == [8]  # 20 each, 10 with the others
        assert counts(self.POLICY, at(running=100, active=4, starting=4)) == [10]
        low = Hpa(target=10, down_window_s=0)
        assert counts(low, at(running=20, active=4, starting=4)) == [2]  # on the way in they do not count

    def test_a_fleet_it_finds_is_not_scaled_in_before_its_window_has_passed(self):
        """recordInitialRecommendation: the first recommendation is the count it finds, four."""
        said = counts(self.POLICY, *(at(15 * k, running=10) for k in range(22)))
        assert said == [4] * 20 + [1, 1]  # from 300 s on
        assert counts(Hpa(target=10, down_window_s=0), at(0, running=10)) == [1]

    def test_an_old_recommendation_keeps_what_is_there_and_adds_nothing(self):
        """Twenty were wanted and eight allowed; when the load is gone the eight stay (WithBehaviors)."""
        said = counts(self.POLICY, at(0, running=200), at(15, running=10, active=8), at(30, running=10, active=8))
        assert said == [8, 8, 8]

    def test_at_most_four_or_as_many_again_a_period(self):
        assert counts(self.POLICY, at(running=500, active=2)) == [6]
        assert counts(self.POLICY, at(running=500, active=9)) == [18]


class TestKeda:
    def test_one_replica_for_every_five_waiting(self):
        assert counts(Keda(), at(waiting=43, active=8)) == [8]  # 7.5 % over what eight take: within the tolerance
        assert counts(Keda(), at(waiting=46, active=8)) == [10]

    def test_moves_as_an_hpa_does(self):
        assert counts(Keda(), at(waiting=500, active=2)) == [6]  # +4 or +100 %
        quiet = [at(15 * k, waiting=0, active=8) for k in range(22)]
        said = counts(Keda(), *quiet)
        assert said == [8] * 20 + [1, 1]  # 300 s of stabilisation, from the count that it finds

    def test_never_asks_for_more_than_its_most(self):
        assert counts(Keda(), at(waiting=5000, active=90)) == [100]

    def test_all_go_after_the_cooldown_where_none_need_stay(self):
        ticks = (at(0, waiting=1, active=3), at(359, active=3), at(360, active=3))
        empty = Keda(down_window_s=600).remember(replace(POOL, minimum=0), RATES)
        assert [Keda(down_window_s=600).count(tick, empty) for tick in ticks] == [3, 3, 0]  # whatever its HPA holds
        assert counts(Keda(down_window_s=600), *ticks) == [3, 3, 3]
        assert counts(Keda(down_window_s=0), *ticks) == [1, 1, 1]  # an HPA keeps one

    def test_keda_starts_the_first_one_and_its_hpa_the_others(self):
        assert counts(Keda(), at(active=0, waiting=500)) == [1]
        assert counts(Keda(), at(active=0)) == [0]
        assert counts(Keda(), at(active=0, waiting=500), at(15, active=0, starting=1, waiting=500)) == [1, 5]


class TestKnative:
    POLICY = Knative(concurrency=10, utilisation=0.7)  # seven requests a replica

    def test_stable_window_decides(self):
        ticks = [at(2 * k, running=28) for k in range(32)]
        assert counts(self.POLICY, *ticks)[-1] == 4  # 28 / 7
        assert counts(self.POLICY, *ticks, at(64, running=70))[-1] == 5  # mean of 60 s: 29.4; of six: 42, no panic

    def test_a_fleet_it_finds_is_in_panic_until_there_is_a_stable_window(self):
        ticks = [at(2 * k, running=7) for k in range(40)]
        assert counts(self.POLICY, *ticks) == [4] * 31 + [2] * 9  # then at most halved
        assert counts(self.POLICY, *(replace(tick, active=1, running=0.0) for tick in ticks[:2])) == [0, 0]

    def test_panics_at_twice_what_is_ready_and_does_not_scale_in_then(self):
        calm = [at(2 * k, running=28) for k in range(32)]
        burst = [at(64 + 2 * k, running=70) for k in range(3)]
        after = [at(70 + 2 * k, running=7) for k in range(40)]
        said = counts(self.POLICY, *calm, *burst, *after)
        assert said[34] == 10  # 70 / 7 over six seconds
        assert said[32] == 5  # 126 / 3 / 7 is 6: one and a half times what is ready, so the stable window decides
        assert set(said[34:65]) == {10}  # until sixty seconds after it was last twice that, at 68 s
        assert said[65] == 2  # then at most halved

    def test_moves_at_most_so_far(self):
        policy = Knative(concurrency=10, utilisation=0.7, max_up=2.0)
        assert counts(policy, at(running=7000)) == [8]
        assert counts(policy, *(at(2 * k, running=0) for k in range(32)))[-1] == 2  # half of four

    def test_waits_with_scale_in(self):
        policy = Knative(concurrency=10, utilisation=0.7, delay_s=100.0, stable_window_s=6.0)
        said = counts(policy, at(0, running=28), *(at(2 * k, running=14) for k in range(1, 60)))
        assert said[40] == 4
        assert said[-1] == 2


class TestAibrix:
    def test_apa_takes_the_ratio_outside_its_tolerances(self):
        assert counts(AibrixApa(), at(kv_fraction=0.54)) == [4]  # 1.08
        assert counts(AibrixApa(), at(kv_fraction=0.6)) == [5]  # ceil(4 · 1.2)
        assert counts(AibrixApa(), at(kv_fraction=0.46)) == [4]  # 0.92
        assert counts(AibrixApa(), at(kv_fraction=0.3)) == [3]  # ceil(4 · 0.6)
        assert counts(AibrixApa(), at(kv_fraction=0.01)) == [2]  # at most halved
        assert counts(AibrixApa(target=0.1), at(kv_fraction=1.0)) == [8]  # at most doubled

    def test_apa_answers_one_lack_once(self):
        """Four are full and four more start: what the four show stays the same while these load."""
        assert counts(AibrixApa(), at(kv_fraction=1.0, starting=4)) == [8]  # ceil(4 · 2), not ceil(8 · 2)
        assert counts(AibrixApa(), at(kv_fraction=1.0, starting=1)) == [8]  # still three short
        assert counts(AibrixApa(), at(active=0, starting=2)) == [2]
        assert counts(AibrixApa(), at(kv_fraction=0.3, starting=4)) == [7]  # 4 · 0.6 + 4 at the target, of ceil(4.8)

    def test_kpa_counts_full_replicas(self):
        ticks = [at(10 * k, kv_fraction=0.75) for k in range(6)]
        assert counts(AibrixKpa(), *ticks)[-1] == 6  # 4 · 0.75 / 0.5
        low = [at(60 + 10 * k, kv_fraction=0.1) for k in range(200)]
        said = counts(AibrixKpa(), *ticks, *low)
        assert said[6 + 150] == 6  # held for half an hour
        assert said[-1] == 2  # then at most halved


class TestRayServe:
    POLICY = RayServe(target=10)

    def test_scales_out_once_wanted_for_half_a_minute(self):
        said = counts(self.POLICY, *(at(10 * k, running=60) for k in range(5)))
        assert said == [4, 4, 4, 6, 4]  # at 30 s, then anew

    def test_scales_in_after_ten_minutes(self):
        said = counts(self.POLICY, *(at(10 * k, running=20) for k in range(61)))
        assert said == [4] * 60 + [2]

    def test_factors_and_their_way_out_when_stuck(self):
        eager = RayServe(target=10, up_factor=2.0, up_delay_s=0)
        assert counts(eager, at(running=60)) == [8]  # 4 + 2 · (6 - 4)
        slow = RayServe(target=10, down_factor=0.1, down_delay_s=0)
        assert counts(slow, at(running=20)) == [3]  # ceil(4 - 0.2) is 4 again: one fewer

    def test_what_starts_is_ordered_and_does_not_run(self):
        eager = RayServe(target=10, up_factor=0.5, up_delay_s=0)
        assert counts(eager, at(running=80, active=4, starting=1)) == [6]  # 4 + 0.5 · (8 - 4)
        assert counts(eager, at(running=80, active=4, starting=2)) == [6]
        assert counts(self.POLICY, at(waiting=30, active=0, starting=2), at(waiting=0, active=0, starting=2)) == [2, 2]

    def test_from_zero_at_once_and_to_zero_from_one_only(self):
        assert counts(self.POLICY, at(waiting=3, active=0)) == [1]
        idle = RayServe(target=10, down_delay_s=0)
        assert counts(idle, at(active=4)) == [1]
        assert counts(idle, at(active=1)) == [0]


class TestLlumnix:
    """1,000 blocks a replica; a mean prompt of 500 tokens takes 32."""

    def test_scales_out_below_ten_blocks_a_request(self):
        assert counts(Llumnix(), at(running=100, kv_fraction=0.74)) == [4]  # 1,040 free blocks: 10.4 each
        assert counts(Llumnix(), at(running=100, kv_fraction=0.76)) == [5]  # 9.6
        assert counts(Llumnix(), at(running=90, waiting=10, kv_fraction=0.7)) == [5]  # (1,200 - 320) / 100
        assert counts(Llumnix(), at(running=900, waiting=900, kv_fraction=1.0)) == [5]  # one a look

    def test_scales_in_where_sixty_would_be_left(self):
        assert counts(Llumnix(), at(running=20, kv_fraction=0.4)) == [3]  # (3,000 - 1,600) / 20 = 70
        assert counts(Llumnix(), at(running=20, kv_fraction=0.46)) == [4]  # (3,000 - 1,840) / 20 = 58
        assert counts(Llumnix(), at(active=1)) == [1]

    def test_a_request_leaves_the_least_free_replica_for_the_freest(self):
        """0: (30 - 20)/10 = 1 block a request; 1: 8; 2: 40. The shortest prompt, of 5 blocks, goes from 0 to 2: 1.7 and
        31.7 are nearer to each other. At most one a replica, and none from the other one, which is above 3."""
        near = Near(np.array([0, 1, 2]), np.array([10.0, 80.0, 120.0]), np.array([10.0, 10.0, 3.0]))
        requests = asked([7, 8, 9, 10], [0, 0, 0, 1], [200, 80, 10, 5], ["running", "running", "waiting", "running"])
        assert near.freeness.tolist() == [1.0, 8.0, 40.0]
        assert moves(4, near, requests, 16, 3.0) == [(8, 4, 2)]
        assert moves(5, near, requests, 16, 3.0) == []  # another pool's
        assert not near.pressed(0.5)

    @pytest.mark.parametrize(("tokens", "free"), [(16 * 20, 30.0), (16 * 12, 14.0)])
    def test_no_request_goes_where_it_is_too_large(self, tokens, free):
        """20 blocks: (30 - 20)/2 = 5, and -1 would be (-10 + 20)/9 = 1.1: fine. 12: (14 - 12)/2 = 1 is below 3."""
        near = Near(np.array([0, 1]), np.array([-10.0, free]), np.array([10.0, 1.0]))
        found = moves(4, near, asked([7], [0], [tokens], ["running"]), 16, 3.0)
        assert found == ([(7, 4, 1)] if free == 30 else [])

    def test_two_that_would_change_places_stay(self):
        """(0 + 40)/1 = 40 on the one, (80 - 40)/2 = 20 on the other."""
        near = Near(np.array([0, 1]), np.array([0.0, 80.0]), np.array([2.0, 1.0]))
        assert moves(4, near, asked([7], [0], [640], ["running"]), 16, 3.0) == []
        assert moves(4, near, asked([7], [0], [160], ["running"]), 16, 3.0) == [(7, 4, 1)]  # 10 and 35


class TestWva:
    """k1 is 12,800 tokens; 500 in and 50 out make N = min(90.9, 64), k2 = 64 · 525 = 33,600."""

    def test_derived_capacity(self):
        assert Wva().derived(Capacity(16_000, 1000, 64, 500.0, 50.0, Samples(1.0))) == 64 * 525
        assert Wva().derived(Capacity(16_000, 1000, 64, 950.0, 50.0, Samples(1.0))) == 50 * 975

    def test_scales_out_by_what_is_lacking(self):
        # 4 · 16,000 · 0.6 in use and 16 · 500 waiting: 46,400 / 0.85 = 54,588 of 51,200
        assert counts(Wva(), at(kv_fraction=0.6, running=70, waiting=16.0)) == [5]
        assert counts(Wva(), at(kv_fraction=0.6, running=70)) == [4]
        assert counts(Wva(), at(kv_fraction=0.6, running=70, waiting=16.0, starting=1)) == [5]  # it is on its way

    def test_scales_in_by_what_is_spare_once_that_lasts(self):
        # 51,200 - 12,800 / 0.7 = 32,914: two replicas of 12,800
        said = counts(Wva(), *(at(30 * k, kv_fraction=0.2, running=20) for k in range(12)))
        assert said == [4] * 10 + [2, 2]  # the HPA holds the count that it finds for 300 s

    def test_a_full_queue_shows_what_a_replica_can_do(self):
        policy = Wva()
        memory = fresh(policy)
        policy.count(at(kv_fraction=0.5, running=70, waiting=20.0), memory)  # five a replica wait: 8,000 tokens each
        assert policy.capacity(at(kv_fraction=0.5), 32_000.0, memory) == 8000


class TestKvThresholds:
    def test_one_at_a_time(self):
        assert counts(KvThresholds(), at(kv_fraction=0.93)) == [5]
        assert counts(KvThresholds(), at(kv_fraction=0.92)) == [4]
        assert counts(KvThresholds(), at(kv_fraction=0.09)) == [3]
        assert counts(KvThresholds(), at(kv_fraction=0.09, active=1)) == [1]


class TestDynamo:
    LOAD = Load(PROFILE, "shared", 500.0, 50.0)

    def test_throughputs_of_the_profile(self):
        # alone: 10 ms + 500 · 0.1 ms
        assert prefill_tokens_s(self.LOAD) == pytest.approx(500 / 0.06)
        # a batch of B: 10 ms + B · (0.1 + 1 + 0.525) ms; 30 requests of 525 tokens fit
        assert decode_tokens_s(self.LOAD, 1.0) == pytest.approx(30 / (0.01 + 30 * 1.625e-3))
        assert decode_tokens_s(self.LOAD, 0.03) == pytest.approx(12 / (0.01 + 12 * 1.625e-3))
        assert decode_tokens_s(self.LOAD, 0.001) == pytest.approx(1 / (0.01 + 1.625e-3))

    def test_sizes_by_the_last_interval(self):
        policy = DynamoPlanner(correct=False)
        tick = at(180, interval_s=180.0, arrivals=9000.0, arrived_input_tokens=4.5e6)
        prefill, decode = 50 * 500 * 0.06 / 500, 50 * 50 * (0.01 + 30 * 1.625e-3) / 30
        assert counts(policy, tick) == [math.ceil(prefill + decode)] == [8]

    @pytest.mark.parametrize(("lane", "replicas"), [("prefill", 3), ("decode", 5)])
    def test_lanes_each_by_their_part(self, lane, replicas):
        policy = DynamoPlanner(correct=False)
        memory = policy.remember(Pool("a", "eu", PROFILE, lane=lane), RATES)
        assert policy.count(at(180, interval_s=180.0, arrivals=9000.0, arrived_input_tokens=4.5e6), memory) == replicas

    def test_corrections(self):
        policy = DynamoPlanner(tpot_s=0.03)
        memory = fresh(policy)
        tick = at(
            180, interval_s=180.0, arrivals=9000.0, arrived_input_tokens=4.5e6, completions=100.0,
            completed_output_tokens=5000.0, mean_ttft_s=0.03, mean_e2e_s=0.03 + 49 * 0.0525, running=40.0,
        )  # fmt: skip
        policy.observe(tick, memory)
        assert memory.prefill_correction == pytest.approx(0.5)  # prompts took half the time expected: cached
        assert memory.decode_correction == pytest.approx(0.0525 / 0.02625)  # ten a replica run
        # the target is 15 ms then: batches of three
        decode = 50 * 50 / (3 / (0.01 + 3 * 1.625e-3))
        assert policy.count(tick, memory) == math.ceil(50 * 500 * 0.5 * 0.06 / 500 + decode)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Keda, {"threshold": 0}),
        (Keda, {"control_s": 0.5}),
        (Knative, {"panic_window_s": 61.0}),
        (Knative, {"max_up": 0.5}),
        (Knative, {"utilisation": 1.5}),
        (AibrixApa, {"target": math.nan}),
        (AibrixKpa, {"max_down": math.inf}),
        (RayServe, {"target": -1}),
        (RayServe, {"up_delay_s": -1}),
        (Llumnix, {"down_freeness": 5}),
        (Llumnix, {"migrate": 1}),
        (Llumnix, {"migrate_freeness": -1}),
        (Llumnix, {"headroom": -1}),
        (RayServe, {"headroom": math.nan}),
        (Knative, {"headroom": -2.0}),
        (Wva, {"up_threshold": 1.1}),
        (KvThresholds, {"low": 0.95}),
        (DynamoPlanner, {"tpot_s": 0}),
        (DynamoPlanner, {"correct": 1}),
    ],
)
def test_refuses_what_has_no_meaning(kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)


KNOBS = {
    Keda: "threshold", Knative: "headroom", RayServe: "headroom", Llumnix: "headroom", AibrixApa: "target",
    AibrixKpa: "target", Wva: "up_threshold", DynamoPlanner: "tpot_s", KvThresholds: "high",
}  # fmt: skip
BUSY = {
    "running": 32, "waiting": 8, "kv_fraction": 0.4, "arrivals": 20, "arrived_input_tokens": 10_000.0,
    "completions": 20, "completed_output_tokens": 1000.0, "mean_ttft_s": 0.1, "mean_e2e_s": 2.0,
}  # fmt: skip


class TestKnobs:
    @pytest.mark.parametrize(("kind", "name"), KNOBS.items())
    def test_more_of_it_asks_for_no_fewer(self, kind, name):
        knob = knob_of(kind())
        assert knob.name == name
        low, high = math.log(knob.factor_least), math.log(knob.factor_most)
        values = [knob.value(math.exp(low + (high - low) * k / 20)) for k in range(21)]
        ticks = [at(0, **BUSY), at(700, **BUSY)]  # past every delay but of scale-in by aibrix-kpa
        asked = [counts(kind(**{name: value}), *ticks)[-1] for value in values]
        assert asked == sorted(asked)
        assert asked[0] < asked[-1]

    @pytest.mark.parametrize("policy", [*(kind() for kind in KNOBS), KvThresholds(low=0.995, high=1.0)])
    def test_every_value_of_a_search_can_be(self, policy):
        knob = knob_of(policy)
        assert knob.least < knob.most
        for value in (knob.least, knob.most, knob.value(knob.factor(getattr(policy, knob.name)))):
            replace(policy, **{knob.name: knob.inside(value)})

    def test_headroom_divides_targets_and_multiplies_freeness(self):
        assert fresh(RayServe(target=12.0, headroom=0.5)).target == 8.0
        assert fresh(RayServe(headroom=1.0)).target == RATES["mean_running"] / 2
        assert fresh(Knative(concurrency=20.0, utilisation=0.7, headroom=0.4)).target == pytest.approx(10.0)
        for ratio in (0.3, 0.6, 0.9, 0.95):
            tick = at(kv_fraction=ratio, running=40)
            twice = Llumnix(up_freeness=20.0, down_freeness=120.0)
            assert counts(Llumnix(headroom=1.0), tick) == counts(twice, tick)

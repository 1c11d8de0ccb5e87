"""PreServe's two tiers, its artifact's form and its baseline Hybrid: each rule by an example checked by hand."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from lmaas.analysis.errors import UserError
from lmaas.policies.hysteresis import steadied
from lmaas.policies.planning import TOKENS
from lmaas.policies.preserve import PreServe
from lmaas.policies.preserve_artifact import Memory as ArtifactMemory
from lmaas.policies.preserve_artifact import PreServeArtifact
from lmaas.policies.preserve_hybrid import PreServeHybrid
from lmaas.policies.reacting import Timetable, anticipation_of, reacts, told
from lmaas.policies.registry import parse_policy
from lmaas.policies.tier2 import Look, Memory, Thresholds, change, isolated, looks
from lmaas.replay.anticipation import NO_ANTICIPATION, Anticipation
from lmaas.replay.fleet import DECODE, PREFILL, SHARED, Fleet, Pool
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import NOTHING, Actions, History, Seen, SeenReplicas

PROFILE = find_profile("llama-3.1-8b/h100/tp1")
FLEET = Fleet((Pool("a", "eu", PROFILE, maximum=12),))
PAPER = Thresholds(overload=0.95, share=0.1, scale_in=0.3)


def rates(lanes=(SHARED,)):
    rows = [
        {"service": "a", "lane": lane, "requests_s": 2.0, "mean_running": 9.0, **{f"{m}_s": 100.0 for m in TOKENS}}
        for lane in lanes
    ]
    return pl.DataFrame(rows)


def history(lanes=(SHARED,)):
    demand = pl.DataFrame(
        {
            "start_s": [0.0] * 3, "length_s": [600.0] * 3, "service": ["a"] * 3, "origin": ["eu"] * 3,
            "metric": list(TOKENS), "quantile": [None] * 3, "value": [240_000.0] * 3,
        }
    )  # fmt: skip
    return History(0.0, 600.0, 600.0, rates(lanes), demand)  # four replicas' demand


class Replicas:
    """Stands in for a tick's Closer: maps of the active replicas, by pool, and any number that start."""

    def __init__(self, *pools, starting=0):
        self.pools, self.starting = [np.array(maps, float) for maps in pools], starting

    def replicas(self):
        number = np.concatenate([np.arange(len(maps) + self.starting) for maps in self.pools])
        pool = np.concatenate([np.full(len(maps) + self.starting, p) for p, maps in enumerate(self.pools)])
        state = np.concatenate([["active"] * len(maps) + ["starting"] * self.starting for maps in self.pools])
        ahead = np.concatenate([[*maps, *np.zeros((self.starting, maps.shape[1]))] for maps in self.pools])
        zeros = np.zeros(len(pool))
        return SeenReplicas(pool, number, state, np.full(len(pool), "p"), zeros, zeros, zeros, zeros, ahead)


def seen(*pools, t=0.0, starting=0, kv=0.5):
    """pools: a map, f8[replicas, iterations], each."""
    zeros = np.zeros(len(pools))
    return Seen(
        t=t, interval_s=10.0, active=np.array([float(len(maps)) for maps in pools]), starting=zeros + starting,
        draining=zeros, donated=zeros, queued=zeros, held=zeros, waiting=zeros, running=zeros, outstanding_tokens=zeros,
        kv_fraction=zeros + kv, arrivals=zeros, arrived_input_tokens=zeros, completions=zeros,
        completed_output_tokens=zeros, mean_ttft_s=zeros, mean_e2e_s=zeros, closer=Replicas(*pools, starting=starting),
    )  # fmt: skip


def flat(*peaks, iterations=100):
    return np.repeat(np.array(peaks)[:, None], iterations, axis=1)


class TestTier2:
    """Section 4.3.2."""

    def test_overloaded_is_who_is_above_095_in_more_than_a_tenth_of_the_iterations(self):
        maps = flat(0.5, 0.5, 0.5)
        maps[0, :10], maps[1, 30:41], maps[2] = 0.96, 0.96, 0.95  # a tenth; eleven of a hundred; never above
        (look,) = looks(seen(maps).replicas, PAPER, 1)
        assert (look.over, look.peaks) == ({1}, [0.96, 0.96, 0.95])

    def test_isolates_what_the_sum_of_the_peaks_leaves_over(self):
        assert isolated([0.29, 0.2, 0.1, 0.05], 0.3) == 1  # 4 - 0.64 / 0.3 = 1.87
        assert isolated([0.1, 0.1, 0.1], 0.3) == 2  # 3 - 1: no rounding may make it less
        assert isolated([0.3, 0.0, 0.0], 0.3) == 0  # one is not below
        assert isolated([0.0, 0.0], 0.3) == 1  # one stays
        assert isolated([], 0.3) == 0
        assert isolated([0.0, 0.0], 0.0) == 0  # switched off

    def test_an_overload_is_credited_once_an_episode(self):
        memory = Memory()
        said = [change(Look(over, [1.0] * 4), PAPER, memory, True) for over in ({0, 2}, {0, 2}, {2, 3}, set(), {2})]
        assert said == [2, 0, 1, 0, 1]

    def test_scales_in_once_a_window_and_only_where_it_is_calm(self):
        memory, quiet = Memory(), Look(set(), [0.1] * 4)
        assert [change(quiet, PAPER, memory, calm) for calm in (False, True, True)] == [0, -2, 0]
        memory.begin()
        assert change(quiet, PAPER, memory, True) == -2


class TestTiersTogether:
    """Tier-1 sets the count at the beginning of a window, Tier-2 moves it until the next one."""

    def start(self, **changes):
        policy = PreServe(**changes)
        return policy, policy.start(FLEET, history())

    def test_what_tier2_added_stays_at_a_lead_tick_and_goes_with_the_window(self):
        policy, state = self.start()
        assert policy.adopt(0.0, {0: 4}, True, seen(flat(0.5)), state) == Actions({0: 4})
        assert policy.react(10.0, seen(flat(1.0, 1.0, 0.5, 0.5)), state) == Actions({0: 6})
        six = seen(flat(1.0, 1.0, 0.5, 0.5), starting=2)
        assert policy.react(20.0, six, state) == NOTHING  # the same episode
        assert policy.adopt(480.0, {0: 3}, False, six, state) == Actions({0: 6})  # the next window needs three
        assert policy.adopt(490.0, {0: 7}, False, six, state) == Actions({0: 7})
        assert policy.adopt(600.0, {0: 3}, True, six, state) == Actions({0: 3})

    def test_at_one_instant_tier2_counts_from_tier1s_word(self):
        """The runner lets the second word on a pool count."""
        policy, state = self.start()
        policy.react(590.0, seen(flat(1.0, 0.5)), state)
        policy.adopt(600.0, {0: 5}, True, seen(flat(1.0, 0.5)), state)
        assert policy.react(600.0, seen(flat(1.0, 0.5)), state) == Actions({0: 6})  # overload that lasts counts anew
        policy.adopt(1080.0, {0: 7}, False, seen(flat(1.0, 1.0)), state)
        assert policy.react(1080.0, seen(flat(1.0, 1.0)), state) == Actions({0: 8})
        policy.adopt(1200.0, {0: 4}, True, seen(flat(0.0, 0.0)), state)
        assert policy.react(1200.0, seen(flat(0.0, 0.0)), state) == NOTHING  # not what was asked for just now

    def test_isolates_once_and_not_what_the_next_window_needs(self):
        policy, state = self.start()
        quiet = seen(flat(0.1, 0.1, 0.1, 0.1))
        policy.adopt(0.0, {0: 4}, True, quiet, state)
        assert policy.react(10.0, seen(flat(0.1, 0.1, 0.1, 0.1), starting=1), state) == NOTHING
        assert policy.react(20.0, quiet, state) == Actions({0: 2})
        assert policy.react(30.0, quiet, state) == NOTHING
        policy.adopt(600.0, {0: 4}, True, quiet, state)
        policy.adopt(610.0, {0: 6}, False, quiet, state)
        assert policy.react(620.0, quiet, state) == NOTHING

    def test_keeps_to_the_pools_bounds(self):
        policy, state = self.start()
        assert policy.react(10.0, seen(flat(*[1.0] * 9)), state) == Actions({0: 12})

    def test_leaves_prefill_lanes_to_tier1(self):
        lanes = Fleet((Pool("a", "eu", PROFILE, lane=PREFILL), Pool("a", "eu", PROFILE, lane=DECODE)))
        empty = flat(0.0, 0.0, 0.0)
        for policy, said in ((PreServe(), {1: 1}), (PreServeArtifact(), {1: 2})):
            state = policy.start(lanes, history((PREFILL, DECODE)))
            policy.adopt(0.0, {0: 3, 1: 2}, True, seen(empty, empty), state)
            assert policy.react(10.0, seen(empty, empty), state) == Actions(said)

    def test_rests_where_no_replicas_are_seen(self):
        for policy in (PreServe(), PreServeArtifact()):
            state = policy.start(FLEET, history())
            assert policy.react(10.0, replace(seen(flat(1.0)), closer=None), state) == NOTHING

    def test_without_tier1_every_window_begins_with_the_same_fleet(self):
        """Four were there, and half as many on top: Tier-2 moves them until the next window."""
        policy, state = self.start(tier1=False, headroom=0.5)
        assert policy.initial(FLEET, history(), state) == [6]
        demand = history().window_demand.with_columns(start_s=pl.Series([0.0, 600.0, 600.0]), issued_s=pl.lit(-900.0))
        plan = policy.plan_all(demand, state)
        assert plan.rows() == [(0.0, "a", "eu", SHARED, 6), (600.0, "a", "eu", SHARED, 6)]
        assert PreServe(headroom=0.5).initial(FLEET, history(), state) is None
        assert policy.adopt(600.0, {0: 6}, True, seen(flat(0.5)), state) == Actions({0: 6})
        assert policy.react(610.0, seen(flat(1.0, 0.5, 0.5, 0.5, 0.5, 0.5)), state) == Actions({0: 7})
        assert policy.react(620.0, seen(flat(*[0.1] * 7)), state) == Actions({0: 3})  # four of 7 - 0.7 / 0.3 = 4.67 go
        kept = PreServe(tier1=False).start(FLEET, history())
        assert PreServe(tier1=False).initial(FLEET, history(), kept) == [4]

    @pytest.mark.parametrize("text", ["tier1=false, tier2=false", "tier1=false, hysteresis=true"])
    def test_without_tier1_there_must_be_tier2_and_no_plan_to_steady(self, text):
        with pytest.raises(UserError, match="tier1 is false: nothing plans; leave tier2 on"):
            parse_policy(f"preserve({text})")

    def test_without_tier2_nobody_reacts(self):
        policy = parse_policy("preserve(tier2=false)").policy
        assert not reacts(policy)
        assert anticipation_of(policy) == NO_ANTICIPATION
        assert anticipation_of(PreServe(lookahead=40)) == Anticipation(40, "paper")
        table = Timetable(np.array([0.0, 600.0]), np.array([[4], [2]]), 120.0, 600.0)
        assert told(policy, None, table, 480.0, seen(flat(0.5)), False) == Actions({0: 4})


def test_a_timetable_tells_windows_that_began_from_those_to_come():
    table = Timetable(np.array([0.0, 600.0, 1200.0]), np.array([[4, 1], [2, 3], [9, 1]]), 120.0, 600.0)
    assert table.counts(0.0) == {0: 4, 1: 1}
    assert table.counts(480.0) == {0: 4, 1: 3}
    assert table.counts(480.0, begun=False) == {0: 2, 1: 3}
    assert table.counts(1800.0) == {}


def test_hysteresis_by_hand():
    needed = [2.5, 2.95, 3.1, 3.4, 2.65, 2.75, 2.6, 0.0]
    needs = pl.DataFrame(
        {
            "start_s": [600.0 * k for k in range(8)], "service": ["a"] * 8, "region": ["eu"] * 8,
            "lane": [SHARED] * 8, "replicas": needed,
        }
    )  # fmt: skip
    # 3.15 up to four; 3.1 + 0.3 keeps four; 2.65 + 0.3 is below three; 2.75 + 0.2 is, too; 0 + 0.3 is one
    assert steadied(needs)["replicas"].to_list() == [3, 4, 4, 4, 3, 3, 3, 1]
    soon = needs.with_columns(start_s=pl.col("start_s") / 600 * 30)
    assert steadied(soon)["replicas"].to_list() == [3, 4, 4, 4, 3, 3, 3, 1]  # changes are 60 s apart
    jumps = soon.with_columns(replicas=pl.Series([0.7, 5.0, 1.0, 1.0] * 2))
    assert steadied(jumps)["replicas"].to_list() == [1, 6, 6, 2, 2, 6, 6, 2]  # frozen at 60, 120 and 180 s


class TestArtifact:
    def said(self, *peaks, have=None, t=0.0, memory=None, planned=2):
        memory = ArtifactMemory(planned=planned) if memory is None else memory
        return PreServeArtifact().wanted(t, list(peaks), len(peaks) if have is None else have, memory)

    def test_thresholds_on_the_mean_of_the_peaks(self):
        assert self.said(0.9, 0.5) == 2  # r is 0.7, not above it
        assert self.said(0.92, 0.5) == 3
        assert self.said(0.1, 0.2, 0.2) == 2  # one fewer
        assert self.said(0.1, 0.2, 0.2, planned=3) == 3  # Tier-1 is the floor
        assert self.said(0.5, 0.5, planned=5) == 5
        assert self.said(planned=5) == 5  # nobody is active yet

    def test_two_more_above_085_where_there_is_no_emergency(self):
        calm = PreServeArtifact(emergency=1.0)
        assert calm.wanted(0.0, [0.86, 0.86, 0.86], 3, ArtifactMemory()) == 5

    def test_freezes_for_a_minute_but_for_an_emergency(self):
        memory = ArtifactMemory()
        assert [self.said(0.75, 0.75, t=5.0 * k, memory=memory) for k in (0, 1, 11, 12)] == [3, 2, 2, 3]
        assert self.said(1.2, 0.9, t=65.0, memory=memory) == 5  # floor(1.05 · 2 / 0.4)
        assert [self.said(1.2, 0.9, have=5, t=70.0 + 5 * k, memory=memory) for k in range(4)] == [5, 5, 5, 5]
        assert memory.locked == 3  # three looks, then again

    def test_an_emergency_counts_from_the_active_ones(self):
        assert self.said(1.0, 1.0, have=5) == 5
        assert self.said(1.0, 1.0, have=4) == 5

    def test_reacts_on_the_plan_it_adopted(self):
        policy = PreServeArtifact()
        state = policy.start(FLEET, history())
        calm = seen(flat(0.5, 0.5, iterations=200))
        assert policy.adopt(0.0, {0: 3}, True, calm, state) == NOTHING
        assert policy.react(5.0, calm, state) == Actions({0: 3})
        assert policy.adopt(480.0, {0: 2}, False, calm, state) == NOTHING
        assert state.pools[0].planned == 3
        policy.adopt(600.0, {0: 2}, True, calm, state)
        assert policy.react(605.0, calm, state) == NOTHING


def test_hybrid_is_the_mean_of_a_plan_and_thresholds():
    policy = PreServeHybrid()
    state = policy.start(FLEET, history())  # both begin with four
    policy.adopt(0.0, {0: 7}, True, seen(flat(0.5)), state)
    said = [policy.react(10.0 * k, seen(flat(0.5), kv=kv), state).replicas[0] for k, kv in enumerate((0.5, 0.93, 0.09))]
    assert said == [6, 6, 6]  # (7 + 4) / 2, (7 + 5) / 2, (7 + 4) / 2, rounded up
    for _ in range(9):
        said = policy.react(40.0, seen(flat(0.5), kv=0.0), state).replicas[0]
    assert said == 4  # (7 + 1) / 2
    policy.adopt(480.0, {0: 2}, False, seen(flat(0.5)), state)
    assert policy.react(490.0, seen(flat(0.5)), state).replicas == {0: 4}
    policy.adopt(600.0, {0: 2}, True, seen(flat(0.5)), state)
    assert policy.react(600.0, seen(flat(0.5)), state).replicas == {0: 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("preserve(tier2=3)", "tier2 is 3; true or false"),
        ("preserve(hysteresis=maybe)", "true or false"),
        ("preserve(lookahead=0)", "from 1"),
        ("preserve(lookahead=20000)", "10,000"),
        ("preserve(extension=ours)", "there are paper, artifact, expected"),
        ("preserve(control_s=0)", "from 1 to"),
        ("preserve(scale_in=2)", "shares"),
        ("preserve-artifact(low=0.8)", "low below high"),
        ("preserve-artifact(freeze_s=-1)", "freeze_s is -1"),
        ("preserve-artifact(locked_ticks=2.5)", "locked_ticks is 2.5; a whole number"),
        ("preserve-hybrid(high=1.2)", "at most 1"),
    ],
)
def test_what_is_wrong_is_said(text, says):
    with pytest.raises(Exception, match="policy") as error:
        parse_policy(text)
    assert says in str(error.value)


def test_switches_are_written_in_small_letters():
    assert parse_policy("preserve(tier2=false,hysteresis=true)").policy == PreServe(tier2=False, hysteresis=True)
    assert parse_policy("preserve(lengths=true)").policy.lengths == "true"  # there it is a word

"""SageServe's rules, each by an example checked by hand: thresholds, budgets, forecast gaps, demand, held requests."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from lmaas.analysis.errors import UserError
from lmaas.policies.registry import parse_policy
from lmaas.policies.sageserve.planner import counts, demand_ahead, hourly_problem
from lmaas.policies.sageserve.reactive import Reactive, Siloed
from lmaas.policies.sageserve.slots import sustained
from lmaas.policies.sageserve.strategies import LtI, LtU, LtUA
from lmaas.replay.fleet import Fleet, Hold, Pool, RegionChoice
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import Actions, History, Seen

PROFILE = find_profile("llama-3.1-8b/h100/tp1")
FLEET = Fleet((Pool("a", "eu", PROFILE), Pool("a", "us", PROFILE, maximum=6)), regions=("eu", "us"))
RATES = pl.DataFrame(
    {
        "service": ["a"], "lane": ["shared"], "requests_s": [2.0], "prompt_tokens_s": [1000.0],
        "output_tokens_s": [100.0], "total_tokens_s": [1100.0], "mean_running": [10.0],
    }
)  # fmt: skip
HISTORY = History(0.0, 1200.0, 600.0, RATES, pl.DataFrame())
ZERO = np.zeros(2)


def seen(t=0.0, u=(0.5, 0.5), active=(4, 4), starting=(0, 0), interval_s=15.0, **more):
    names = ("draining", "donated", "queued", "held", "waiting", "running", "outstanding_tokens", "arrivals",
             "arrived_input_tokens", "completions", "completed_output_tokens", "mean_ttft_s", "mean_e2e_s",
             "arrived_batch_tokens")  # fmt: skip
    arrays = {name: np.array(more.get(name, ZERO), np.float64) for name in names}
    return Seen(
        t=t, interval_s=interval_s, active=np.array(active, float), starting=np.array(starting, float),
        kv_fraction=np.array(u, float), **arrays,
    )  # fmt: skip


def begin(policy):
    return policy.start(FLEET, HISTORY)


def did(policy, state, **looks):
    """(replicas, donated) of one look."""
    said = policy.react(looks.get("t", 0.0), seen(**looks), state)
    return dict(said.replicas), dict(said.donate)


class TestReactive:
    def test_one_more_above_the_upper_threshold_one_lent_below_the_lower(self):
        assert did(Reactive(), begin(Reactive()), u=(0.71, 0.29)) == ({0: 5}, {1: 1})
        assert did(Reactive(), begin(Reactive()), u=(0.69, 0.31)) == ({}, {})
        artifact = Reactive(high=0.5, low=0.25)
        assert did(artifact, begin(artifact), u=(0.51, 0.26)) == ({0: 5}, {})

    def test_spare_replicas_are_switched_off_where_asked(self):
        policy = Reactive(lend=False)
        assert did(policy, begin(policy), u=(0.5, 0.1)) == ({1: 3}, {})

    def test_one_action_at_a_time(self):
        """Not while one starts, nor within 15 s of the last."""
        policy, state = Reactive(), begin(Reactive())
        assert did(policy, state, t=0.0, u=(0.8, 0.5)) == ({0: 5}, {})
        assert did(policy, state, t=14.0, u=(0.8, 0.5)) == ({}, {})
        assert did(policy, state, t=15.0, u=(0.8, 0.5), starting=(1, 0)) == ({}, {})
        assert did(policy, state, t=60.0, u=(0.8, 0.5), active=(5, 4)) == ({0: 6}, {})

    def test_within_the_pools_bounds(self):
        policy = Reactive()
        assert did(policy, begin(policy), u=(0.1, 0.9), active=(1, 6)) == ({}, {})

    def test_a_pool_without_active_replicas_is_full_where_requests_wait(self):
        for waits in ({"queued": (1, 0)}, {"held": (1, 0)}):
            assert did(Reactive(), begin(Reactive()), u=(0.0, 0.5), active=(0, 4), **waits) == ({0: 1}, {})
        idle = Fleet((replace(FLEET.pools[0], minimum=0), FLEET.pools[1]), regions=FLEET.regions)
        state = Reactive().start(idle, HISTORY)
        assert did(Reactive(), state, u=(0.0, 0.5), active=(0, 4)) == ({}, {})

    def test_headroom_counts_as_load(self):
        policy = Reactive(headroom=0.5)
        assert did(policy, begin(policy), u=(0.48, 0.21)) == ({0: 5}, {})

    def test_what_is_held_where_nothing_runs_is_sent_on(self):
        """A release follows a completion, and there would be none."""
        policy = Reactive()
        look = seen(held=(3, 2), running=(0, 1))
        assert policy.react(0.0, look, begin(policy)).release == {0: 1}


class TestBudget:
    """A plan of six and two where four and four are."""

    def at(self, policy, **more):
        state = begin(policy)
        state.goal, state.planned_s = np.array([6, 2]), 0.0
        state.foretold = np.full((60, 2), 10.0)  # 600 tokens a minute
        for name, value in more.items():
            setattr(state, name, value)
        return state

    def test_lt_u_moves_towards_the_plan_as_utilisation_asks(self):
        policy = LtU()
        assert did(policy, self.at(policy), u=(0.71, 0.29)) == ({0: 5}, {1: 1})
        assert did(policy, self.at(policy), u=(0.69, 0.31)) == ({}, {})
        assert did(policy, self.at(policy), u=(0.29, 0.95)) == ({}, {})  # each only its own way

    def test_lt_u_goes_beyond_the_plan_in_an_emergency_and_gives_that_back(self):
        policy = LtU()
        state = self.at(policy)
        assert did(policy, state, u=(0.91, 0.5), active=(6, 2)) == ({0: 7}, {})
        assert did(policy, state, t=60.0, u=(0.95, 0.5), active=(7, 2)) == ({}, {})  # the budget is -1
        assert did(policy, state, t=75.0, u=(0.29, 0.5), active=(7, 2)) == ({}, {0: 1})
        assert did(policy, self.at(policy), u=(0.89, 0.1), active=(6, 2)) == ({}, {})

    def test_without_a_look_at_utilisation_the_plan_is_spent_and_no_more(self):
        """Goals 6 and 2 of four each: one more, one fewer, whatever u is; at the plan not even an emergency counts."""
        for policy in (LtU(by_utilisation=False), LtUA(by_utilisation=False)):
            assert did(policy, self.at(policy), u=(0.1, 0.95)) == ({0: 5}, {1: 1})
            state = self.at(policy)
            assert did(policy, state, u=(0.1, 0.95), starting=(1, 0)) == ({}, {1: 1})  # one action at a time
            assert did(policy, self.at(policy), u=(0.99, 0.1), active=(6, 2)) == ({}, {})

    def test_lt_ua_goes_by_what_came_of_what_was_foretold(self):
        policy = LtUA()

        def steps(t, tokens, active=(6, 2)):
            state = self.at(policy)
            for k in range(4):  # a minute's tokens, a quarter each look; those before it do not count
                state.look(t - 45.0 + 15.0 * k, seen(arrived_input_tokens=(tokens / 4, 150)))
            return did(policy, state, t=t, active=active)

        assert steps(120.0, 3001.0) == ({0: 7}, {})
        assert steps(120.0, 2999.0) == ({}, {})
        assert steps(120.0, 299.0) == ({}, {})  # one fewer in the last twenty minutes alone
        assert steps(2400.0, 299.0) == ({}, {0: 1})
        assert steps(2400.0, 301.0) == ({}, {})

    def test_lt_ua_counts_interactive_tokens_only(self):
        policy, state = LtUA(), self.at(LtUA())
        state.look(60.0, seen(arrived_input_tokens=(9000, 0), arrived_batch_tokens=(8000, 0)))
        assert did(policy, state, t=60.0, active=(6, 2)) == ({}, {})

    def test_lt_ua_compares_rates_where_looks_do_not_divide_a_minute(self):
        """Looks 45 or 300 s long: as many tokens a second as foretold are no gap, however many that is."""
        for every_s in (45.0, 300.0):
            policy = LtUA(control_s=every_s)
            state = self.at(policy, foretold=np.full((60, 2), 10.0))
            for k in (1, 2, 3):
                look = seen(interval_s=every_s, arrived_input_tokens=(49 * every_s, 51 * every_s))
                state.look(k * every_s, look)
            last = {"t": 3 * every_s, "active": (6, 2), "interval_s": every_s}
            assert did(policy, state, **last) == ({1: 3}, {})

    def test_lt_i_does_nothing_between_plans(self):
        policy = LtI()
        assert did(policy, self.at(policy), u=(0.99, 0.0)) == ({}, {})


def forecast(*rows, issued=0.0):
    """Rows (start_s, origin, tokens of the minute)."""
    return pl.DataFrame(
        {
            "issued_s": [issued] * len(rows), "start_s": [float(row[0]) for row in rows], "length_s": 60.0,
            "service": "a", "origin": [row[1] for row in rows], "value": [float(row[2]) for row in rows],
        }
    )  # fmt: skip


class TestPlan:
    DEMAND = forecast(
        (0, "eu", 999_999), (1200, "eu", 270_000), (1260, "eu", 330_000), (3540, "us", 120_000), (3600, "us", 999_999)
    )

    def test_demand_is_the_largest_minute_from_20_to_60_ahead(self):
        assert demand_ahead(self.DEMAND, FLEET, 0.0, 1200, 3600).tolist() == [5500.0, 2000.0]
        assert demand_ahead(self.DEMAND, FLEET, 9000.0, 1200, 3600) is None

    def test_the_latest_issue_counts(self):
        later = forecast((1260, "eu", 60_000), issued=600.0)
        assert demand_ahead(pl.concat([self.DEMAND, later]), FLEET, 0.0, 1200, 3600).tolist() == [1000.0, 0.0]

    def test_an_origin_without_a_pool_adds_to_its_nearest(self):
        elsewhere = forecast((1260, "eu", 60_000), (1260, "mars", 30_000), (1320, "mars", 60_000))
        assert demand_ahead(elsewhere, FLEET, 0.0, 1200, 3600).tolist() == [1500.0, 0.0]

    def test_lt_i_applies_it_at_once(self):
        """5,500 and 2,000 tokens/s at 1,000 a replica; a tenth of the last hour's 6,000 batch tokens a second."""
        policy = LtI()
        look = seen(interval_s=3600.0, arrived_batch_tokens=(6_000 * 3600, 0))
        said = policy.plan(0.0, self.DEMAND, look, begin(policy))
        assert (dict(said.replicas), dict(said.donate)) == ({0: 7}, {1: 2})  # 5,500 + 600; 2,000
        assert policy.plan(0.0, self.DEMAND, seen(), begin(policy)).replicas == {0: 6}

    def test_lt_u_makes_it_a_budget(self):
        policy, state = LtU(), begin(LtU())
        assert policy.plan(0.0, self.DEMAND, seen(), state) == Actions()
        assert state.budget(seen()).tolist() == [2, -2]
        early = LtU(defer_in=False)
        assert early.plan(0.0, self.DEMAND, seen(), begin(early)).donate == {1: 2}

    def test_no_forecast_no_change(self):
        policy, state = LtI(), begin(LtI())
        assert policy.plan(0.0, self.DEMAND.clear(), seen(), state) == Actions()
        assert state.goal is None

    def test_decisions_are_hourly(self):
        starts = np.arange(120) * 60.0 + 7.0
        assert LtI().decisions(starts, begin(LtI())).tolist() == [7.0, 3607.0]

    def test_a_trace_of_batch_requests_alone_is_said_to_have_no_plan(self):
        state = begin(LtI())
        assert LtI().decisions(np.zeros(0), state).tolist() == []
        assert state.notes == ["nothing was planned: there was no interactive request to forecast from"]

    def test_batch_requests_near_their_deadline_are_released(self):
        policy = LtI()
        held = SimpleNamespace(
            where=np.array(["held", "held", "running", "held"]), tier=np.full(4, 2), pool=np.array([0, 1, 1, 1]),
            arrival_s=np.array([0.0, 100.0, 0.0, 90_000.0]), due_s=np.full(4, np.nan),
        )  # fmt: skip
        look = replace(seen(held=(1, 2)), closer=SimpleNamespace(requests=lambda: held))
        assert policy.due(0.8 * 86_400 + 50, look) == {0: 1}
        held.due_s = np.array([100_000.0, 1100.0, 1.0, np.nan])  # as the trace says: the first has until 80,000 s
        assert policy.due(0.8 * 86_400 + 50, look) == {1: 1}
        assert policy.due(899.0, look) == {}

    def test_lanes_end_the_policy_and_no_other(self):
        lanes = (Pool("a", "eu", PROFILE, lane="prefill"), Pool("a", "eu", PROFILE, lane="decode"))
        with pytest.raises(ValueError, match="sageserve plans shared pools; a/eu/prefill is a lane: give"):
            sustained(Fleet(lanes), HISTORY)

    def test_the_ilp_of_a_fleet(self):
        fleet = replace(FLEET, inventory={"eu": {PROFILE.gpu: 5}})
        rate = sustained(fleet, HISTORY)
        problem = hourly_problem(
            fleet, rate, np.array([5500.0, 2000.0]), seen(), vm_cost=rate * 0 + 10, start_cost=rate * 0 + 150, local=1.0
        )  # fmt: skip
        assert problem.now[0, :, 0].tolist() == [4, 4]
        assert problem.cap[:, 0].tolist() == [5, np.inf]
        assert problem.most.tolist() == [[np.inf, 6]]
        found, why = counts(problem, fleet)
        assert found.tolist() == [5, 2]  # as much as there is room for
        assert "region cap: eu is to serve 100% of its demand itself, a 5,500 tokens/s" in why
        assert counts(replace(problem, local=0.5), fleet) == (pytest.approx(np.array([4, 4])), None)

    def test_what_a_pools_bound_cuts_leaves_the_others_alone(self):
        demand = np.array([2500.0, 9000.0])
        problem = hourly_problem(
            FLEET,
            sustained(FLEET, HISTORY),
            demand,
            seen(),
            vm_cost=np.full(2, 10),
            start_cost=np.full(2, 150),
            local=1.0,
        )
        found, why = counts(problem, FLEET)
        assert found.tolist() == [3, 6]
        assert "a at most 6" in why


def test_what_they_bring():
    brings = LtU(order="pf", release="artifact").brings
    assert brings.order == "tier"
    assert brings.region_choice == RegionChoice("threshold", 0.7)
    assert brings.hold == Hold(("batch",), 0.5, 0.6, (1, 2))
    assert Reactive().brings.hold.releases == (2, 1)
    assert LtI(reroute=False).brings.region_choice.rule == "home"
    assert (Siloed().brings.silo, Siloed().brings.hold) == (0.2, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sageserve-reactive(high=0.2)", "low below high"),
        ("sageserve-lt-i(order=lifo)", "there are fcfs, edf, pf, dpa"),
        ("sageserve-lt-i(release=both)", "there are paper, artifact"),
        ("sageserve-lt-i(local=1.5)", "a share from 0 to 1"),
        ("sageserve-lt-u(hold_low=0.9)", "shares, rising"),
        ("sageserve-lt-ua(gap=-1)", "gap is -1"),
        ("sageserve-siloed(batch_share=1)", "a share above 0, below 1"),
        ("sageserve-lt-i(forecaster=armia-312)", "did you mean 'arima-312'"),
        ("sageserve-lt-u(lend=3)", "true or false"),
        ("sageserve-reactive(headroom=-1)", "headroom is -1"),
    ],
)
def test_what_is_wrong_is_said(text, says):
    with pytest.raises(UserError, match=says):
        parse_policy(text)

"""SageServe on pools of several GPU types: what may start where, plans by type, steps towards them, replays."""

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from test_sageserve import HISTORY, PROFILE, seen
from three_hours import PROFILE as SMALL
from three_hours import rows, stored

from lmaas.policies import evaluate
from lmaas.policies.sageserve.costs import parsed, start_costs, vm_costs
from lmaas.policies.sageserve.planner import counts, hourly_problem
from lmaas.policies.sageserve.slots import slots_of, standing, sustained
from lmaas.policies.sageserve.strategies import LtI, LtU
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile

A100 = find_profile("llama-3.1-8b/a100/tp1")
MIXED = Fleet((Pool("a", "eu", PROFILE, mixed=((A100, 1),)), Pool("a", "us", PROFILE)), regions=("eu", "us"))
KNOWN = replace(HISTORY, own={("a", A100.name): 400.0})
COSTS = {"vm_cost": np.full(3, 10.0), "start_cost": np.full(3, 150.0), "local": 1.0}


def looking(own=3, others=1, away=2, **more):
    """own and others: replicas in the first pool of its own profile and of the other; one more of these drains."""
    names = [PROFILE.name] * own + [A100.name] * (others + 1) + [PROFILE.name] * away
    state = ["active"] * (own + others) + ["draining"] + ["active"] * away
    there = SimpleNamespace(
        pool=np.array([0] * (own + others + 1) + [1] * away), profile=np.array(names), state=np.array(state)
    )
    look = seen(active=(own + others, away), **more)
    return replace(look, closer=SimpleNamespace(replicas=lambda: there))


def test_a_slot_is_a_profile_of_a_pool():
    assert [(p, profile.name) for p, profile in slots_of(MIXED)] == [
        (0, PROFILE.name), (0, A100.name), (1, PROFILE.name),
    ]  # fmt: skip
    assert sustained(MIXED, KNOWN).tolist() == [1000.0, 400.0, 1000.0]
    assert standing(MIXED, looking()).tolist() == [3, 1, 2]


def test_two_profiles_of_one_type_end_the_policy():
    twin = PROFILE.model_copy(update={"name": "test/twin"})
    with pytest.raises(ValueError, match="plans one profile a GPU type; a/eu/shared has llama-3"):
        sustained(Fleet((Pool("a", "eu", PROFILE, mixed=((twin, 0),)),)), HISTORY)


def test_where_a_type_is_short_the_plan_takes_the_other():
    """4,600 tokens/s in eu: 5 of 1,000; with GPUs for four of these, 4 and two of 400 (600 are left)."""
    demand = np.array([4600.0, 2000.0])
    free = hourly_problem(MIXED, sustained(MIXED, KNOWN), demand, looking(4, 0), **COSTS)
    assert counts(free, MIXED)[0].tolist() == [5, 0, 2]
    short = replace(MIXED, inventory={"eu": {PROFILE.gpu: 4, A100.gpu: 9}})
    tight = hourly_problem(short, sustained(short, KNOWN), demand, looking(4, 0), **COSTS)
    assert counts(tight, short)[0].tolist() == [4, 2, 2]


def test_a_type_is_planned_only_where_a_pool_may_start_it():
    """us has H100s alone, and none to spare: what it cannot hold is not planned on A100s that nobody could start."""
    short = replace(MIXED, inventory={"us": {PROFILE.gpu: 2, A100.gpu: 9}})
    problem = hourly_problem(short, sustained(short, KNOWN), np.array([0.0, 2400.0]), looking(1, 0), **COSTS)
    assert problem.there[0].tolist() == [[True, True], [True, False]]
    found, why = counts(problem, short)
    assert found[2] == 2 and "us is to serve 100% of its demand itself" in why
    assert counts(replace(problem, local=0.5), short) == (pytest.approx(np.array([1, 0, 2])), None)


def priced(profile, usd, cold_s):
    startup_s = profile.startup_s.model_copy(update={"cold": cold_s})
    return profile.model_copy(update={"usd_per_gpu_hour": usd, "startup_s": startup_s})


def test_costs_are_by_gpu_type():
    """The cheapest replica's are the numbers given; a start wastes what a replica costs while it starts."""
    dear, cheap = priced(PROFILE, 3.0, 200.0), priced(A100, 1.5, 100.0)
    slots = ((0, dear), (0, cheap), (1, dear))
    assert vm_costs(10.0, slots).tolist() == [20.0, 10.0, 20.0]
    assert start_costs(150.0, slots).tolist() == [600.0, 150.0, 600.0]
    named = f"{PROFILE.gpu}=30 {A100.gpu}=7"
    assert vm_costs(named, slots).tolist() == start_costs(named, slots).tolist() == [30.0, 7.0, 30.0]
    assert vm_costs(10.0, ((0, dear), (0, priced(A100, None, 100.0)))).tolist() == [10.0, 10.0]  # one has no price
    assert start_costs(150.0, ((0, dear), (0, priced(A100, 1.5, 0.0)))).tolist() == [150.0, 150.0]
    with pytest.raises(ValueError, match=rf"vm_cost names no cost of {A100.gpu}; the pools may run on {A100.gpu}, H"):
        vm_costs(f"{PROFILE.gpu}=30", slots)


@pytest.mark.parametrize("cost", ["", "H100", "=3", "H100=dear", "H100=1e9", "H100=nan", "H100=1 A100"])
def test_costs_that_cannot_be_are_refused(cost):
    with pytest.raises(ValueError, match="or one a GPU type, such as 'A100-SXM-80GB=10'"):
        parsed("vm_cost", cost)


def test_the_plan_weighs_types_by_their_own_costs():
    """2,000 tokens/s in eu: two H100s at 1,000 or five A100s at 400.

    Alike: 2 · (10 + 150) is less than 5 · (10 + 150). By type: 2 · (30 + 150) is more than 5 · (10 + 20).
    """
    demand = np.array([2000.0, 0.0])
    for costs, plan in (
        ({}, [2, 0, 1]),
        ({"vm_cost": f"{PROFILE.gpu}=30 {A100.gpu}=10", "start_cost": f"{PROFILE.gpu}=150 {A100.gpu}=20"}, [0, 5, 1]),
    ):
        policy = LtI(**costs)
        state = policy.start(MIXED, KNOWN)
        problem = hourly_problem(MIXED, state.rate, demand, looking(0, 0, 0), local=1.0, **state.costs)
        assert counts(problem, MIXED)[0].tolist() == plan


def test_plans_on_several_types_are_the_best_of_all():
    """By trying all: Σ α·δ + σ·max(0, δ) with a type's own α and σ, on what the regions' GPUs hold."""
    rng, rate = np.random.default_rng(5), np.array([1000.0, 400.0, 1000.0])
    every = np.array(list(itertools.product(range(7), repeat=3)))
    kinds = set()
    for _ in range(60):
        usd, cold_s = rng.choice([0.5, 1.0, 3.0], 2), rng.choice([30.0, 100.0, 300.0], 2)
        own, other = (priced(p, u, s) for p, u, s in zip((PROFILE, A100), usd, cold_s, strict=True))
        held = rng.integers(2, 6, 2)
        fleet = replace(
            MIXED, pools=(Pool("a", "eu", own, mixed=((other, 1),)), Pool("a", "us", own)),
            inventory={"eu": {own.gpu: int(held[0]), other.gpu: int(held[1])}},
        )  # fmt: skip
        demand, now = rng.choice([300.0, 900.0, 1700.0, 2600.0], 2), rng.integers(0, 3, 3)
        alpha = 10 * np.array([usd[0], usd[1], usd[0]]) / usd.min()
        wasted = usd * cold_s
        sigma = 150 * np.array([wasted[0], wasted[1], wasted[0]]) / wasted.min()
        state = LtI().start(fleet, KNOWN)
        look = looking(*now.tolist())
        found, why = counts(hourly_problem(fleet, state.rate, demand, look, local=1.0, **state.costs), fleet)
        served = np.stack([every[:, :2] @ rate[:2], every[:, 2] * rate[2]], axis=1)
        fits = (every[:, 0] <= held[0]) & (every[:, 1] <= held[1])
        pools = (every[:, :2].sum(axis=1) >= 1) & (every[:, 2] >= 1)
        fine = every[(served >= demand).all(axis=1) & fits & pools]
        change = fine - now
        costs = (alpha * change + sigma * np.maximum(change, 0)).sum(axis=1)
        if not len(costs):
            assert why
            continue
        got = found - now
        assert why is None
        assert (alpha * got + sigma * np.maximum(got, 0)).sum() == pytest.approx(costs.min())
        kinds.add(tuple((found[:2] > 0).tolist()))
    assert kinds == {(True, False), (False, True), (True, True)}


def goal(policy, plan):
    state = policy.start(MIXED, KNOWN)
    state.goal = np.array(plan)
    return state


def test_lt_i_goes_to_the_plan_by_profile():
    policy = LtI()
    said = policy.begin_hour(0.0, looking(), goal(policy, [5, 0, 3]))
    assert said.replicas == {1: 3}
    assert said.replicas_of == {(0, PROFILE.name): 5} and said.donate_of == {(0, A100.name): 1}
    off = LtI(lend=False).begin_hour(0.0, looking(), goal(policy, [3, 0, 2]))
    assert off.replicas_of == {(0, A100.name): 0} and not off.replicas and not off.donate_of


def test_lt_u_steps_the_type_that_lacks_or_has_over_most():
    policy = LtU()
    assert policy.steps(0.0, looking(u=(0.71, 0.5)), goal(policy, [4, 3, 2])) == {1: 1}  # lacks 1 and 2
    assert policy.steps(0.0, looking(u=(0.29, 0.5)), goal(policy, [1, 0, 2])) == {0: -1}  # 2 and 1 over
    assert policy.steps(0.0, looking(u=(0.91, 0.91)), goal(policy, [3, 1, 2])) == {0: 1, 2: 1}  # beyond: of its own
    said = policy.react(0.0, looking(u=(0.71, 0.5)), goal(policy, [4, 3, 2]))
    assert said.replicas_of == {(0, A100.name): 2} and not said.replicas


def test_both_types_serve_in_a_replay(tmp_path):
    """GPUs for one replica of its own a pool: all else of the plan is of the other type, and is paid."""
    for name in ("own", "other"):
        profile = {**SMALL, "name": f"test/{name}", "gpu": name}
        (tmp_path / f"{name}.json").write_text(json.dumps(profile))
    pools = [
        {
            "service": service, "region": region, "replicas": 1,
            "mixed": [{"profile": str(tmp_path / "other.json"), "replicas": 0}],
        }
        for service in ("chat", "code")
        for region in ("eu", "us")
    ]  # fmt: skip
    gpus = {region: {"gpus": {"own": 2 * SMALL["gpus_per_replica"], "other": 80}} for region in ("eu", "us")}
    (tmp_path / "fleet.yaml").write_text(json.dumps({"pools": pools, "regions": gpus}))
    found = evaluate(
        stored(tmp_path, rows(), "mixed"), ["sageserve-lt-i(lend=false)"], baselines=["none"],
        profile=str(tmp_path / "own.json"), fleet=tmp_path / "fleet.yaml", window_s=300.0, check=True,
    )  # fmt: skip
    assert not found.failures
    windows = found.timeline.group_by("start_s").agg(pl.col("active").sum())
    assert windows["active"].max() > 4  # the own type's GPUs hold four
    assert found.scores["completed"].item() == found.scores["arrived"].item()

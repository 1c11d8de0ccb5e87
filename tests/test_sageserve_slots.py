"""SageServe on pools of several GPU types: what may start where, plans by type, steps towards them, replays."""

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
from lmaas.policies.sageserve.planner import counts, hourly_problem
from lmaas.policies.sageserve.slots import slots_of, standing, sustained
from lmaas.policies.sageserve.strategies import LtI, LtU
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile

A100 = find_profile("llama-3.1-8b/a100/tp1")
MIXED = Fleet((Pool("a", "eu", PROFILE, mixed=((A100, 1),)), Pool("a", "us", PROFILE)), regions=("eu", "us"))
KNOWN = replace(HISTORY, own={("a", A100.name): 400.0})
COSTS = {"vm_cost": 10, "start_cost": 150, "local": 1.0}


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

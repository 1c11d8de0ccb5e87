"""Mélange: its demand, candidates and constraints by hand; replayed, the fleet it buys, its shares, no look-ahead."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from three_hours import HOURS, PROFILE, decisions, rows, scrambled, stored

from lmaas.analysis.errors import UserError
from lmaas.policies import evaluate
from lmaas.policies.melange.allocation import (
    Choice,
    asked_for,
    by_window,
    candidates,
    prices,
    problem,
    shares,
)
from lmaas.policies.registry import parse_policy
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Profile, find_profile

SMALL = Profile.model_validate(PROFILE)
LARGE = SMALL.model_copy(
    update={
        "name": "test/large",
        "gpus_per_replica": 3,
        "gpu": "other",
        "kv_tokens": 60_000,
        "latency": SMALL.latency.model_copy(update={"base": 0.012, "token_slopes": (1e-4, 1.4e-4)}),
    }
)
FLEET = """
services: {{chat: {{profile: {small}}}, code: {{profile: {small}}}}}
pools:
  - {{service: chat, region: eu, mixed: [{{profile: {large}, replicas: 0}}]}}
  - {{service: code, region: eu, mixed: [{{profile: {large}, replicas: 0}}]}}
  - {{service: chat, region: us, mixed: [{{profile: {large}, replicas: 0}}]}}
  - {{service: code, region: us, mixed: [{{profile: {large}, replicas: 0}}]}}
"""


def test_the_window_that_costs_most_is_asked_for():
    """A request of kind 0 costs 1/2 $ a unit of time at least, one of kind 1 costs 2; nobody serves kind 2."""
    capacity, price = np.array([[2.0, 0.0, 0.0], [8.0, 2.0, 0.0]]), np.array([1.0, 4.0])
    rates = np.array([[7.0, 0.0, 90.0], [1.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
    assert asked_for(rates, capacity, price).tolist() == [1.0, 2.0, 0.0]  # 3.5, 4.5 and 2 $


def test_demand_is_counted_in_whole_windows_back_from_the_cut():
    """The first five seconds are no window; what comes at the cut is not of the training part."""
    table = pl.DataFrame({"arrival_s": [0.0, 5.0, 14.9, 15.0, 24.0, 25.0], "type": [0, 0, 1, 1, 1, 0]})
    ready = SimpleNamespace(requests=table, cut_s=25.0, window_s=10.0)
    assert by_window(table, ready, 2).tolist() == [[0.1, 0.1], [0.0, 0.2]]
    short = SimpleNamespace(requests=table, cut_s=25.0, window_s=100.0)
    assert by_window(table, short, 2) == pytest.approx(np.array([[2, 3]]) / 25)
    alone = SimpleNamespace(requests=table, cut_s=0.0, window_s=100.0)
    assert by_window(table, alone, 2).tolist() == [[0.0, 0.0]]


def test_who_may_be_bought():
    own = find_profile("llama-3.1-8b/h100/tp1").model_copy(update={"startup_s": SMALL.startup_s})
    pool = Pool("a", "eu", own)
    shipped = candidates(pool, [])
    assert shipped[0] == own
    assert {p.dtype for p in shipped} == {own.dtype} and len({p.gpu for p in shipped}) > 3
    assert {p.startup_s for p in shipped} == {own.startup_s}
    named = ["llama-3.1-8b/l40s/tp1", "llama-3.1-70b/h100/tp4"]
    assert [p.name for p in candidates(pool, named)] == named[:1]  # the other one is of another model
    assert candidates(pool, named[1:]) == (own,)
    assert candidates(replace(pool, mixed=((LARGE, 0),)), []) == (own, LARGE)
    assert candidates(Pool("a", "eu", SMALL), []) == (SMALL,)


def test_pools_share_the_regions_gpus():
    """2 and 3 GPUs a replica at 2 $ each; SMALL's are bounded in one region, together; LARGE's are not there."""
    choices = [
        Choice(Pool("a", "eu", SMALL, minimum=0, maximum=9), (SMALL, LARGE), np.ones((2, 2)), np.ones(2)),
        Choice(Pool("b", "eu", SMALL, minimum=2), (SMALL,), np.full((1, 2), 3.0), np.zeros(2)),
    ]
    fleet = Fleet(tuple(c.pool for c in choices), ("eu",), inventory={"eu": {"": 12}})
    found = problem(choices, fleet)
    assert found.price.tolist() == [4.0, 6.0, 4.0] == [*prices((SMALL, LARGE, SMALL))]
    assert found.capacity.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 3, 3]]
    bounds = dict(zip(map(tuple, found.rows.tolist()), zip(found.low, found.high, strict=True), strict=True))
    assert bounds == {(1, 1, 0): (1, 9), (0, 0, 1): (2, np.inf), (2, 0, 2): (0, 12), (0, 3, 0): (0, 0)}
    with pytest.raises(ValueError, match="no usd_per_gpu_hour"):
        prices([SMALL.model_copy(update={"usd_per_gpu_hour": None})])


def test_shares_are_the_flows_by_profile_of_the_replay():
    """Kind 1 runs on LARGE alone, which then has half a replica left for kind 0; so has each SMALL at 3/4 load."""
    choice = Choice(Pool("a", "eu", SMALL), (SMALL, LARGE), np.array([[2.0, 0.0], [2.0, 2.0]]), np.array([4.0, 1.0]))
    pool = Pool("a", "eu", SMALL, mixed=((LARGE, 1),))
    weights, rates = shares([choice], [np.array([2, 1])], Fleet((pool,)))
    table = np.array(weights)
    assert rates == [[2.0, 2.0], [0.0, 2.0]]
    assert table[1].tolist() == pytest.approx([0, 1], abs=1e-4)
    assert table[0] * [2, 1] == pytest.approx([10 / 3, 2 / 3], rel=1e-3)  # all three are 5/6 full


@pytest.mark.parametrize("text", ["types=0", "types=17", "demand=most", "headroom=-2", "lengths=sleep"])
def test_what_makes_no_sense_is_refused(text):
    with pytest.raises(UserError):
        parse_policy(f"melange({text})")
    with pytest.raises(UserError, match="no profile named"):
        parse_policy("melange(shapes='llama-3.1-8b/h100/tp1 gpt')")


ALL = ["melange", "melange(types=3, lengths=median, demand=mean, headroom=0.5)"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    for profile in (SMALL, LARGE):
        (home / f"{profile.name.split('/')[1]}.json").write_text(profile.model_dump_json())
    text = FLEET.format(small=json.dumps(str(home / "small.json")), large=json.dumps(str(home / "large.json")))
    (home / "fleet.yaml").write_text(text)
    return home


def run(home, name, table):
    return evaluate(
        stored(home, table, name), [*ALL, "static-peak"], baselines=["none"], fleet=home / "fleet.yaml", window_s=300.0,
        slo=["ttft<5s, tpot<200ms"], check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(home):
    return run(home, "plain", rows())


UNTIL = 0.85 * HOURS * 3600


@pytest.fixture(scope="module")
def other(home):
    return run(home, "scrambled", scrambled(rows(), UNTIL))


@pytest.mark.parametrize("policy", ALL)
def test_never_looks_ahead(result, other, policy):
    assert [n for n in other.notes if n.startswith(policy)] == [n for n in result.notes if n.startswith(policy)]
    for mine, theirs in zip(decisions(result, policy, UNTIL), decisions(other, policy, UNTIL), strict=True):
        assert mine.height > 20
        assert mine.equals(theirs)


def test_what_it_buys_is_what_is_paid_and_serves(result):
    score = {row["policy"]: row for row in result.scores.iter_rows(named=True)}
    bought = [note for note in result.notes if note.startswith("melange: ")]
    assert len(bought) == 4 and all("$/h, the cheapest of 2 shapes" in note for note in bought)
    dollars = sum(float(note.split(" at ")[1].split(" $/h")[0]) for note in bought)
    hours = (result.settings["end_s"] - result.settings["cut_s"]) / 3600
    assert score["melange"]["cost_usd"] == pytest.approx(dollars * hours, rel=0.01)
    assert score["melange"]["slo_attainment"] > 0.95
    assert score["melange"]["cost_usd"] < score["static-peak"]["cost_usd"]
    assert not score["melange"]["foresight"]

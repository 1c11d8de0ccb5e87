"""What routers answer: rows, scores, HOLD and OPEN; and answers that end their policy."""

import json
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from conftest import ROOT
from numba import config

from lmaas.analysis.errors import Exit
from lmaas.cli.main import main
from lmaas.replay import columns as c
from lmaas.replay.engine import NEVER, Controller, Replay, Requests
from lmaas.replay.fleet import Fleet, Hold, Pool
from lmaas.replay.profile import Startup, find_profile
from lmaas.replay.protocol import NOTHING, Actions
from lmaas.replay.routernames import find_router
from lmaas.replay.routers import Router

FIXTURES = ROOT / "tests" / "fixtures"
WRONG = f"{FIXTURES}/wrong_routers.py"
HOLDER = f"{FIXTURES}/holding_router.py:HOLDER"
PROFILE = find_profile("llama-3.1-8b/h100/tp1").model_copy(update={"startup_s": Startup(cold=30.0)})
FLEET = Fleet((Pool("s", "r", PROFILE),))


def table(arrival_s, tokens=50):
    n = len(arrival_s)
    zeros = np.zeros(n, np.int64)
    return Requests(np.asarray(arrival_s, float), zeros, zeros + tokens, zeros + 200, np.full(n, 200.0), zeros)


def play(arrival_s, replicas, router, fleet=FLEET, tokens=50, **more):
    replay = Replay(table(arrival_s, tokens), fleet, [replicas], router, **more)
    return replay.run(), replay


def ticking(period_s, act=lambda t, seen: NOTHING):
    return Controller(lambda t: (t // period_s + 1) * period_s, act)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "raised ValueError at t=6 s: by design"),
        ("nonsense", "answered 2, which is no replica of the pool, at t=0 s"),
        ("far_below", "answered -9, which is no replica of the pool, at t=0 s"),
        ("not_a_number", "scored a replica NaN at t=4 s"),
        ("only_not_a_number", "scored a replica NaN at t=0 s"),
        ("all_infinite", "scored every replica infinite and does not hold at t=0 s"),
        ("holds_unsaid", "held a request without saying that it does .* at t=4 s"),
        ("opens_unsaid", "held a request without saying that it does .* at t=0 s"),
    ],
)
def test_a_bad_answer_ends_the_replay_with_name_and_time(name, says):
    with pytest.raises(RuntimeError, match=f"router {name} {says}"):
        play(np.arange(20.0), 2, f"{WRONG}:{name}")


@pytest.mark.parametrize("slots", [0, 1024])  # with a tournament tree, and with a scan
def test_a_built_in_routers_infinite_scores_end_the_replay(slots):
    with (
        patch("lmaas.replay.world.TREE_SLOTS", slots),
        pytest.raises(RuntimeError, match=r"router preserve scored every replica infinite .* at t=0 s"),
    ):
        play([0.0, 0.0, 0.0], 2, "preserve(kappa=1e308)")  # the third finds both with tokens to prefill


def test_a_bad_answer_when_a_replica_becomes_active_ends_the_replay():
    """Requests that waited for a first replica are routed by the policy's order to start one."""
    controller = ticking(5.0, lambda t, seen: Actions({0: 1}))
    with pytest.raises(RuntimeError, match="router only_not_a_number scored a replica NaN at t=5 s"):
        play([0.0, 1.0], 0, f"{WRONG}:only_not_a_number", controller=controller, instant_start=True)


def test_an_infinite_score_means_not_this_one():
    outcome, _ = play(np.arange(20.0), 3, f"{WRONG}:not_this_one")
    assert (outcome.record == 1).all()


def test_where_all_scores_are_infinite_a_router_that_holds_has_held():
    router = replace(find_router(f"{WRONG}:all_infinite"), holds=True)
    outcome, _ = play(np.arange(20.0), 3, router)
    assert (outcome.status == c.UNSERVED).all()


@pytest.mark.skipif(config.DISABLE_JIT, reason="a whole evaluation, load test included")
def test_others_still_report_where_a_router_answers_badly(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    rows = ["arrival_s,service,input_tokens,output_tokens", *(f"{k},a,{100 + k % 40},{10 + k % 7}" for k in range(200))]
    (tmp_path / "trace.csv").write_text("\n".join(rows) + "\n")
    command = ["evaluate", str(tmp_path / "trace.csv"), "--train-fraction", "0", "--baseline", "none", "--json"]
    for name, says in (("not_a_number", "NaN at t="), ("nonsense", "which is no replica of the pool, at t=")):
        bad = f"static(replicas=3, router='{WRONG}:{name}')"
        assert main([*command, "--policy", bad, "--policy", "static(replicas=2)"]) == Exit.PARTIAL
        told = capsys.readouterr()
        said = json.loads(told.out)
        assert [r["policy"] for r in said["results"]] == ["static(replicas=2)"]
        assert f"router {name} " in told.out + told.err
        assert says in told.out + told.err


@pytest.mark.parametrize("wrong", [{"heartbeat_s": -1.0}, {"heartbeat_s": "beat"}, {"weights": {c.WAITING: np.nan}}])
def test_numbers_of_a_router_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"heartbeat|finite"):
        Router(find_router("least-requests").route, **wrong)


# --- held by the router ---


def test_held_requests_are_routed_at_the_heartbeat():
    """Ten at once, two places: each beat fills those that came free; nobody is routed between two beats."""
    outcome, _ = play(np.zeros(10), 1, HOLDER + "(most=2, heartbeat_s=3)")
    assert (outcome.status == c.OK).all()
    assert outcome.hold_s[:2].tolist() == [0, 0]
    assert (outcome.hold_s % 3 == 0).all()
    assert outcome.hold_s.tolist() == np.repeat(outcome.hold_s[::2], 2).tolist()  # two by two, in order
    assert (outcome.admitted_s - outcome.arrival_s >= outcome.hold_s).all()


def test_without_a_heartbeat_held_requests_wait_for_a_replica():
    controller = Controller(lambda t: 50.0 if t < 50 else np.inf, lambda t, seen: Actions({0: 2}))
    outcome, _ = play(np.zeros(5), 1, HOLDER + "(most=2)", tokens=51, controller=controller)
    assert outcome.hold_s[:4].tolist() == [0, 0, 80, 80]  # a replica asked for at 50 s, ready at 80 s
    assert outcome.status[4] == c.OK  # two places on either replica
    assert outcome.hold_s[4] == 80


@pytest.mark.parametrize(("refusals", "served"), [(0, 5), (1, 1), (2, 5), (3, 5)])
def test_refusals_in_a_row_end_a_round(refusals, served):
    """The first is never placed. It alone ends a round of one; of two, the one behind it is placed, which asks on."""
    prompts = np.array([50, 51, 51, 51, 51, 51])
    requests = replace(table(np.zeros(6)), input_tokens=prompts)
    with patch("lmaas.replay.world.FRUITLESS", 50):
        holder = f"{HOLDER}(most=1, never=2, heartbeat_s=1, refusals={refusals})"
        outcome = Replay(requests, FLEET, [1], holder).run(check=True)
    assert outcome.status[0] == c.UNSERVED
    assert (outcome.status == c.OK).sum() == served


def test_refusals_are_of_a_router_that_holds():
    with pytest.raises(ValueError, match="holds=True is missing"):
        replace(find_router("least-requests"), refusals=3)
    with pytest.raises(ValueError, match=r"refusals is 0.5; a whole number"):
        replace(find_router(HOLDER), params={**find_router(HOLDER).params, "refusals": 0.5})


def test_open_asks_for_one_more_within_the_bounds():
    """Six at once, one place a replica: OPEN each time one is held; the pool may have three."""
    fleet = Fleet((replace(FLEET.pools[0], maximum=3),))
    outcome, _ = play(np.zeros(6), 1, HOLDER + "(most=1, heartbeat_s=1)", fleet, controller=ticking(1e6))
    assert len(outcome.replicas) == 3
    assert outcome.denied.tolist() == [0]
    assert (outcome.status == c.OK).all()
    starting = outcome.spans.filter(outcome.spans["state"] == "starting")
    assert starting["from_s"].to_list() == [0, 0]


def test_open_asks_within_the_machines():
    gpu = PROFILE.model_copy(update={"gpu": "H100"})
    fleet = Fleet((replace(FLEET.pools[0], profile=gpu),), inventory={"r": {"H100": 2 * gpu.gpus_per_replica}})
    outcome, _ = play(np.zeros(4), 1, HOLDER + "(most=1)", fleet, controller=ticking(1e6))
    assert len(outcome.replicas) == 2
    assert outcome.denied.tolist() == [3]  # two of three at first, and one of three when the second became active
    assert outcome.hold_s[1:3].tolist() == [30, 30]
    assert outcome.status[3] == c.UNSERVED


def test_open_asks_nothing_of_a_policy_that_never_scales():
    outcome, _ = play(np.zeros(6), 1, HOLDER + "(most=1, heartbeat_s=1)")
    assert len(outcome.replicas) == 1
    assert (outcome.status == c.OK).all()


def test_open_from_an_empty_pool():
    outcome, _ = play(np.zeros(2), 0, HOLDER + "(most=2)", controller=ticking(1e6))
    assert (outcome.status == c.OK).all()
    assert outcome.hold_s.tolist() == [30, 30]


@pytest.mark.parametrize("beat", [0, 0.5])
@pytest.mark.parametrize("controller", [NEVER, ticking(600.0)], ids=["never", "ticks"])
def test_a_replay_ends_though_some_stay_held(beat, controller):
    with patch("lmaas.replay.world.FRUITLESS", 50):
        outcome, _ = play(np.arange(20.0), 1, HOLDER + f"(never={50 % 8}, heartbeat_s={beat})", controller=controller)
    assert (outcome.status == c.UNSERVED).all()
    assert outcome.end_s == 19


def test_a_replay_ends_though_a_policy_never_releases():
    requests = replace(table(np.arange(20.0)), held=np.arange(20) % 2 == 0)
    fleet = replace(FLEET, hold=Hold(("batch",), None, None))
    outcome = Replay(requests, fleet, [1], controller=ticking(10.0)).run()
    assert (outcome.status == np.where(requests.held, c.UNSERVED, c.OK)).all()


def test_a_policys_release_leaves_the_routers_hold_alone():
    requests = replace(table(np.zeros(6), 51), held=np.arange(6) < 2)
    controller = Controller(lambda t: 1.0 if t < 1 else np.inf, lambda t, seen: Actions(release={0: 100}))
    outcome = Replay(requests, FLEET, [1], HOLDER + "(most=2, heartbeat_s=100)", controller).run()
    assert outcome.hold_s.tolist() == [100, 100, 0, 0, 200, 200]  # released at 1 s, then the router holds them


def test_no_more_is_released_than_its_pool_holds():
    """The largest number there is, for pool 0: the six held there go on at 1 s; those of pool 1 stay."""
    arrivals = replace(table(np.zeros(9)), pool=np.arange(9) % 3 // 2, held=np.ones(9, bool))
    fleet = Fleet((Pool("s", "r", PROFILE), Pool("t", "r", PROFILE)), hold=Hold(("batch",), None, None))
    controller = Controller(lambda t: 1.0 if t < 1 else np.inf, lambda t, seen: Actions(release={0: sys.maxsize}))
    outcome = Replay(arrivals, fleet, [1, 1], controller=controller).run(check=True)
    assert (outcome.status == np.where(arrivals.pool == 0, c.OK, c.UNSERVED)).all()
    assert (outcome.hold_s[arrivals.pool == 0] == 1.0).all()

"""OServe's minute by hand: deployment, steps, migrations and weights; budgets and shapes; what it is fitted with."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from lmaas.policies.oserve.fitted import Division
from lmaas.policies.oserve.moves import Place, Step, Switch, drains_s, migrations, settled, switch
from lmaas.policies.oserve.policy import OServe
from lmaas.policies.oserve.shapes import budgets, shapes_of
from lmaas.policies.oserve.switching import Cluster, Sharded
from lmaas.policies.typed import widened
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Profile, find_profile
from lmaas.replay.protocol import NOTHING, History, Seen, SeenReplicas, SeenRequests
from lmaas.replay.requests import Extension

LATENCY = {"base": 0.02, "token_slopes": [1e-5]}
SMALL = Profile(
    name="small", model="m", gpu="G", kv_tokens=10_000, max_batch_tokens=2048, max_seqs=16, latency=LATENCY,
    weights_gb=80.0, kv_bytes_per_token=1000, startup_s={"cold": 60, "warm": 30, "swap": 50},
)  # fmt: skip
LARGE = SMALL.model_copy(update={"name": "large", "kv_tokens": 40_000, "tp": 2, "gpus_per_replica": 2})
POOL = Pool("a", "eu", SMALL, initial=4, mixed=((LARGE, 0),))
FLEET = Fleet((POOL,))
CAPACITY = np.array([[10.0, 0.0], [12.0, 4.0]])
DIVISION = Division((SMALL, LARGE), CAPACITY, np.array([10.0, 0.0]), 4, (4, 0), 1, None)
CLUSTER = Cluster(8, 8, 400e9, 200e9)


def history(division=DIVISION):
    return History(0.0, 0.0, 60.0, pl.DataFrame(), pl.DataFrame(), own=(division,))


def coming(*rates):
    """Requests of each type in the minute from 0 on, foretold at 0."""
    return pl.DataFrame(
        [
            {"issued_s": 0.0, "start_s": 0.0, "length_s": 60.0, "service": "a", "origin": "eu", "tier": None,
             "type": str(j), "metric": "requests", "quantile": None, "value": 60.0 * rate}
            for j, rate in enumerate(rates)
        ]
    )  # fmt: skip


class Closer:
    """Shows these replicas (profile, state, running, KV in use) and requests (replica, where, input, predicted)."""

    def __init__(self, replicas, requests=()):
        profile, state, running, kv = zip(*replicas, strict=True)
        n, zeros = len(profile), np.zeros(len(profile), np.int64)
        self.shown = SeenReplicas(
            zeros, np.arange(n), np.array(state), np.array(profile), np.zeros(n), np.array(running, float),
            np.zeros(n), np.array(kv, float), np.zeros((n, 0)),
        )  # fmt: skip
        at, where, inputs, predicted = zip(*requests, strict=True) if requests else [()] * 4
        i8 = [np.array(c, np.int64) for c in (range(len(at)), [0] * len(at), at, inputs, predicted)]
        self.asked = SeenRequests(i8[0], i8[1], i8[2], np.array(where, "U10"), i8[1], np.zeros(len(at)), i8[3], i8[4])

    def replicas(self):
        return self.shown

    def requests(self):
        return self.asked


def seen(closer, t=0.0):
    zeros = {name: np.zeros(1) for name in Seen.__dataclass_fields__ if name not in ("t", "interval_s", "closer")}
    return Seen(t=t, interval_s=60.0, closer=closer, **zeros)


FOUR_SMALL = [("small", "active", 0, 0.0)] * 4


def told(policy, rates, closer=None, division=DIVISION):
    state = policy.start(FLEET, history(division))
    return policy.plan(0.0, coming(*rates), seen(closer or Closer(FOUR_SMALL)), state), state


def test_a_minute_by_hand():
    """19.5/s of type 0 and 4/s of type 1, which only large replicas hold: two small ones give way to one of them.

    One large and two small replicas serve both in full. Two GPUs of four is what may give way at once. Both GPUs hold
    all weights already, so the transfer takes no time; nothing runs, so nothing drains.
    """
    actions, _ = told(OServe(types=2, reserve=0.0), (19.5, 4.0))
    assert actions.regroup == [(0, [2, 3], ["large"], 0.0)]
    assert actions.migrate == []
    small, large = np.array(actions.weights)[:, :2].T
    assert small == pytest.approx([9.75, 0.0], abs=1e-2)
    assert large == pytest.approx([0.0, 4.0], abs=1e-2)


def test_what_is_served_in_full_stays():
    actions, _ = told(OServe(types=2, reserve=0.0), (39.0, 0.0))
    assert actions.regroup == []
    assert actions.weights[0][0] == pytest.approx(9.75, rel=1e-2)
    assert told(OServe(types=2, reserve=0.25), (31.0, 0.0))[0].regroup == []
    assert told(OServe(types=2, reserve=0.25), (19.5, 3.0))[0].regroup != []


def test_a_switch_must_pay():
    """Large ones serve 25/s or 20/s: two of them 48 of the 60/s, four small ones 40, two small ones 20 meanwhile.

    8/s more for 300 s are 2,400 requests: as many as 20/s in 120 s. An answer of 5,000 tokens, too long to move, lasts
    100 s at 20 ms, one of 7,000 140 s.
    """
    division = replace(DIVISION, capacity=np.array([[10.0, 0.0], [25.0, 20.0]]))
    policy = OServe(types=2, reserve=0.0)

    def groups(policy, tokens):
        return told(policy, (40.0, 20.0), Closer(FOUR_SMALL, [(0, "running", 5000, tokens)]), division)[0].regroup

    assert groups(policy, 5000) == [(0, [0, 1], ["large"], 0.0)]
    assert groups(policy, 7000) == []
    assert groups(replace(policy, margin=0.8), 7000) != []
    assert groups(replace(policy, margin=1.25), 5000) == []
    assert groups(replace(policy, switching="none"), 5000) == []
    assert groups(replace(policy, switching="reload"), 3000) == [(0, [0, 1], ["large"], None)]  # 50 s to start, 60 s
    assert groups(replace(policy, switching="reload"), 4000) == []


def test_homogeneous_goes_to_one_shape_alone():
    """Type 1 wants large ones: both pairs of GPUs, one now."""
    policy = OServe(types=2, reserve=0.0, deployment="homogeneous")
    assert told(policy, (1.0, 60.0))[0].regroup == [(0, [0, 1], ["large"], 0.0)]
    assert told(policy, (39.0, 2.0))[0].regroup == []  # two large ones serve 24 of type 0


def test_from_disk_nothing_moves_and_starts_are_drawn():
    closer = Closer(FOUR_SMALL, [(3, "waiting", 500, 90)])
    (group,) = told(OServe(types=2, reserve=0.0, switching="reload"), (19.5, 4.0), closer)[0].regroup
    assert group == (0, [2, 3], ["large"], None)
    assert told(OServe(types=2, reserve=0.0, switching="reload"), (19.5, 4.0), closer)[0].migrate == []
    assert told(OServe(types=2, reserve=0.0), (19.5, 4.0), closer)[0].migrate == [(0, 0, 0)]


def test_while_it_switches_it_only_routes():
    policy = OServe(types=2, reserve=0.0)
    _, state = told(policy, (10.0, 4.0))
    going = [("small", "draining", 1, 0.1)] * 2 + [("small", "active", 1, 0.1)] * 2
    actions = policy.plan(60.0, coming(10.0, 4.0).with_columns(start_s=60.0), seen(Closer(going), 60.0), state)
    assert actions.regroup == []
    assert actions.weights[1][1] == pytest.approx(4.0, rel=1e-2)  # where type 1 will go
    there = [("small", "active", 1, 0.1)] * 2 + [("large", "active", 1, 0.1)]
    actions = policy.plan(120.0, coming(10.0, 4.0).with_columns(start_s=120.0), seen(Closer(there), 120.0), state)
    assert actions.regroup == []
    assert sorted(place.shape for place in state.pools[0].places) == [0, 0, 1]


def test_idle_gpus_are_used_without_anybody_giving_way():
    """A fault took two small ones: their GPUs become one large replica."""
    actions, _ = told(OServe(types=2, reserve=0.0), (19.5, 4.0), Closer(FOUR_SMALL[:2]))
    assert [(leaves, follows) for _, leaves, follows, _ in actions.regroup] == [([], ["large"])]


@pytest.mark.parametrize("switching", ["none", "reload"])
def test_what_a_fault_took_comes_back_though_the_rest_would_do(switching):
    """Two small ones serve all of 5/s; four stood. Small ones alone serve type 0, so nothing is better than before."""
    division = replace(DIVISION, capacity=np.array([[10.0, 1.0], [12.0, 1.0]]))
    actions, state = told(OServe(types=2, switching=switching), (5.0, 0.0), Closer(FOUR_SMALL[:2]), division)
    assert (actions.regroup, actions.replicas_of) == ([], {(0, "small"): 4})  # started cold, as by an orchestrator
    assert state.pools[0].target == (4, 0)


def test_a_router_is_told_what_replicas_serve():
    state = OServe(types=2).start(FLEET, history())
    assert state.router.params["rates"] == [[10.0, 12.0], [0.0, 4.0]]
    assert OServe(types=2, router="least-kv").start(FLEET, history()).router == "least-kv"


def test_as_the_replay_begins_it_routes_by_the_training_part():
    """Before the first forecast: type 0 alone had come, 10/s; a little of type 1 is taken to come, too."""
    policy = OServe(types=2)
    state = policy.start(FLEET, replace(history(), end_s=600.0))
    assert policy.decisions(np.array([600.0, 660.0]), state).tolist() == [5e-324, 600.0, 660.0]
    actions = policy.plan(5e-324, coming(1.0, 1.0).clear(), seen(Closer(FOUR_SMALL), 5e-324), state)
    assert actions.weights[0][0] == pytest.approx(1.25 * 10 / 4, rel=1e-3)


def test_without_a_forecast_or_outside_a_run_it_does_nothing():
    policy = OServe(types=2)
    state = policy.start(FLEET, history())
    assert policy.plan(90.0, coming(1.0, 1.0), seen(Closer(FOUR_SMALL), 90.0), state) == NOTHING
    assert (
        policy.plan(0.0, coming(1.0, 1.0), seen(Closer(FOUR_SMALL)), policy.start(FLEET, replace(history(), own=None)))
        == NOTHING
    )
    assert policy.plan(0.0, coming(1.0, 1.0), seen(None), state) == NOTHING


# --- steps and requests ---


def places(*on):
    return tuple(Place(n, len(gpus) - 1, Sharded(gpus, len(gpus))) for n, gpus in enumerate(on))


def test_groups_that_share_gpus_give_way_together_the_smallest_first():
    """Six small ones become two large and two small: two groups of two; three GPUs at once are one group."""
    before = places((0,), (1,), (2,), (3,), (4,), (5,))
    step = switch(before, (2, 2), (SMALL, LARGE), CLUSTER, at_once=3)
    assert step.steps == (Step((2, 3), (1,)),)
    assert step.counts(2) == (4, 1)
    both = switch(before, (2, 2), (SMALL, LARGE), CLUSTER, at_once=4)
    assert [one.follows for one in both.steps] == [(1,), (1,)]
    assert both.leaves == {2, 3, 4, 5}
    assert switch(before, (6, 0), (SMALL, LARGE), CLUSTER, at_once=4) is None


def test_a_transfer_takes_its_time():
    """One large becomes two small: each gets the other half of 80 GB at 400 GB/s."""
    step = switch(places((0, 1)), (2, 0), (SMALL, LARGE), CLUSTER, at_once=1)
    assert step.seconds == pytest.approx(0.1)
    unknown = SMALL.model_copy(update={"weights_gb": None})
    assert switch(places((0, 1)), (2, 0), (unknown, LARGE), CLUSTER, at_once=1).seconds is None


def test_new_replicas_take_the_places_laid_out_for_them():
    laid = (*places((0,)), Place(None, 1, Sharded((2, 3), 2)))
    assert settled([0, 7], [0, 1], laid, (SMALL, LARGE), CLUSTER) == (
        laid[0], Place(7, 1, Sharded((2, 3), 2)),
    )  # fmt: skip
    anew = settled([0, 7, 8], [0, 1, 0], laid, (SMALL, LARGE), CLUSTER)
    assert [place.number for place in anew] == [0, 7, 8]
    assert len({gpu for place in anew for gpu in place.on.gpus}) == 4


def test_who_moves_and_who_drains():
    """Replica 0 goes. Of 10,000 tokens with 15 % to spare 1 has 3,500 left, 2 has 3,000.

    The longest, 4,500 tokens, finds no room; 3,000 go to 1, which has most; 1,000 to 2, which was sent least, and so
    do the 200 of one that waits; a short one that runs stays.
    """
    closer = Closer(
        [("small", "active", 4, 0.4), ("small", "active", 2, 0.5), ("small", "active", 2, 0.55)],
        [(0, "running", 4000, 500), (0, "running", 2500, 500), (0, "running", 600, 400), (0, "running", 900, 100),
         (0, "waiting", 100, 100), (1, "running", 900, 900)],
    )  # fmt: skip
    moves = migrations(
        0, {0}, closer.shown, closer.asked, places((0,), (1,), (2,)), (SMALL, LARGE), CLUSTER,
        short_tokens=256, spare=0.15,
    )  # fmt: skip
    assert moves == [(1, 0, 1), (2, 0, 2), (4, 0, 2)]
    step = Switch((Step((0,), (1,)),), (), 0.0, tuple(moves))
    # request 0 stays with at most 500 tokens to come, at 20 ms and four decoding tokens an iteration
    assert drains_s(0, step, closer.shown, closer.asked, (SMALL, LARGE)) == pytest.approx(500 * (0.02 + 4e-5))


# --- what there is to divide ---


def test_shapes_are_those_of_the_same_weights():
    pool = Pool("a", "eu", find_profile("llama-3.1-70b/h100/tp2/fp8"))
    assert [s.name for s in shapes_of(pool, estimated=False)] == [f"llama-3.1-70b/h100/tp{n}/fp8" for n in (2, 4, 8)]
    more = shapes_of(Pool("a", "eu", find_profile("llama-3.1-8b/h100/tp1")))
    assert [(s.tp, s.provenance) for s in more] == [(1, "fitted"), (2, "fitted"), (4, "estimated"), (8, "estimated")]
    dear = find_profile("llama-3.1-8b/h100/tp1").model_copy(update={"usd_per_gpu_hour": 9.0})
    assert {s.usd_per_gpu_hour for s in shapes_of(Pool("a", "eu", dear))} == {9.0}
    own = find_profile("llama-3.1-8b/h100/tp1").model_copy(update={"kv_tokens": 5000})
    assert shapes_of(Pool("a", "eu", own)) == (own,)
    assert shapes_of(POOL) == (SMALL, LARGE)


@pytest.mark.parametrize(
    ("inventory", "gpus", "headroom", "expected"),
    [
        ({}, None, 0.0, [4, 2]),
        ({}, None, 0.3, [6, 3]),
        ({}, 12, 0.0, [12, 12]),
        ({"eu": {"G": 9}}, None, 0.0, [6, 3]),
        ({"eu": {"G": 9}}, 5, 0.0, [5, 3]),
    ],
)
def test_a_budget_is_the_regions_share_or_what_a_plain_fleet_holds(inventory, gpus, headroom, expected):
    fleet = Fleet((Pool("a", "eu", SMALL), Pool("b", "eu", LARGE)), inventory=inventory)
    assert budgets(fleet, [4, 1], gpus, headroom) == expected


def test_every_kind_has_its_services_row_of_the_extension():
    class Ready:
        kinds, services = ("b", "b", "a"), ("a", "b")

    table = Extension(np.array([0, 9]), np.array([[1, 2], [3, 4], [5, 6], [7, 8]]), np.array([100]))
    assert widened(table, Ready).tokens.tolist() == [[5, 6], [7, 8]] * 2 + [[1, 2], [3, 4]]
    one = Extension(np.array([0]), np.array([[30]]))
    assert widened(one, Ready).tokens.tolist() == [[30]] * 3
    Ready.kinds = ()
    assert widened(table, Ready) is table


@pytest.mark.parametrize("wrong", [{"types": 0}, {"gpus": 2.5}, {"switching": "fast"}, {"deployment": "x"},
                                   {"at_once": 1.5}, {"estimated": 1}])  # fmt: skip
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OServe(**wrong)

"""Prefill and decode lanes of the fleet file: the pools they make, and what is refused."""

import re

import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.fleet import Fleet, Pool, check_lanes, preferences
from lmaas.replay.fleetfile import FleetSpec
from lmaas.replay.fleetmake import make_fleet
from lmaas.replay.fleettold import conditions
from lmaas.replay.profile import find_profile

SMALL = find_profile("llama-3.1-8b/h100/tp1")
SERVED = [("chat", "eu"), ("chat", "us"), ("code", "us")]
LANES = """
kv_bandwidth_gb_s: 50
pools:
  - {service: chat, region: us, lane: decode, replicas: 3, max: 9}
  - {service: chat, region: us, lane: prefill, replicas: 2}
"""


def make(text, **more):
    return make_fleet(SERVED, FleetSpec.model_validate(yaml.safe_load(text)), SMALL, **more)


def test_lanes_replace_the_shared_pool_where_they_are_named():
    fleet = make(LANES)
    assert [str(pool) for pool in fleet.pools] == [
        "chat/eu/shared", "chat/us/prefill", "chat/us/decode", "code/us/shared",
    ]  # fmt: skip
    assert [(pool.initial, pool.maximum) for pool in fleet.pools[1:3]] == [(2, None), (3, 9)]
    assert fleet.kv_bandwidth_gb_s == conditions(fleet)["kv_bandwidth_gb_s"] == 50


def test_the_example_of_the_docs():
    *_, text = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "fleet.md").read_text(), re.DOTALL)
    fleet = make_fleet([("agent-70b", "eu")], FleetSpec.model_validate(yaml.safe_load(text)))
    assert [(pool.lane, pool.initial, pool.maximum) for pool in fleet.pools] == [
        ("prefill", 2, None),
        ("decode", 5, 12),
    ]


def test_requests_come_to_prefill_and_shared_pools():
    fleet = make(LANES)
    assert preferences(fleet, "chat", "us") == (1, 0)
    assert preferences(fleet, "chat", "us", decode=True) == (2,)
    assert fleet.index()["chat", "us"] == 1


def test_a_fault_names_the_lane():
    fleet = make(LANES + "faults: [{at: 5, pool: chat/us/decode, replica: 1}]")
    assert fleet.faults[0].pool == 2


REFUSED = {
    "no decode lane": (
        "kv_bandwidth_gb_s: 50\npools: [{service: chat, region: us, lane: prefill}]",
        "pools.0.lane: 'chat' has no decode lane in any region",
    ),
    "no prefill lane": (
        "kv_bandwidth_gb_s: 50\npools: [{service: chat, region: us, lane: decode}]",
        "pools.0.lane: 'chat' has no prefill lane in any region",
    ),
    "no bandwidth": (
        LANES.replace("kv_bandwidth_gb_s: 50", ""),
        "kv_bandwidth_gb_s: pools.0 is a decode lane, and KV goes from prefill to decode replicas",
    ),
    "shared beside lanes": (
        LANES + "  - {service: chat, region: us, replicas: 1}",
        "pools.2.lane: chat/us has a decode pool, pools.0; in a region a service has one shared pool, or lanes",
    ),
    "twice": (LANES + "  - {service: chat, region: us, lane: decode}", "pools.2: pool chat/us of lane decode is there"),
    "another KV": (
        LANES.replace("replicas: 2", "mixed: [{profile: llama-3.1-70b/h100/tp2/fp8, replicas: 1}]"),
        "bytes a token",
    ),
    "which lane": (LANES + "faults: [{at: 5, pool: chat/us, replica: 1}]", "faults.0.pool: no pool 'chat/us'"),
}


@pytest.mark.parametrize(("text", "says"), REFUSED.values(), ids=REFUSED)
def test_lanes_that_cannot_be_are_refused(text, says):
    with pytest.raises(UserError) as error:
        make(text)
    assert error.value.code == Exit.CONFIG
    assert says in str(error.value)


def test_profiles_that_do_not_say_the_size_of_their_kv_are_refused():
    with pytest.raises(UserError, match="has no kv_bytes_per_token, which the transfer needs"):
        make_fleet(
            SERVED,
            FleetSpec.model_validate(yaml.safe_load(LANES)),
            SMALL.model_copy(update={"kv_bytes_per_token": None}),
        )


@pytest.mark.parametrize("lane", ["prefil", 1])
def test_a_lane_is_one_of_three(lane):
    with pytest.raises(ValueError, match="'shared', 'prefill' or 'decode'"):
        make(LANES.replace("prefill", str(lane)))


@given(st.lists(st.sampled_from(["shared", "prefill", "decode"]), min_size=1, max_size=4))
def test_lanes_go_together(lanes):
    fleet = Fleet(tuple(Pool("chat", f"r{n}", SMALL, lane) for n, lane in enumerate(lanes)))
    if ("prefill" in lanes) == ("decode" in lanes):
        check_lanes(fleet)
    else:
        with pytest.raises(UserError):
            check_lanes(fleet)

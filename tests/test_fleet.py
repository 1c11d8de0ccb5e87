"""The fleet file: every field, what it makes of a trace's requests, and what is told of it."""

import json
import re

import pytest
import yaml
from conftest import ROOT
from fleet_data import (
    A100,
    H100,
    LARGE,
    OLD,
    SMALL,
    checked,
    maker,
    named,
    reader,
    refused,
)

from lmaas.replay.fleet import (
    Clients,
    Fault,
    Fleet,
    Hold,
    Pool,
    RegionChoice,
    preferences,
    within_inventory,
)
from lmaas.replay.fleetcheck import check_start
from lmaas.replay.fleetfile import FleetSpec
from lmaas.replay.fleettold import conditions, describe
from lmaas.replay.profile import Startup


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


@pytest.fixture
def make(read):
    return maker(read)


# --- the document ---


def example():
    text, *_ = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "fleet.md").read_text(), re.DOTALL)
    return text


def test_the_documents_example_is_a_fleet(make):
    served = [("agent-70b", "us-east"), ("agent-70b", "us-west"), ("chat-8b", "us-east")]
    fleet = make(example(), served)
    assert named(fleet) == ["agent-70b/eu", "agent-70b/us-east", "chat-8b/us-east"]
    eu, us, chat = fleet.pools
    assert (us.initial, us.minimum, us.maximum, us.mixed) == (6, 2, 24, ())
    assert (eu.initial, eu.minimum, eu.maximum) == (3, 1, None)
    ((old, count),) = eu.mixed
    assert (old.name, count, old.usd_per_gpu_hour) == ("llama-3.1-70b/a100/tp4", 1, 1.2)
    assert old.startup_s == us.profile.startup_s == Startup(cold=300, warm=60, swap=120, cv=0.4)
    assert us.profile.usd_per_gpu_hour == 2.1
    assert chat.profile.startup_s == Startup(cold=90, warm=90, swap=90)
    assert chat.profile.name == SMALL.name
    assert fleet.regions == ("eu", "us-east", "us-west")
    assert fleet.latency_s == ((0.0, 0.045, 0.07), (0.045, 0.0, 0.03), (0.07, 0.03, 0.0))
    assert fleet.inventory == {"us-east": {H100: 64}, "eu": {H100: 16, A100: 8}}
    assert fleet.faults == (
        Fault(52 * 3600.0, region="us-east", until_s=52.5 * 3600),
        Fault(60.5 * 3600, pool=0, replica=3),
    )
    assert fleet.clients == Clients(30.0, 2, 1.0, 2.0)
    assert (fleet.order, fleet.sessions, fleet.prefix_cache) == ("priority", "open", True)
    assert fleet.region_choice == RegionChoice("threshold", 0.7)
    assert fleet.hold == Hold(("batch",), 0.5, 0.6)


def test_every_field_is_documented():
    """A field of the file that the page does not name is a field nobody finds."""
    schema = FleetSpec.model_json_schema(by_alias=True)
    fields = set(schema["properties"]).union(*(d.get("properties", ()) for d in schema["$defs"].values()))
    text = (ROOT / "docs" / "fleet.md").read_text()
    for name in fields:
        assert re.search(rf"[`.\[{{ ]{name}[`\[:.,\]]", text), f"docs/fleet.md does not name {name}"
    assert len(fields) > 30


def test_toml_says_the_same(read):
    def table(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {table(v)}" for k, v in value.items()) + "}"
        return "[" + ", ".join(map(table, value)) + "]" if isinstance(value, list) else json.dumps(value)

    text = example()
    toml = "\n".join(f"{key} = {table(value)}" for key, value in yaml.safe_load(text).items())
    assert read(toml, ".toml") == read(text)


# --- defaults ---


@pytest.mark.parametrize("text", ["", "{}", "# nothing"])
def test_without_a_word_every_pool_is_there(make, text):
    fleet = make(text, profile=SMALL)
    assert fleet == Fleet(
        (
            Pool("chat", "eu", SMALL),
            Pool("chat", "us", SMALL),
            Pool("code", "default", SMALL),
            Pool("code", "us", SMALL),
        ),
        regions=("default", "eu", "us"),
    )
    assert checked(fleet) == ()


def test_a_fleet_of_pools_alone_is_valid():
    fleet = Fleet((Pool("chat", "eu", SMALL),))
    assert fleet.network_s("us", "eu") == 0
    assert preferences(fleet, "chat", "us") == (0,)
    assert (fleet.order, fleet.sessions, fleet.clients, fleet.hold) == ("fcfs", "open", None, None)
    assert fleet.region_choice == RegionChoice("home", 0.7)


# --- where requests go ---

WORLD = """
services: {chat: {regions: [eu, us, asia]}}
regions:
  asia: {}
  eu: {latency_s: {us: 40ms}}
  default: {latency_s: {us: 0.01, eu: 0.01}}
"""


def test_preferences_are_by_latency_then_home_then_the_fleets_order(make):
    fleet = make(WORLD)
    assert named(fleet)[:3] == ["chat/asia", "chat/eu", "chat/us"]
    assert preferences(fleet, "chat", "us") == (2, 0, 1)  # asia: 0 s, after its own
    assert preferences(fleet, "chat", "eu") == (1, 0, 2)
    assert preferences(fleet, "chat", "default") == (0, 1, 2)  # nearest asia, then two as near
    assert preferences(fleet, "chat", "the moon") == (0, 1, 2)
    assert preferences(fleet, "speech", "us") == ()


def test_latency_may_differ_by_direction():
    pools = tuple(Pool("chat", region, SMALL) for region in ("a", "b", "c"))
    fleet = Fleet(pools, ("a", "b", "c"), ((0.0, 2.0, 1.0), (1.0, 0.0, 2.0), (3.0, 3.0, 0.0)))
    assert [preferences(fleet, "chat", origin) for origin in "abc"] == [(0, 2, 1), (1, 0, 2), (2, 0, 1)]


def test_a_direction_given_wins_over_its_mirror(make):
    fleet = make("regions: {eu: {latency_s: {us: 1}}, us: {latency_s: {eu: 2, us: 0}}}")
    assert fleet.network_s("eu", "us") == 1
    assert fleet.network_s("us", "eu") == 2
    assert fleet.network_s("us", "us") == 0
    assert fleet.network_s("eu", "default") == 0


def test_a_service_runs_where_it_says(make):
    fleet = make("services: {chat: {regions: [us]}}\nregions: {eu: {latency_s: {us: 80ms}}}")
    assert named(fleet) == ["chat/us", "code/default", "code/us"]
    assert fleet.regions == ("default", "eu", "us")
    assert checked(fleet) == ("chat does not run in eu: its 1 requests go to us (80 ms away)",)


def test_a_region_nobody_sends_from_may_host(make):
    fleet = make("services: {chat: {regions: [iceland]}}\nregions: {iceland: {}}")
    assert named(fleet)[0] == "chat/iceland"
    notes = checked(fleet)
    assert notes[0] == "chat does not run in eu: its 1 requests go to iceland (no latency given, taken as 0 s)"


def test_regions_too_small_for_one_replica_get_no_pool(make):
    fleet = make(f"regions: {{eu: {{gpus: {{{H100}: 1}}}}}}", profile=LARGE)
    assert named(fleet) == ["chat/us", "code/default", "code/us"]


# --- GPUs ---


def test_starts_are_cut_to_the_gpus():
    pools = (Pool("a", "eu", LARGE, minimum=2), Pool("b", "eu", SMALL), Pool("c", "us", SMALL))
    fleet = Fleet(pools, ("eu", "us"), inventory={"eu": {H100: 9}})
    assert within_inventory(fleet, [9, 9, 9]) == (3, 3, 9)  # 4 + 1 for the minima, then in turn while it lasts
    assert within_inventory(fleet, [2, 1, 0]) == (2, 1, 0)
    mixed = (Pool("a", "eu", SMALL, mixed=((OLD, 2), (LARGE, 1))),)
    assert within_inventory(Fleet(mixed, ("eu",), inventory={"eu": {H100: 5, A100: 2}}), [9]) == (3,)


def test_starts_above_the_gpus_are_refused():
    pools = (Pool("a", "eu", LARGE), Pool("b", "eu", SMALL, mixed=((OLD, 2),)))
    fleet = Fleet(pools, ("eu",), inventory={"eu": {H100: 7, A100: 2}})
    check_start(fleet, [3, 1], scales=False)
    said = refused(lambda: check_start(fleet, [3, 2], scales=True))
    assert said.startswith(
        f"fleet: regions.eu.gpus.{H100}: 7 are fewer than the 8 that the replicas to begin with take"
    )
    assert "3 a, 2 b" in said
    few = Fleet(pools, ("eu",), inventory={"eu": {H100: 7}})
    assert f"regions.eu.gpus.{A100}: 0 are fewer than the 2" in refused(lambda: check_start(few, [1, 1], scales=True))


def test_zero_replicas_need_a_policy_that_adds_some():
    fleet = Fleet((Pool("a", "eu", SMALL, minimum=0), Pool("b", "eu", SMALL, minimum=0, mixed=((OLD, 1),))))
    check_start(fleet, [0, 0], scales=True)
    check_start(fleet, [1, 0], scales=False)
    said = refused(lambda: check_start(fleet, [0, 0], scales=False))
    assert said == "pool a/eu/shared: no replica to begin with and a policy that never adds one"
    shapes = Fleet((Pool("a", "eu", SMALL, mixed=((OLD, 0),)),))
    assert refused(lambda: check_start(shapes, [0], scales=False)) == said
    assert "-1 replicas" in refused(lambda: check_start(fleet, [-1, 0], scales=True))


# --- what is told of it ---


def test_nothing_given_is_lost(make):
    text = f"""
services: {{chat: {{profile: {LARGE.name}, usd_per_gpu_hour: 1.5, startup_s: 33}}}}
pools: [{{service: chat, region: eu, replicas: 4, min: 3, max: 44, mixed: [{{profile: {OLD.name}, replicas: 7}}]}}]
regions: {{eu: {{gpus: {{{H100}: 555, {A100}: 66}}, latency_s: {{us: 0.777}}}}}}
faults: [{{at: 88, region: eu, for: 11}}, {{at: 99, pool: chat/us, replica: 12}}, {{at: 100, region: us}}]
clients: {{timeout_s: 13, retries: 14, backoff_s: 15, factor: 16}}
order: deadline
region_choice: {{rule: threshold, threshold: 0.17}}
hold: {{tiers: [batch], lower: 0.18, upper: 0.19}}
sessions: closed
prefix_cache: false
"""
    fleet = make(text)
    told = {"pools": describe(fleet), "fleet": conditions(fleet)}
    written = json.dumps(told, allow_nan=False)
    for value in (
        LARGE.name, OLD.name, 1.5, 33, 44, 555, 66, 0.777, 88, 99, 13, 14, 15, 16, 0.17, 0.18, 0.19, "deadline",
        "threshold", "batch", "closed",
    ):  # fmt: skip
        assert str(value) in written, value
    row = told["pools"][0]
    assert (row["pool"], row["initial"], row["minimum"], row["maximum"]) == ("chat/eu/shared", 4, 3, 44)
    assert [(m["profile"], m["replicas"], m["startup_s"]["cold"]) for m in row["mixed"]] == [(OLD.name, 7, 33.0)]
    assert told["fleet"]["faults"] == [
        {"at_s": 88.0, "until_s": 99.0, "region": "eu", "pool": None, "replica": None},
        {"at_s": 99.0, "until_s": None, "region": None, "pool": "chat/us/shared", "replica": 12},
        {"at_s": 100.0, "until_s": None, "region": "us", "pool": None, "replica": None},
    ]
    assert told["fleet"]["latency_s"]["us"]["eu"] == 0.777
    assert told["fleet"]["prefix_cache"] is False

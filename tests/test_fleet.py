"""The fleet file: every field, every refusal with its words, and what a trace's requests make of it."""

import json
import math
import re
from datetime import UTC, datetime

import polars as pl
import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.fleet import (
    Clients,
    Fault,
    Fleet,
    Hold,
    Pool,
    RegionChoice,
    conditions,
    describe,
    preferences,
    within_inventory,
)
from lmaas.replay.fleetcheck import caches_prefixes, caching_services, check_requests, check_start
from lmaas.replay.fleetfile import FleetSpec, read_fleet
from lmaas.replay.fleetmake import make_fleet
from lmaas.replay.profile import Startup, find_profile

SMALL = find_profile("llama-3.1-8b/h100/tp1")
LARGE = find_profile("llama-3.1-70b/h100/tp2/fp8")
OLD = find_profile("llama-3.1-8b/a100/tp1")
H100, A100 = "H100-SXM-80GB", "A100-SXM-80GB"
SERVED = [("chat", "eu"), ("chat", "us"), ("code", "us"), ("code", None)]
EPOCH = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture
def read(tmp_path):
    def of(text, suffix=".yaml"):
        path = tmp_path / f"fleet{suffix}"
        path.write_text(text)
        return read_fleet(path)

    return of


@pytest.fixture
def make(read):
    return lambda text, served=SERVED, **more: make_fleet(served, read(text), **more)


def named(fleet):
    return [f"{pool.service}/{pool.region}" for pool in fleet.pools]


def requests(*rows):
    """(service, region, input, output) each, a second apart."""
    return pl.DataFrame(
        [(float(k), s, r, None, i, o) for k, (s, r, i, o) in enumerate(rows)],
        schema={
            "arrival_s": pl.Float64,
            "service": pl.String,
            "region": pl.String,
            "tier": pl.String,
            "input_tokens": pl.UInt32,
            "output_tokens": pl.UInt32,
        },
        orient="row",
    )


PLAIN = requests(*((s, r, 100, 10) for s, r in SERVED))


def checked(fleet, rows=PLAIN, start_s=0.0, end_s=1e6, **more):
    return check_requests(fleet, rows, start_s=start_s, end_s=end_s, **more)


def refused(act):
    with pytest.raises(UserError) as error:
        act()
    assert error.value.code == Exit.CONFIG
    return str(error.value)


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
    assert "-1 replicas" in refused(lambda: check_start(fleet, [-1, 0], scales=True))


# --- refusals of the file alone ---

FILES = [
    ("clients: {timeout: 3}", "clients.timeout: there is no such field here; did you mean 'timeout_s'?"),
    ("clients: {retries: 3}", "clients.timeout_s: is needed here"),
    ("clients: {timeout_s: 0}", "clients.timeout_s: must be greater than 0, not 0"),
    ("clients: {timeout_s: -3}", "clients.timeout_s: must be greater than or equal to 0, not -3"),
    ("clients: {timeout_s: .nan}", "clients.timeout_s: must be"),
    ("clients: {timeout_s: .inf}", "clients.timeout_s: must be"),
    ("clients: {timeout_s: '30'}", "'30' has no unit"),
    ("clients: {timeout_s: 3 moons}", "'3 moons' is not a duration"),
    ("clients: {timeout_s: true}", "true is no time"),
    ("clients: {timeout_s: 1, factor: 0.5}", "clients.factor: must be greater than or equal to 1, not 0.5"),
    ("clients: {timeout_s: 1, retries: -1}", "clients.retries: must be greater than or equal to 0, not -1"),
    ("clients: {timeout_s: 1, retries: 1.5}", "clients.retries: must be a valid integer, not 1.5"),
    ("clients: {timeout_s: 1, backoff_s: -1}", "clients.backoff_s: must be"),
    ("order: lifo", "order: must be 'fcfs', 'priority' or 'deadline', not 'lifo'"),
    ("sessions: shut", "sessions: must be 'open' or 'closed', not 'shut'"),
    ("prefix_cache: 1", "prefix_cache: must be a valid boolean, not 1"),
    ("region_choice: nearest", "region_choice.rule: must be 'home' or 'threshold', not 'nearest'"),
    ("region_choice: {rule: threshold, threshold: 0}", "region_choice.threshold: must be greater than 0, not 0"),
    ("region_choice: {threshold: 1.1}", "region_choice.threshold: must be less than or equal to 1, not 1.1"),
    ("region_choice: {threshold: .nan}", "region_choice.threshold: must be"),
    ("hold: {tiers: []}", "hold.tiers: must name at least one"),
    ("hold: {tiers: [gold]}", "hold.tiers.0: no tier is called 'gold'; there are interactive-fast"),
    ("hold: {tiers: [batch], lower: 0.9}", "hold: lower 0.9 is above upper 0.6"),
    ("hold: {tiers: [batch], upper: 2}", "hold.upper: must be less than or equal to 1, not 2"),
    ("faults: [{region: eu}]", "faults.0.at: is needed here"),
    ("faults: [{at: 5}]", "faults.0: name either a region or a pool with one of its replicas"),
    ("faults: [{at: 5, region: eu, pool: chat/eu, replica: 0}]", "faults.0: name either"),
    ("faults: [{at: 5, pool: chat/eu}]", "faults.0: a pool and the number of its replica go together"),
    ("faults: [{at: 5, region: eu, replica: 1}]", "faults.0: a pool and the number of its replica go together"),
    ("faults: [{at: 5, pool: chat/eu, replica: 1, for: 1h}]", "faults.0: 'for' goes with a region"),
    ("faults: [{at: 5, pool: chat/eu, replica: -1}]", "faults.0.replica: must be"),
    ("faults: [{at: -5, region: eu}]", "faults.0.at: must be seconds of the trace from 0"),
    ("faults: [{at: .nan, region: eu}]", "faults.0.at: must be seconds"),
    ("faults: [{at: .inf, region: eu}]", "faults.0.at: must be seconds"),
    ("faults: [{at: soon, region: eu}]", "faults.0.at: time: 'soon' is not a duration"),
    ("faults: [{at: 5, region: eu, for: 0}]", "faults.0.for: must be greater than 0, not 0"),
    ("regions: {eu: {machines: {x: 1}}}", "regions.eu.machines: there is no such field here"),
    (f"regions: {{eu: {{gpus: {{{H100}: -1}}}}}}", f"regions.eu.gpus.{H100}: must be"),
    (f"regions: {{eu: {{gpus: {{{H100}: 1.5}}}}}}", f"regions.eu.gpus.{H100}: must be a valid integer, not 1.5"),
    ("regions: {eu: {latency_s: {us: -1ms}}}", "regions.eu.latency_s.us: must be"),
    ("regions: {eu: {latency_s: 3}}", "regions.eu.latency_s: must be a mapping, name: value, not 3"),
    ("services: {chat: {startup_s: -1}}", "services.chat.startup_s.cold: must be"),
    ("services: {chat: {startup_s: {hot: 1}}}", "services.chat.startup_s.hot: there is no such field here"),
    ("services: {chat: {usd_per_gpu_hour: -1}}", "services.chat.usd_per_gpu_hour: must be"),
    ("services: {chat: {usd_per_gpu_hour: .nan}}", "services.chat.usd_per_gpu_hour: must be"),
    ("services: {chat: {regions: []}}", "services.chat.regions: must name at least one"),
    ("pools: [{region: eu}]", "pools.0.service: is needed here"),
    ("pools: [{service: chat, min: 3, max: 2}]", "pools.0: max 2 is below min 3"),
    ("pools: [{service: chat, max: 0, min: 0}]", "pools.0.max: must be greater than or equal to 1, not 0"),
    ("pools: [{service: chat, replicas: 0}]", "pools.0: replicas 0 is below min 1"),
    ("pools: [{service: chat, replicas: true}]", "pools.0.replicas: must be a valid integer, not True"),
    ("pools: [{service: chat, replicas: 99999}]", "pools.0.replicas: must be less than or equal to 10000, not 99999"),
    ("pools: [{service: c, replicas: 2, max: 3, mixed: [{profile: x, replicas: 2}]}]", "2 and 2 mixed is above max 3"),
    ("pools: [{service: c, replicas: 2, min: 9, mixed: [{profile: x, replicas: 2}]}]", "2 and 2 mixed is below min 9"),
    ("pools: [{service: c, max: 3, mixed: [{profile: x, replicas: 4}]}]", "pools.0: 4 mixed replicas are above max 3"),
    ("pools: [{service: c, mixed: [{profile: x, replicas: 0}]}]", "pools.0.mixed.0.replicas: must be"),
    ("pool: []", "pool: there is no such field here; did you mean 'pools'?"),
    ("pools: {}", "pools: must be a list"),
    ("- 1", "the file: must be a mapping"),
    ("order: fcfs\norder: priority", "'order' is given twice"),
    ("{", "not a fleet file (YAML or TOML)"),
    ("faults: [{at: 2023-13-45, region: eu}]", "not a fleet file (YAML or TOML): month must be in 1..12"),
    ("\0", "not a fleet file"),
]


@pytest.mark.parametrize(("text", "says"), FILES)
def test_wrong_files_are_refused(read, text, says):
    said = refused(lambda: read(text))
    assert says in said
    assert "fleet.yaml: " in said


def test_a_file_that_is_not_there(tmp_path):
    assert "cannot be read" in refused(lambda: read_fleet(tmp_path / "none.yaml"))


# --- refusals of the file beside the trace ---

FLEETS = [
    ("services: {chta: {}}", "services.chta: no service 'chta' in the trace; did you mean 'chat'?"),
    ("services: {chat: {profile: llama-3.1-8b/h100}}", "services.chat.profile: no profile named 'llama-3.1-8b/h100'"),
    (
        "services: {chat: {regions: [su]}}",
        "services.chat.regions: no request comes from 'su' and regions does not name",
    ),
    ("pools: [{service: chat, region: mars}]", "pools.0: no pool chat/mars"),
    ("pools: [{service: chat}]", "pools.0: no pool chat/default"),
    ("pools: [{service: chat, region: eu}, {service: chat, region: eu}]", "pools.1: pool chat/eu is there already"),
    ("pools: [{service: chat, region: eu, mixed: [{profile: x, replicas: 1}]}]", "pools.0.mixed.0.profile: no profile"),
    ("regions: {se: {}}", "regions.se: no request comes from 'se' and no service runs there"),
    ("regions: {eu: {latency_s: {uss: 1}}}", "regions.eu.latency_s.uss: no region 'uss'; did you mean 'us'?"),
    ("regions: {eu: {latency_s: {us: 1, eu: 5ms}}}", "regions.eu.latency_s.eu: 0.005 s from a region to itself"),
    (
        "regions: {eu: {gpus: {H100: 8}}}",
        f"regions.eu.gpus.H100: no profile runs on a GPU 'H100'; did you mean '{H100}'",
    ),
    ("faults: [{at: 5, region: su}]", "faults.0.region: no pool runs in 'su'"),
    ("faults: [{at: 5, pool: chat/su, replica: 0}]", "faults.0.pool: no pool 'chat/su'; did you mean 'chat/us'?"),
    ("faults: [{at: 2025-03-01, region: eu}]", "faults.0.at: a date, but the trace's times are not dates"),
    (
        "faults: [{at: 5, region: eu, for: 9}, {at: 13, region: eu}]",
        "faults.1.at: region eu is down already then, by faults.0",
    ),
    (
        f"regions: {{eu: {{gpus: {{{A100}: 9}}}}, us: {{gpus: {{{H100}: 0}}}}}}\nservices: {{code: {{regions: [us]}}}}",
        f"services.chat: no region can host 'chat': a replica of {SMALL.name} takes 1 {H100}; eu has 0; us has 0",
    ),
    (
        f"regions: {{eu: {{gpus: {{{A100}: 9}}}}}}\npools: [{{service: chat, region: eu}}]",
        f"pools.0: no pool chat/eu: regions.eu.gpus hold no replica of {SMALL.name}",
    ),
    (
        f"regions: {{eu: {{gpus: {{{H100}: 9}}}}}}\n"
        f"pools: [{{service: chat, region: eu, mixed: [{{profile: {OLD.name}, replicas: 1}}]}}]",
        f"pools.0.mixed.0: regions.eu.gpus hold no replica of {OLD.name}",
    ),
]


@pytest.mark.parametrize(("text", "says"), FLEETS)
def test_fleets_that_do_not_fit_the_trace_are_refused(make, text, says):
    said = refused(lambda: make(text))
    assert said.startswith("fleet: ")
    assert says in said


def test_a_profile_without_gpu_needs_unbounded_regions(make):
    nameless = SMALL.model_copy(update={"gpu": None, "name": "own"})
    make("regions: {eu: {}}", profile=nameless)
    text = f"services: {{chat: {{regions: [eu]}}}}\nregions: {{eu: {{gpus: {{{H100}: 8}}}}}}"
    assert "profile own names no gpu" in refused(lambda: make(text, profile=nameless))


# --- refusals and notes that need the requests ---


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("99", "faults.at: region eu at 99 s is before the replay begins; the trace is replayed from 100 s to 5,000 s"),
        ("2h", "faults.at: region eu at 7,200 s is after the last arrival"),
    ],
)
def test_faults_outside_the_replay_are_refused(make, at, says):
    fleet = make(f"faults: [{{at: {at}, region: eu}}]")
    assert says in refused(lambda: checked(fleet, start_s=100.0, end_s=5000.0))
    assert checked(make("faults: [{at: 100, region: eu}]"), start_s=100.0, end_s=5000.0) == ()
    one = make("faults: [{at: 9, pool: chat/eu, replica: 2}]")
    assert "chat/eu/shared replica 2 at 9 s" in refused(lambda: checked(one, start_s=100.0))


@pytest.mark.parametrize(
    "at", ["2025-03-01T01:00:00Z", "2025-03-01 01:00:00", "2025-03-01T02:00:00+01:00", "'2025-03-01T01:00'", "1h", 3600]
)
def test_faults_are_on_the_traces_time_axis(make, at):
    (fault,) = make(f"faults: [{{at: {at}, region: eu, for: 90s}}]", epoch=EPOCH).faults
    assert (fault.at_s, fault.until_s, fault.region) == (3600.0, 3690.0, "eu")


def test_faults_come_by_time_and_a_region_may_fail_again(make):
    text = "faults: [{at: 90, region: eu}, {at: 7, pool: chat/us/shared, replica: 1}, {at: 5, region: eu, for: 85}]"
    fleet = make(text)
    assert [fault.at_s for fault in fleet.faults] == [5.0, 7.0, 90.0]
    assert fleet.faults[2].until_s == math.inf
    early = "faults: [{at: 2025-02-28, region: eu}]"
    assert "faults.0.at: 2025-02-28 00:00:00 UTC is before the trace begins" in refused(
        lambda: make(early, epoch=EPOCH)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"at_s": 1.0},
        {"at_s": 1.0, "region": "eu", "pool": 0, "replica": 0},
        {"at_s": 1.0, "pool": 0},
        {"at_s": 1.0, "region": "eu", "replica": 0},
        {"at_s": -1.0, "region": "eu"},
        {"at_s": math.nan, "region": "eu"},
        {"at_s": math.inf, "region": "eu"},
        {"at_s": 2.0, "region": "eu", "until_s": 2.0},
    ],
)
def test_a_fault_is_of_one_thing_and_lasts(fields):
    with pytest.raises(ValueError, match="a fault"):
        Fault(**fields)


def test_requests_that_fit_no_cache(make):
    small = SMALL.model_copy(update={"name": "small", "kv_tokens": 1000, "block": 16})  # 62 blocks: 992 tokens
    fleet = make("", profile=small)
    rows = requests(*((s, r, 900, 93) for s, r in SERVED))
    assert checked(fleet, rows) == ()
    one = pl.concat([rows, requests(*[("chat", "us", 900, 94)] * 3)])
    (note,) = checked(fleet, one)
    assert note.startswith("chat: 3 of 5 replayed requests exceed the 992 tokens of small's KV cache")
    none = pl.concat(
        [rows.filter(pl.col("service") == "code"), requests(("chat", "us", 900, 94), ("chat", "eu", 5000, 1))]
    )
    said = refused(lambda: checked(fleet, none))
    assert "services.chat.profile: the KV cache of small holds 992 tokens" in said
    assert "the smallest of 993" in said
    # a larger replica of the pool takes them
    mixed = Fleet(tuple(Pool(p.service, p.region, p.profile, mixed=((SMALL, 1),)) for p in fleet.pools), fleet.regions)
    assert checked(mixed, none) == ()


def test_minimum_counts_are_checked_against_the_gpus_before_anything_runs(make):
    text = f"regions: {{us: {{gpus: {{{H100}: 3}}}}}}\npools: [{{service: chat, region: us, min: 3}}]"
    assert "are fewer than the 4" in refused(lambda: checked(make(text)))
    checked(make(text.replace("min: 3", "replicas: 2")))


def test_prefix_cache_is_off_where_blocks_do_not_fit(make):
    odd = SMALL.model_copy(update={"name": "odd", "block": 48})
    fleet = make("", profile=odd)
    services = tuple(dict.fromkeys(pool.service for pool in fleet.pools))
    notes = checked(fleet, block_size=512)
    blocks = "the trace's hash blocks of 512 tokens are not whole KV blocks of 48, as profile odd has them"
    assert notes == tuple(f"no prefix cache for {service}: {blocks}" for service in services)
    assert caching_services(fleet, 512) == () and caching_services(make("", profile=SMALL), 512) == services
    assert not caches_prefixes(fleet, odd, 512)
    assert caches_prefixes(fleet, SMALL, 512)
    assert not caches_prefixes(fleet, SMALL, None)
    off = make("prefix_cache: false", profile=odd)
    assert checked(off, block_size=512) == ()
    assert not caches_prefixes(off, SMALL, 512)


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("order: priority", ["tier"], "order is priority and the trace has no priority"),
        ("order: deadline", ["priority"], "order is deadline and the trace has no deadline_s"),
        ("hold: {tiers: [batch]}", [], "hold names tier batch, of which the trace has no request"),
        ("region_choice: threshold", [], "region_choice is threshold and no latency_s is given"),
    ],
)
def test_what_the_trace_lacks_is_noted(make, text, columns, says):
    (note,) = checked(make(text), columns=columns)
    assert note.startswith(says)


def test_closed_sessions_of_a_trace_without_turns_are_refused(make):
    said = refused(lambda: checked(make("sessions: closed"), columns=["session_id"]))
    assert "sessions: closed needs session_id, turn and think_s, and the trace has no turn, think_s" in said


def test_nothing_is_noted_where_nothing_lacks(make):
    text, there = "order: deadline\nsessions: closed", ["deadline_s", "session_id", "turn", "think_s"]
    assert checked(make(text), columns=there) == ()
    assert checked(make("order: deadline\nsessions: closed"), columns=None) == ()


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


# --- hostile values ---

FIELDS = sorted(
    set(FleetSpec.model_json_schema(by_alias=True)["properties"]).union(
        *(d.get("properties", ()) for d in FleetSpec.model_json_schema(by_alias=True)["$defs"].values())
    )
)
NAMES = st.sampled_from([*FIELDS, "chat", "code", "eu", "us", "default", "default", H100, A100, "0", ""])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2, 10**30, -1, math.nan, math.inf, -math.inf, 1e308, 5e-324, 0.5]),
    st.sampled_from(["eu", "us", "chat", "chat/eu", "home", "threshold", "batch", "closed", "priority", SMALL.name]),
    st.sampled_from(
        ["1h", "2d4h", "-1s", "1e999s", "0", "now", "2025-03-01", "x" * 300, "a\0b", "1e1e1e1e1e1e1e1e1s!"]
    ),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, UTC])),
    st.text(max_size=5),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def like(kind):
    """Files that look right at first sight: true fields, any values."""
    parts = {name: like_field(name, kind) for name in FleetSpec.model_fields}
    return st.fixed_dictionaries({}, optional=parts)


def like_field(name, value):
    shapes = {
        "services": {"profile": value, "usd_per_gpu_hour": value, "startup_s": value, "regions": value},
        "pools": {"service": value, "region": value, "replicas": value, "min": value, "max": value, "mixed": value},
        "faults": {"at": value, "region": value, "pool": value, "replica": value, "for": value},
        "regions": {"gpus": value, "latency_s": value},
        "clients": {"timeout_s": value, "retries": value, "backoff_s": value, "factor": value},
        "hold": {"tiers": value, "lower": value, "upper": value},
        "region_choice": {"rule": value, "threshold": value},
    }
    if name not in shapes:
        return value
    one = st.fixed_dictionaries({}, optional=shapes[name])
    if name in ("pools", "faults"):
        return st.lists(one, max_size=3)
    return st.dictionaries(NAMES, one, max_size=2) if name in ("services", "regions") else one


@settings(max_examples=400, deadline=None)
@given(st.one_of(VALUES, like(LEAVES), like(VALUES)), st.sampled_from([None, EPOCH]))
def test_hostile_files_end_in_a_sentence(tmp_path_factory, content, epoch):
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
    try:
        fleet = make_fleet(SERVED, read_fleet(path), epoch=epoch)
        checked(fleet)
    except UserError as error:
        assert error.code == Exit.CONFIG
        assert len(str(error)) > 20
        return
    json.dumps([describe(fleet), conditions(fleet)], allow_nan=False)
    for origin in fleet.regions:
        assert {fleet.pools[p].service for p in preferences(fleet, "chat", origin)} == {"chat"}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60), st.sampled_from([".yaml", ".toml"]))
def test_any_bytes_end_in_a_sentence(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    try:
        assert isinstance(read_fleet(path), FleetSpec)
    except UserError as error:
        assert error.code == Exit.CONFIG


times = st.floats(0, 1e6, allow_nan=False)
shares = st.floats(0.01, 1, allow_nan=False)
specs = st.fixed_dictionaries(
    {},
    optional={
        "order": st.sampled_from(["fcfs", "priority", "deadline"]),
        "sessions": st.sampled_from(["open", "closed"]),
        "prefix_cache": st.booleans(),
        "region_choice": st.fixed_dictionaries({"rule": st.sampled_from(["home", "threshold"]), "threshold": shares}),
        "clients": st.fixed_dictionaries(
            {"timeout_s": st.floats(0.001, 1e6), "retries": st.integers(0, 9), "backoff_s": times}
        ),
        "hold": st.fixed_dictionaries({"tiers": st.just(["batch"]), "lower": st.none() | shares, "upper": st.none()}),
        "regions": st.fixed_dictionaries(
            {"eu": st.fixed_dictionaries({"latency_s": st.fixed_dictionaries({"us": times})})}
        ),
        "faults": st.lists(
            st.fixed_dictionaries({"at": times, "pool": st.just("chat/eu"), "replica": st.integers(0, 9)}), max_size=3
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(specs)
def test_what_is_said_is_what_there_is(tmp_path_factory, spec):
    """Round trip: every value written is read back from the resolved configuration."""
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(yaml.safe_dump(spec))
    told = conditions(make_fleet(SERVED, read_fleet(path)))
    for name in ("order", "sessions", "prefix_cache"):
        assert told[name] == spec.get(name, told[name])
    for name in ("region_choice", "clients", "hold"):
        assert {k: told[name][k] for k in spec.get(name, ())} == spec.get(name, {})
    if "regions" in spec:
        assert (
            told["latency_s"]["us"]["eu"] == told["latency_s"]["eu"]["us"] == spec["regions"]["eu"]["latency_s"]["us"]
        )
    said = sorted((f["at"], f["replica"]) for f in spec.get("faults", ()))
    assert sorted((f["at_s"], f["replica"]) for f in told["faults"]) == said

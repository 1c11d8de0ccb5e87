"""Fleet files that are refused, with their words, and what is noted of those that go ahead."""

import math

import polars as pl
import pytest
from fleet_data import A100, EPOCH, H100, OLD, SERVED, SMALL, checked, maker, reader, refused, requests

from lmaas.replay.fleet import (
    Fault,
    Fleet,
    Pool,
)
from lmaas.replay.fleetcheck import caches_prefixes, caching_services
from lmaas.replay.fleetfile import read_fleet


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


@pytest.fixture
def make(read):
    return maker(read)


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
    ("order: lifo", "order: must be 'fcfs', 'priority', 'deadline', 'tier' or 'promotion', not 'lifo'"),
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
    ("pools: [{service: c, mixed: [{profile: x, replicas: -1}]}]", "pools.0.mixed.0.replicas: must be"),
    (
        "pools: [{service: chat, profile: p}]",
        "pools.0.profile: there is no such field here; there are lane, max, min, mixed, region, replicas, service",
    ),
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

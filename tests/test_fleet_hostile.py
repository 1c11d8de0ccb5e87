"""Any content of a fleet file ends in a fleet or in a sentence."""

import json
import math
from datetime import UTC

import pytest
import yaml
from fleet_data import (
    A100,
    EPOCH,
    H100,
    SERVED,
    SMALL,
    checked,
    maker,
    reader,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.fleet import (
    preferences,
)
from lmaas.replay.fleetfile import FleetSpec, read_fleet
from lmaas.replay.fleetmake import make_fleet
from lmaas.replay.fleettold import conditions, describe


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


@pytest.fixture
def make(read):
    return maker(read)


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
        "order": st.sampled_from(["fcfs", "priority", "deadline", "tier", "promotion"]),
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

"""The matched search: equal to a scan where attainment rises, honest where it does not or where nothing attains."""

import json
import math

import polars as pl
import pytest
from three_hours import PROFILE, rows, stored

from lmaas.analysis.errors import UserError
from lmaas.policies.inputs import Inputs
from lmaas.policies.knobs import HEADROOM, REPLICAS, Knob, knob_of
from lmaas.policies.matched import MATCHED, Matched, match, possible_share, table, try_value
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import POLICIES, parse_policy
from lmaas.policies.runner import run_policy
from lmaas.policies.search import MOST_REPLAYS, Try, search
from lmaas.replay.slo import parse_slos

ATTAIN = 0.955  # of the small trace: more than its smallest fleets reach, less than no fleet does


def made(attainment):
    """Replays of a law: attainment by value; GPU-hours go with capacity."""
    return lambda value: Try(value, attainment(value), 100 * (1 + value))


def run(attainment, first=0.0, knob=HEADROOM, attain=0.99, **more):
    tries, steady = search(made(attainment), knob, first, attain, **more)
    return Matched("law", knob, attain, tries, steady)


@pytest.mark.parametrize("first", [-0.5, 0.0, 0.3, 3.0, 9.0, 50.0])
@pytest.mark.parametrize("least", [-0.6, -0.1, 0.0, 0.07, 0.35, 1.0, 4.0])
def test_finds_where_a_rising_attainment_attains(least, first):
    found = run(lambda v: 0.99 if v >= least else 0.9, first)
    assert found.at.value >= least > found.below.value
    assert (1 + found.at.value) / (1 + found.below.value) <= 1.03  # from far away the replays are used up before 1.01
    assert found.steady
    assert len(found.tries) <= MOST_REPLAYS
    assert len({one.value for one in found.tries}) == len(found.tries)


@pytest.mark.parametrize("least", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("first", [1, 3, 100])
def test_whole_numbers_are_found_exactly(least, first):
    found = run(lambda n: 1.0 if n >= least else 0.5, first, REPLICAS)
    assert found.at.value == least
    assert (found.below is None) if least == 1 else (found.below.value == least - 1)


def test_a_knob_that_falls_is_turned_the_other_way():
    target = Knob("target", offset=0.0, least=0.5, most=200.0, falls=True)
    found = run(lambda v: 1.0 if v <= 12.5 else 0.9, 60.0, target)
    assert 12.5 / 1.011 <= found.at.value <= 12.5 < found.below.value


def test_gpu_hours_lie_between_the_two_replays_at_the_target():
    found = run(lambda v: min(1.0, 0.98 + 0.1 * v))  # 0.99 at 0.1
    assert found.gpu_hours == pytest.approx(110.0, rel=1e-6)
    row = found.row()
    assert row["gpu_hours_matched_low"] < row["gpu_hours_matched"] <= row["gpu_hours_matched_high"]
    assert set(row) == set(MATCHED)
    assert table([found]).schema == pl.Schema(MATCHED)


def test_attains_even_at_the_least():
    found = run(lambda v: 1.0)
    assert found.at.value == HEADROOM.least
    assert found.below is None
    assert found.gpu_hours == found.at.gpu_hours


def test_attains_nowhere():
    found = run(lambda v: 0.95 + 0.001 * v)
    assert found.at is None
    assert found.gpu_hours is None
    assert found.best.value == HEADROOM.most
    assert found.row()["slo_attainment"] == found.best.attainment


def test_what_attains_just_below_is_found_and_said():
    """98 %, 102 % and 106 % attain, 100 % and 104 % do not."""

    def attainment(value):
        return 0.995 if value > 0.06 or 0.02 <= value <= 0.04 else 0.985

    found = run(attainment, first=0.5, tolerance=0.01)
    assert found.at.value < 0.06
    assert not found.steady
    assert found.at.attainment >= 0.99 > found.below.attainment


@pytest.mark.parametrize("most", [2, 3, 5, 8])
def test_replays_are_capped(most):
    found = run(lambda v: 0.99 if v >= 0.123 else 0.9, first=-0.8, most_replays=most)
    assert len(found.tries) <= most
    assert found.at is None or found.at.value >= 0.123


def test_every_law_is_searched_like_a_scan():
    """Steps of any shape: the least value of the scan that attains, where attainment rises."""
    for seed in range(40):
        cut = math.exp(seed / 40 * 3 - 1) - 1
        found = run(lambda v, cut=cut: 1 - 0.02 * math.exp(-max(v - cut, -5)), first=seed % 3)
        scan = next(v for v in (HEADROOM.value(0.1 * 1.005**k) for k in range(2000)) if v - cut >= math.log(2) - 1e-12)
        assert found.at.value == pytest.approx(scan, abs=0.011 * (1 + scan))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE | {"gpu": "H100"}))
    return home


def ready_of(home, slo=(), fleet=None, attain=ATTAIN):
    trace = stored(home, rows(n=6000, hours=1.0), "small")
    return prepare(
        trace, slos=parse_slos(slo), attain=attain, profile=str(home / "profile.json"), fleet=fleet, train_fraction=0.5,
        warmup_s=300.0, window_s=120.0, load=1.0, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ready(home):
    return ready_of(home)


@pytest.fixture(scope="module")
def inputs(ready):
    return Inputs(ready)


def test_a_try_is_the_policys_run(ready, inputs):
    run = run_policy(parse_policy("last-value(headroom=0.25)"), ready, inputs, lambda share: None)
    one = try_value(parse_policy("last-value"), HEADROOM, 0.25, ready, inputs)
    assert (one.attainment, one.gpu_hours, one.cost_usd) == pytest.approx(
        tuple(run.scores[name] for name in ("slo_attainment", "gpu_hours_provisioned", "cost_usd"))
    )


def test_static_is_found_like_by_a_scan(ready, inputs):
    named = parse_policy("static(replicas=2)")
    found = match(named, ready, inputs, ATTAIN)
    scan = [try_value(named, REPLICAS, n, ready, inputs) for n in range(1, int(found.at.value) + 2)]
    assert found.at == next(one for one in scan if one.attainment >= ATTAIN)
    assert found.at.value > 1


@pytest.mark.parametrize("policy", ["last-value", "hpa", "oracle", "static-mean"])
def test_headroom_is_found_like_by_a_scan(ready, inputs, policy):
    named = parse_policy(policy)
    found = match(named, ready, inputs, ATTAIN, tolerance=0.05)
    assert found.at is not None
    values = [HEADROOM.value((1 + found.at.value) * 1.05**k) for k in range(-6, 2)]
    scan = {value: try_value(named, HEADROOM, value, ready, inputs).attainment >= ATTAIN for value in values}
    least = min(value for value, met in scan.items() if met)
    assert (1 + least) / (1 + found.at.value) == pytest.approx(1, abs=0.06) or not found.steady
    assert found.at.value in {one.value for one in found.tries if one.attainment >= ATTAIN}


def test_searches_are_the_same_twice_and_start_anywhere(ready, inputs):
    named = parse_policy("preserve(forecaster=last-value, lengths=median)")
    first, second = (match(named, ready, inputs, ATTAIN) for _ in range(2))
    assert first == second
    known = {one.value: one for one in first.tries}
    assert match(named, ready, inputs, ATTAIN, known=known) == first


def test_what_no_replica_can_serve_in_time_is_said(home):
    ready = ready_of(home, slo=["ttft<20ms"])
    assert possible_share(ready) < ATTAIN
    found = match(parse_policy("last-value"), ready, Inputs(ready), ATTAIN)
    assert found.at is None
    assert "can meet their SLO on an idle replica" in found.why
    assert len(found.tries) == 2
    assert found.best.attainment <= possible_share(ready)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pools: [{service: chat, region: eu, max: 1}, {service: chat, region: us, max: 1}]", "bounded by their max"),
        ("regions: {eu: {gpus: {H100: 4}}, us: {gpus: {H100: 4}}}", "starts of replicas were denied at headroom 9"),
    ],
)
def test_what_the_fleet_forbids_is_said(home, text, says):
    path = home / "fleet.yaml"
    path.write_text(text)
    ready = ready_of(home, fleet=path)
    found = match(parse_policy("last-value"), ready, Inputs(ready), ATTAIN)
    assert found.at is None
    assert says in found.why


def test_the_possible_share_is_what_a_huge_fleet_attains(ready, inputs):
    huge = try_value(parse_policy("static(replicas=2)"), REPLICAS, 200, ready, inputs)
    assert huge.attainment == pytest.approx(possible_share(ready), abs=0.003)


@pytest.mark.parametrize("name", list(POLICIES))
def test_more_of_a_knob_buys_capacity(name, ready, inputs):
    """So the policies that have one can be tuned to the same attainment."""
    named = parse_policy({"static": "static(replicas=3)"}.get(name, name))
    knob = knob_of(named.policy)
    if knob is None:
        pytest.skip("has no knob")
    own = getattr(named.policy, knob.name)
    before = try_value(named, knob, own, ready, inputs).gpu_hours
    more = (knob.value(times * knob.factor(own)) for times in (3, 10, 100))  # some look at what is rarely scarce here
    assert any(try_value(named, knob, value, ready, inputs).gpu_hours > 1.2 * before for value in more)


@pytest.mark.parametrize("name", ["static-peak", "static-mean", "last-value", "hpa", "oracle", "preserve"])
def test_every_default_baseline_can_be_tuned(name):
    assert knob_of(parse_policy(name).policy) == HEADROOM


def test_an_autoscaler_is_found_like_by_a_scan(ready, inputs):
    """By a knob of its own, that falls."""
    named = parse_policy("wva")
    found = match(named, ready, inputs, ATTAIN, tolerance=0.05)
    assert found.at is not None
    assert found.at.value < named.policy.up_threshold
    values = [found.knob.value(found.knob.factor(found.at.value) * 1.05**k) for k in range(-6, 2)]
    scan = {value: try_value(named, found.knob, value, ready, inputs).attainment >= ATTAIN for value in values}
    highest = max(value for value, met in scan.items() if met)
    assert highest / found.at.value == pytest.approx(1, abs=0.06) or not found.steady


def test_a_policy_without_a_knob_is_refused(ready, inputs):
    with pytest.raises(ValueError, match="no parameter that buys attainment"):
        match(parse_policy("static(replicas=3, prefill=2)"), ready, inputs, ATTAIN)


@pytest.mark.parametrize(
    "text", ["hpa(headroom=-1)", "static-mean(headroom=-2)", "static-peak(headroom=nan)", "hpa(headroom=x)"]
)
def test_headrooms_that_cannot_be_are_refused(text):
    with pytest.raises(UserError, match="headroom"):
        parse_policy(text)

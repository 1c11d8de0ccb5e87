"""Sizing, HPA and the policy grammar, by hand-checked examples; and the contract of every registered policy."""

import math
from dataclasses import FrozenInstanceError, fields
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from lmaas.analysis.errors import UserError
from lmaas.policies.autoscalers.hpa import Hpa
from lmaas.policies.planning import (
    at_home,
    common_start,
    counts_by_start,
    latest_issued,
    peak_actions,
    pool_counts,
    size,
)
from lmaas.policies.registry import POLICIES, parse_policy
from lmaas.policies.starts import starting_counts
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import Actions, History, Seen

EXAMPLE = {"static": "static(replicas=3)"}
PROFILE = find_profile("llama-3.1-8b/h100/tp1")
FLEET = Fleet((Pool("a", "eu", PROFILE), Pool("a", "us", PROFILE, maximum=5)))
RATES = pl.DataFrame(
    {
        "service": ["a"], "lane": ["shared"], "requests_s": [2.0], "prompt_tokens_s": [1000.0],
        "output_tokens_s": [100.0], "total_tokens_s": [1100.0], "mean_running": [10.0],
    }
)  # fmt: skip


def window(start, origin, prompt, output, issued=0.0):
    values = {"prompt_tokens": prompt, "output_tokens": output, "total_tokens": prompt + output, "requests": 1.0}
    return [
        {
            "issued_s": issued, "start_s": start, "length_s": 600.0, "service": "a", "origin": origin, "metric": metric,
            "quantile": None, "value": value,
        }
        for metric, value in values.items()
    ]  # fmt: skip


def frame(*rows):
    return pl.DataFrame([row for part in rows for row in part], schema_overrides={"quantile": pl.Float64})


HISTORY = History(0.0, 1200.0, 600.0, RATES, frame(window(0, "eu", 3e6, 1e5), window(600, "eu", 6e5, 1.3e5)))


def test_sizing_takes_the_tightest_rate():
    """Alg. 2: 600 s at 1,000 prompt and 100 output tokens/s a replica."""
    mu = pl.DataFrame(
        {"service": ["a"] * 3, "metric": ["prompt_tokens", "output_tokens", "total_tokens"], "mu": [1e3, 1e2, 1.1e3]}
    )
    demand = frame(window(0, "eu", 3_000_000, 100_000), window(600, "eu", 600_000, 130_000), window(0, "us", 0, 0))
    plan = {(s, r): n for s, _, r, _, n in size(demand, mu).iter_rows()}
    assert plan == {(0.0, "eu"): 5, (600.0, "eu"): 3, (0.0, "us"): 0}  # 5.0 by prompt; 2.17 by output; nothing
    assert size(demand, mu, headroom=0.2)["replicas"].to_list() == [6, 0, 3]


def test_latest_issued_forecast_wins_but_none_after_the_lead():
    demand = frame(
        window(1200, "eu", 1, 0, issued=0), window(1200, "eu", 2, 0, issued=600), window(1200, "eu", 3, 0, issued=1200)
    )
    value = latest_issued(demand, lead_s=600).filter(pl.col("metric") == "prompt_tokens")["value"].to_list()
    assert value == [2.0]


def seen(active, starting, present, t=0.0):
    zeros = np.zeros(2)
    return Seen(
        t=t, interval_s=15.0, active=np.array([active, 1.0]), starting=np.array([starting, 0.0]), draining=zeros,
        donated=zeros, held=zeros, queued=zeros, waiting=zeros,
        running=np.array([present, 10.0]), outstanding_tokens=zeros, kv_fraction=zeros,
        arrivals=zeros, arrived_input_tokens=zeros, completions=zeros, completed_output_tokens=zeros,
        mean_ttft_s=zeros, mean_e2e_s=zeros,
    )  # fmt: skip


def hpa(policy=None):
    policy = policy or Hpa(target=10.0)
    return policy, policy.start(FLEET, HISTORY)


def test_hpa_by_hand():
    policy, state = hpa()
    assert policy.react(0, seen(4, 0, 60), state).replicas[0] == 6  # ceil(4 · 15/10)
    assert policy.react(15, seen(4, 0, 43), hpa()[1]).replicas[0] == 4  # ratio 1.075: within the tolerance
    assert policy.react(15, seen(4, 0, 45), hpa()[1]).replicas[0] == 5  # ratio 1.125: not
    assert policy.react(15, seen(4, 3, 60), hpa()[1]).replicas[0] == 7  # replicas not ready count as idle: 60/7 < 10
    assert policy.react(15, seen(2, 0, 500), hpa()[1]).replicas[0] == 6  # at most +100 % or +4
    assert policy.react(15, seen(10, 0, 900), hpa()[1]).replicas[0] == 20


def test_hpa_scales_in_to_the_highest_of_five_minutes():
    policy, state = hpa()
    assert policy.react(0.0, seen(8, 0, 80), state).replicas[0] == 8
    for tick in range(1, 20):
        assert policy.react(15.0 * tick, seen(8, 0, 20), state).replicas[0] == 8
    assert policy.react(300.0 + 1e-6, seen(8, 0, 20), state).replicas[0] == 2


def test_hpa_keeps_to_the_pools_bounds():
    policy, state = hpa()
    state.memory[1] = (0.5, state.memory[1][1])
    assert policy.react(0, seen(4, 0, 40), state).replicas[1] == 5  # the pool's maximum
    eager, fresh = hpa(Hpa(target=10.0, down_window_s=0))
    assert eager.react(0, seen(4, 0, 0), fresh).replicas[0] == 1  # its minimum


def test_hpa_takes_the_mean_at_the_sustained_rate():
    assert [target for target, _ in Hpa().start(FLEET, HISTORY).memory] == [10.0, 10.0]


def test_static_sizes():
    peak, mean = (POLICIES.load(name)() for name in ("static-peak", "static-mean"))
    assert list(peak.initial(FLEET, HISTORY, None)) == [5, 1]
    assert list(mean.initial(FLEET, HISTORY, None)) == [3, 1]
    assert list(parse_policy("static(replicas=4)").policy.initial(FLEET, HISTORY, None)) == [4, 4]


@pytest.mark.parametrize(
    ("mixed", "bounds", "common", "peak", "mean"),
    [
        (0, {}, 3, 5, 3),
        (2, {}, 1, 3, 1),
        (3, {"maximum": 4}, 0, 1, 0),  # four in all, three of them mixed
        (4, {"maximum": 4}, 0, 0, 0),
        (7, {}, 0, 0, 0),
        (2, {"minimum": 4}, 2, 3, 2),
        (2, {"initial": 6}, 6, 3, 1),  # the file's word is of the pool's own kind
    ],
)
def test_a_size_counts_the_mixed_replicas(mixed, bounds, common, peak, mean):
    """Demand of the last window needs three replicas, the busiest five, the mean three."""
    old = ((PROFILE, mixed),) if mixed else ()
    fleet = Fleet((Pool("a", "eu", PROFILE, mixed=old, **bounds),))
    assert common_start(fleet, HISTORY) == [common]
    assert list(POLICIES.load("static-peak")().initial(fleet, HISTORY, None)) == [peak]
    assert list(POLICIES.load("static-mean")().initial(fleet, HISTORY, None)) == [mean]
    assert list(parse_policy("static(replicas=4)").policy.initial(fleet, HISTORY, None)) == [4]


@pytest.mark.parametrize(("mixed", "begins"), [(0, [4, 1]), (3, [1, 1]), (5, [0, 1])])
def test_foresight_begins_with_its_first_window_less_the_mixed(mixed, begins):
    pool = Pool("a", "eu", PROFILE, maximum=4, mixed=((PROFILE, mixed),) if mixed else ())
    fleet = Fleet((pool, Pool("a", "us", PROFILE)))
    oracle = POLICIES.load("oracle")()
    forecasts = frame(window(1200, "eu", 3e6, 1e5, issued=1200), window(1800, "us", 3e6, 1e5, issued=1800))
    ready = SimpleNamespace(fleet=fleet, history=HISTORY)
    assert starting_counts(oracle, oracle.start(fleet, HISTORY), forecasts, ready) == (begins, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("presrve", "did you mean 'preserve'"),
        ("preserve(leed_s=3)", "did you mean 'lead_s'"),
        ("preserve(lead_s=-1)", "lead_s is -1"),
        ("static(replicas=0)", "whole number from 1"),
        ("static(replicas=2.5)", "whole number from 1"),
        ("static", "write static(replicas=3)"),
        ("static(3)", "NAME(PARAMETER=VALUE"),
        ("static(replicas=open('x'))", "not a plain value"),
        ("static(replicas=3", "NAME(PARAMETER=VALUE"),
        ("", "no policy named ''"),
        ("hpa(target=0)", "above 0"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said(text, says):
    with pytest.raises(UserError) as error:
        parse_policy(text)
    assert says in str(error.value)
    assert error.value.code == 2


def test_flags_are_words_or_pythons():
    for text in ("false", "False"):
        assert parse_policy(f"dynamo(correct={text})").policy.correct is False
    assert parse_policy("sageserve-lt-u(reroute=true)").policy.reroute is True
    assert parse_policy("preserve(lengths=true)").policy.lengths == "true"


def test_router_override_composes():
    named = parse_policy("preserve", "round-robin")
    assert (named.name, named.router, named.policy.router) == ("preserve+round-robin", "round-robin", "round-robin")


@pytest.mark.parametrize("name", list(POLICIES))
class TestContract:
    """Adding a line to POLICIES adds these."""

    def policy(self, name):
        return parse_policy(EXAMPLE.get(name, name)).policy

    def test_is_a_frozen_dataclass_with_a_page(self, name, request):
        policy = self.policy(name)
        with pytest.raises((FrozenInstanceError, AttributeError)):
            policy.router = "x"
        assert fields(policy)
        assert type(policy).__doc__
        page = (request.config.rootpath / "docs" / "policies.md").read_text()
        assert f"`{name}`" in page
        for field in fields(policy):
            assert f"`{field.name}`" in page, f"docs/policies.md does not name {name}'s {field.name}"

    def test_starts_alike_twice_and_leaves_its_input_alone(self, name):
        before = HISTORY.window_demand.clone()
        policy = self.policy(name)
        first = policy.initial(FLEET, HISTORY, policy.start(FLEET, HISTORY))
        second = policy.initial(FLEET, HISTORY, policy.start(FLEET, HISTORY))
        assert (first is None and second is None) or list(first) == list(second)
        assert HISTORY.window_demand.equals(before)

    def test_plan_equals_plan_all(self, name):
        policy = self.policy(name)
        if not hasattr(policy, "plan_all"):
            pytest.skip("does not plan")
        state = policy.start(FLEET, HISTORY)
        rng = np.random.default_rng(1)
        rows = []
        for k in range(12):
            start = 1200 + 600.0 * k
            for origin in ("eu", "us"):
                rows.append(window(start, origin, *rng.integers(0, 3_000_000, 2), issued=start - 1200))
                rows.append(window(start, origin, *rng.integers(0, 3_000_000, 2), issued=start - 600))
                rows.append(window(start, origin, *rng.integers(0, 3_000_000, 2), issued=start))
        demand = frame(*rows)
        table = policy.plan_all(demand, state)
        starts = np.unique(demand["start_s"].to_numpy())
        for t in policy.decisions(starts, state):
            near = table.filter((pl.col("start_s") <= t + state.lead_s) & (pl.col("start_s") + 600 > t))
            expected = {
                p: pool.clamp(max(near.filter(pl.col("region") == pool.region)["replicas"].to_list(), default=0))
                for p, pool in enumerate(FLEET.pools)
            }
            if near.height:
                assert policy.plan(t, demand, seen(1, 0, 0, t), state) == Actions(expected)

    def test_reacts_within_bounds(self, name):
        policy = self.policy(name)
        if not hasattr(policy, "react"):
            pytest.skip("does not react")
        state = policy.start(FLEET, HISTORY)
        for k, present in enumerate([0, 10, 1e6, 3, 0]):
            counts = policy.react(15.0 * k, seen(3, 1, present), state).replicas
            assert all(math.isfinite(n) and n >= 0 for n in counts.values())
            assert counts.get(1, 0) <= 5


def test_demand_is_sized_where_it_is_served():
    """A service hosted in one region of two: the other region's demand adds to it, metric by metric."""
    pools = (Pool("a", "east", PROFILE), Pool("a", "west", PROFILE), Pool("b", "east", PROFILE))
    fleet = Fleet(pools, regions=("east", "west"))
    rows = [(0.0, 60.0, s, o, m, v) for s in "ab" for o, v in (("east", 10.0), ("west", 5.0)) for m in ("x", "y")]
    demand = pl.DataFrame(rows, schema=["start_s", "length_s", "service", "origin", "metric", "value"], orient="row")
    folded = at_home(demand, fleet)
    assert folded.filter(pl.col("service") == "a").equals(demand.filter(pl.col("service") == "a"))
    assert folded.filter(pl.col("service") == "b").select("origin", "metric", "value").rows() == [
        ("east", "x", 15.0),
        ("east", "y", 15.0),
    ]
    assert at_home(folded, fleet).equals(folded)


def test_counts_by_start_are_those_of_every_window_alone():
    """What a replay looks up at a tick, against what the window's rows say."""
    rng = np.random.default_rng(2)
    rows = [(600.0 * k, "a", region, "shared", int(rng.integers(0, 9))) for k in range(20) for region in ("eu", "us")]
    kept = [row for row in rows if rng.random() < 0.8]  # a pool without a row gets its minimum
    columns = ["start_s", "service", "region", "lane", "replicas"]
    plan = pl.DataFrame(kept, schema=columns, orient="row").sample(fraction=1.0, shuffle=True, seed=1)
    starts, counts = counts_by_start(plan, FLEET)
    assert starts.tolist() == sorted({row[0] for row in kept})
    for start, found in zip(starts, counts, strict=True):
        assert found.tolist() == pool_counts(plan.filter(pl.col("start_s") == start), FLEET).tolist()
    low, high = 1800.0, 4200.0
    near = (starts >= low) & (starts < high)
    peak = peak_actions(plan.filter(pl.col("start_s").is_between(low, high, closed="left")), FLEET)
    assert dict(enumerate(counts[near].max(axis=0).tolist())) == peak.replicas
    assert counts_by_start(plan.clear(), FLEET)[1].shape == (0, 2)

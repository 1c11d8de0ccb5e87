"""OServe's baselines: one shape for all GPUs, by the flow; kept, or chosen anew every period and read from disk."""

import json

import numpy as np
import polars as pl
import pytest
from test_oserve_policy import CAPACITY, DIVISION, FLEET, FOUR_SMALL, LARGE, POOL, SMALL, Closer, coming, history, seen
from test_oserve_runs import END_S, SHIFT_S, rows
from test_oserve_runs import FLEET as FILE
from test_oserve_runs import LARGE as LARGE_FILE
from test_oserve_runs import SMALL as SMALL_FILE
from three_hours import decisions, stored

from lmaas.analysis.errors import UserError
from lmaas.policies import evaluate
from lmaas.policies.oserve.fitted import best_of, of_one_shape
from lmaas.policies.oserve.homogeneous import Homogeneous, owned
from lmaas.policies.registry import parse_policy
from lmaas.policies.told import TRUTH

STATIC, RELOADS = "homogeneous", "homogeneous(reload=true, period_s=300)"
ALL = [STATIC, RELOADS]


def test_the_shape_is_the_one_that_serves_most_of_the_mix():
    """4 GPUs: four small ones serve 40 of type 0, two large ones 24 of it, or 8 of type 1, which small ones cannot."""
    assert of_one_shape(DIVISION) == [(4, 0), (0, 2)]
    assert CAPACITY.tolist() == [[10, 0], [12, 4]]
    by_hand = {(39, 2): (4, 0), (25, 1): (4, 0), (17, 2): (0, 2), (6, 6): (0, 2), (1, 8): (0, 2)}
    for (short, long), best in by_hand.items():
        large = min(short, 12 * max(0.0, 2 - long / 4)) + long
        assert best == ((0, 2) if large > min(short, 40) else (4, 0))
        assert best_of(DIVISION, np.array([short, long], float), None, alike=True)[0] == best


def test_the_shape_it_begins_with_is_the_pools_own():
    large = owned(POOL, DIVISION.__class__(**{**DIVISION.__dict__, "begins": (0, 2)}))
    assert (large.profile, large.initial, large.mixed) == (LARGE, 2, ((SMALL, 0),))
    small = owned(POOL, DIVISION)
    assert (small.profile, small.initial, small.mixed) == (SMALL, 4, ((LARGE, 0),))


def test_a_period_by_hand():
    """Type 1 alone comes, 8/s: all four small ones give way at once to two large ones, which start from disk."""
    policy = Homogeneous(types=2, reload=True)
    state = policy.start(FLEET, history())
    actions = policy.plan(0.0, coming(0.0, 8.0), seen(Closer(FOUR_SMALL)), state)
    ((pool, leaves, follows, start_s),) = merged(actions.regroup)
    assert (pool, sorted(leaves), follows, start_s) == (0, [0, 1, 2, 3], ["large", "large"], None)
    assert actions.migrate == [] and actions.weights is None
    stays = policy.plan(0.0, coming(30.0, 0.0), seen(Closer(FOUR_SMALL)), policy.start(FLEET, history()))
    assert stays.regroup == []


def merged(groups):
    """Groups of a pool as one."""
    pools = {group[0] for group in groups}
    return [
        (
            p,
            [r for g in groups if g[0] == p for r in g[1]],
            [n for g in groups if g[0] == p for n in g[2]],
            groups[0][3],
        )
        for p in pools
    ]


def test_who_is_told_what():
    assert Homogeneous().forecaster is None and Homogeneous().horizon is None
    asked = Homogeneous(reload=True, period_s=900)
    assert asked.forecaster == "last-value"
    assert (asked.horizon.window_s, asked.horizon.every_s, asked.horizon.windows) == (900, 900, 1)
    assert [p.foresight for p in (asked, Homogeneous(reload=True, demand=TRUTH), Homogeneous(lengths="true"))] == [
        False,
        True,
        True,
    ]
    for text in ("period_s=5", "reload=1", "types=0", "gpus=0", "demand=auot", "headroom=-2"):
        with pytest.raises(UserError):
            parse_policy(f"homogeneous({text})")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    for profile in (SMALL_FILE, LARGE_FILE):
        (home / f"{profile['name'].split('/')[1]}.json").write_text(json.dumps(profile))
    (home / "fleet.yaml").write_text(FILE.replace("PATH", json.dumps(str(home / "large.json"))))
    return home


def shifted(table):
    """Of the short requests after the shift one in thirty: few are lost while all replicas start anew."""
    short = (pl.col("arrival_s") > SHIFT_S) & (pl.col("input_tokens") < 2000)
    number = pl.int_range(pl.len())
    return table.filter(~short | (number % 30 == 0) | (number == pl.len() - 1))


def run(home, name, table, **more):
    return evaluate(
        stored(home, shifted(table), name), ALL, baselines=["none"], profile=str(home / "small.json"),
        fleet=home / "fleet.yaml", window_s=60.0, warmup_s=300.0, slo=["ttft<5s, tpot<100ms"], **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(home):
    return run(home, "plain", rows(), check=True)


def test_one_changes_its_shape_with_the_mix_and_the_other_does_not(result):
    """Four small replicas, 0 to 3, serve before the shift; after it two large ones in their place, 4 and 5."""
    served = {p: set(result.requests[p]["replica"].drop_nulls().to_list()) for p in ALL}
    assert served == {STATIC: {0, 1, 2, 3}, RELOADS: {0, 1, 2, 3, 4, 5}}
    attained = dict(result.scores.select("policy", "slo_attainment").iter_rows())
    late = {p: result.requests[p].filter(pl.col("arrival_s") > SHIFT_S + 450)["ttft_s"].median() for p in ALL}
    assert late[RELOADS] < late[STATIC]
    assert attained[RELOADS] > attained[STATIC]


@pytest.mark.parametrize("policy", ALL)
def test_never_looks_ahead(home, result, policy):
    until = SHIFT_S + 0.6 * (END_S - SHIFT_S)
    other = run(home, "scrambled", rows(scrambled_s=until))
    for mine, theirs in zip(decisions(result, policy, until), decisions(other, policy, until), strict=True):
        assert mine.height > 10
        assert mine.equals(theirs)
    assert result.requests[policy].filter(pl.col("arrival_s") <= until).height > 1000

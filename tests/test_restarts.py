"""Fleets of a fixed size after a fault: what was lost is started again, and nothing else changes."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from reference import Fleet as SlowFleet
from reference import Latency, Replica, Request, Rules, Shape

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies import evaluate
from lmaas.policies.restarts import restarting, unbounded
from lmaas.replay.engine import NEVER, Replay, Requests
from lmaas.replay.fleet import Fault, Fleet, Pool
from lmaas.replay.profile import Profile

SPEC = {
    "name": "test/small", "kv_tokens": 2000, "max_batch_tokens": 512, "max_seqs": 4, "startup_s": 30.0,
    "usd_per_gpu_hour": 2.0,
    "latency": {"base": 0.05, "token_knots": [0], "token_slopes": [1e-3], "decode_seq": 1e-3, "decode_kv": 1e-6},
}  # fmt: skip
PROFILE = Profile.model_validate(SPEC)
OTHER = PROFILE.model_copy(update={"name": "test/other"})
EU, US = Pool("s", "eu", PROFILE), Pool("s", "us", PROFILE)


def requests(n=300, lasts_s=150.0):
    rng = np.random.default_rng(4)
    arrival = np.sort(rng.uniform(0, lasts_s, n))
    arrival[0] = 0.0
    pool = rng.integers(0, 2, n)
    prompts, outputs = rng.integers(1, 300, n), rng.integers(1, 60, n)
    return Requests(arrival, pool, prompts, outputs, outputs.astype(float), np.zeros(n, np.int64), origin=pool)


def replay(faults, pools=(EU, US), initial=(2, 1)):
    fleet = Fleet(pools, regions=("eu", "us"), faults=tuple(faults))
    controller = restarting(fleet, initial, 0.0)
    one = Replay(requests(), unbounded(fleet), initial, "round-robin", controller, scales=False, begin_s=0.0)
    return one.run(check=True)


def lives(outcome, pool=0):
    """{replica: [(state, from, to), ...]} of the pool."""
    mine = outcome.spans.filter(pl.col("pool") == pool).sort("replica", "from_s")
    rows = mine.select("replica", "state", "from_s", "to_s").rows()
    return {n: [row[1:] for row in rows if row[0] == n] for n in sorted({row[0] for row in rows})}


REGION = Fault(10.0, region="eu", until_s=40.0)


def test_a_region_that_is_up_again_has_its_replicas_after_their_start_up():
    outcome = replay([REGION])
    end = outcome.end_s
    assert lives(outcome) == {
        0: [("active", 0.0, 10.0)],
        1: [("active", 0.0, 10.0)],
        2: [("starting", 40.0, 70.0), ("active", 70.0, end)],
        3: [("starting", 40.0, 70.0), ("active", 70.0, end)],
    }
    assert lives(outcome, 1) == {0: [("active", 0.0, end)]}
    assert outcome.denied.tolist() == [0, 0]


@pytest.mark.parametrize("at", [0.0, 10.0])
def test_a_lost_replica_is_replaced_at_once(at):
    outcome = replay([Fault(at, pool=0, replica=1)])
    found = lives(outcome)
    assert found[0] == [("active", 0.0, outcome.end_s)]
    assert found.get(1, []) == ([("active", 0.0, at)] if at else [])
    ((_, begins, ready), (state, _, until)) = found[2]
    assert (begins, ready, state, until) == (pytest.approx(at), pytest.approx(at + 30), "active", outcome.end_s)


def test_one_that_is_lost_while_it_starts_is_replaced_too():
    outcome = replay([Fault(10.0, pool=0, replica=1), Fault(20.0, pool=0, replica=2)])
    found = lives(outcome)
    assert found[2] == [("starting", 10.0, 20.0)]
    assert found[3] == [("starting", 20.0, 50.0), ("active", 50.0, outcome.end_s)]
    assert list(found) == [0, 1, 2, 3]


def test_where_faults_overlap_nothing_is_asked_of_a_region_that_is_down():
    """A replica lost elsewhere while eu is down; eu is down twice."""
    faults = [REGION, Fault(20.0, pool=1, replica=0), Fault(40.0, region="eu", until_s=60.0)]
    outcome = replay(faults)
    assert outcome.denied.tolist() == [0, 0]
    assert [spans[0] for spans in lives(outcome).values()][2:] == [("starting", 60.0, 90.0)] * 2
    assert lives(outcome, 1)[1][0] == ("starting", 20.0, 50.0)


def test_a_region_that_is_gone_for_good_stays_so():
    outcome = replay([Fault(10.0, region="eu")])
    assert list(lives(outcome)) == [0, 1]
    assert outcome.denied.tolist() == [0, 0]


def test_the_size_is_the_policys_whatever_the_bounds():
    low, high = replace(EU, maximum=1), replace(US, minimum=3)
    outcome = replay([REGION, Fault(50.0, pool=1, replica=0)], (low, high))
    assert [len(lives(outcome, p)) for p in (0, 1)] == [4, 2]


def test_lost_mixed_replicas_come_back_as_what_they_were():
    outcome = replay([REGION], (replace(EU, mixed=((OTHER, 2),)), US))
    profiles = outcome.replicas.filter(pl.col("pool") == 0)["profile"].to_list()
    assert len(profiles) == 8 and profiles[0] != profiles[2]
    assert sorted(profiles[4:]) == sorted(profiles[:4])


def test_of_several_kinds_only_the_lost_one_comes_back():
    outcome = replay([Fault(10.0, pool=0, replica=3)], (replace(EU, mixed=((OTHER, 2),)), US))
    profiles = outcome.replicas.filter(pl.col("pool") == 0)["profile"].to_list()
    assert len(profiles) == 5 and profiles[4] == profiles[3] != profiles[0]
    assert lives(outcome)[4][0] == ("starting", 10.0, 40.0)


def test_without_faults_nobody_is_asked():
    assert restarting(Fleet((EU, US)), (2, 1), 0.0) is NEVER
    assert restarting(Fleet((EU, US), faults=(Fault(1.0, region="eu"),)), (2, 1), 0.0) is NEVER


def test_it_is_the_reference_scaled_at_these_times():
    """A region down from 10 to 40 s, a replica of the other lost at 25 s."""
    outcome, table = replay([REGION, Fault(25.0, pool=1, replica=0)]), requests()
    lat = SPEC["latency"]
    shape = Shape(
        Latency(lat["base"], lat["token_knots"], lat["token_slopes"], 0.0, 0.0, lat["decode_seq"], lat["decode_kv"]),
        SPEC["kv_tokens"], 16, SPEC["max_batch_tokens"], SPEC["max_seqs"],
    )  # fmt: skip
    columns = (table.arrival_s, table.pool, table.input_tokens, table.output_tokens)
    slow = [
        Request(n, *row, service=0, origin=row[1])
        for n, row in enumerate(zip(*(c.tolist() for c in columns), strict=True))
    ]
    rules = Rules(
        shapes=[shape, shape], pool_region=[0, 1], pool_service=[0, 0], latency_s=[[0.0, 0.0], [0.0, 0.0]],
        faults=[[10.0, "region", 0, 40.0], [25.0, "replica", 1, 0]],
    )  # fmt: skip
    fleet = SlowFleet([Replica(0, 0, shape), Replica(0, 1, shape), Replica(1, 0, shape)], "round-robin", rules=rules)
    fleet.run(slow, {25.0: lambda f: f.scale(1, 1, 30.0), 40.0: lambda f: f.scale(0, 2, 30.0)})
    assert sum(r.restarts for r in slow) > 0
    assert [r.restarts for r in slow] == outcome.restarts.tolist()
    for name in ("first", "done"):
        np.testing.assert_allclose(getattr(outcome, f"{name}_s"), [getattr(r, name) for r in slow], rtol=1e-9)


def test_policies_of_an_evaluation_have_their_size_again(tmp_path):
    """Every one of them, those that plan included, in the middle of a window."""
    rng = np.random.default_rng(0)
    n = 4000
    table = pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, 7200, n)),
            "service": ["s"] * n,
            "region": rng.choice(["eu", "us"], n),
            "input_tokens": rng.integers(1, 300, n),
            "output_tokens": rng.integers(1, 100, n),
        }
    )
    table.write_parquet(tmp_path / "t.parquet")
    (tmp_path / "p.json").write_text(json.dumps(SPEC))
    trace = open_trace(str(tmp_path / "t.parquet"), Workspace.open(tmp_path / "ws"), say=lambda text: None)
    asked = {"baselines": ["static-peak", "static-mean", "oracle"], "profile": str(tmp_path / "p.json")}
    asked |= {"window_s": 600.0, "train_fraction": 0.5}
    calm = evaluate(trace, ["static(replicas=2)", "preserve"], **asked)
    (tmp_path / "f.yaml").write_text(
        "pools: [{service: s, region: eu}, {service: s, region: us}]\n"
        "faults: [{at: 4900, region: eu, for: 100s}, {at: 6110, pool: s/us, replica: 0}]"
    )
    struck = evaluate(trace, ["static(replicas=2)", "preserve"], fleet=tmp_path / "f.yaml", **asked)
    assert calm.failures == struck.failures == {}
    keys = ["policy", "region", "start_s"]
    both = calm.timeline.join(struck.timeline, on=keys, suffix="_struck").sort(keys)
    hit = {"eu": (4900.0, 100.0), "us": (6110.0, 0.0)}
    compared = 0
    for policy, region, start, before, after in both.select(*keys, "active", "active_struck").iter_rows():
        at, down_s = hit[region]
        struck_here = start <= at < start + 600
        away_s = down_s + (0.0 if policy == "oracle" else 30.0)  # the oracle's start at once
        lost = 1 if region == "us" else before
        assert after == pytest.approx(before - struck_here * lost * away_s / 600, abs=1e-3), (policy, region, start)
        compared += struck_here
    assert compared == 2 * struck.scores.height

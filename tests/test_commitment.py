"""Reserved GPUs beside on-demand ones."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from evaluation_data import texts
from three_hours import PROFILE, rows, stored

from lmaas.policies import evaluate
from lmaas.policies.commitment import COMMITMENT, RATIOS, break_even, commitments, reserve
from lmaas.policies.spot import SPOT, spots
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Profile
from lmaas.replay.spending import MONTH_H
from lmaas.reports.schema import EvaluationMetrics


def cost(used, length_s, n, ratio):
    """Of one kind at $1, by hand."""
    return sum(s * (ratio * n + max(u - n, 0)) for u, s in zip(used, length_s, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_no_other_number_of_reserved_gpus_is_cheaper(seed):
    rng = np.random.default_rng(seed)
    used = rng.integers(0, 9, 30) + rng.choice([0.0, 0.25, 0.5], 30)
    length_s = rng.uniform(1, 100, 30)
    for ratio in (0.2, 0.5, 0.8, 1.0):
        n = int(reserve(used[:, None], length_s, ratio)[0])
        best = min(cost(used, length_s, k, ratio) for k in range(12))
        assert cost(used, length_s, n, ratio) == pytest.approx(best)


def fleet(price=2.0):
    profile = Profile.model_validate({**PROFILE, "usd_per_gpu_hour": price})
    return Fleet((Pool("chat", "eu", profile), Pool("chat", "us", profile)))


def run(counts, name="p", tail=0.0, hours=None):
    """A run of windows of an hour; counts: of eu, us; two GPUs a replica."""
    timeline = pl.DataFrame(
        [
            {
                "start_s": 3600.0 * k,
                "length_s": 3600.0,
                "service": "chat",
                "region": r,
                "lane": "shared",
                "provisioned": n,
            }
            for k, pair in enumerate(counts)
            for r, n in zip(("eu", "us"), pair, strict=True)
        ]
    )
    hours = 2 * float(timeline["provisioned"].sum()) if hours is None else hours
    return SimpleNamespace(
        name=name, timeline=timeline, scores={"gpu_hours_provisioned": hours + tail, "gpu_hours_tail": tail}
    )


def test_by_hand():
    """eu runs 2 GPUs always and 6 in one hour of four; us 2 in two of four."""
    table, notes = commitments([run([(1.0, 1.0), (1.0, 1.0), (3.0, 0.0), (1.0, 0.0)], tail=5.0)], fleet())
    assert notes == [] and table.schema == COMMITMENT and table["ratio"].to_list() == list(RATIOS)
    half = table.row(by_predicate=pl.col("ratio") == 0.6, named=True)
    assert half["reserved_gpus"] == 2  # of eu; us needs its own half of the time only
    hours = 12 + 4
    assert half["reserved_share"] == pytest.approx(8 / hours)
    spent = 2.0 * (0.6 * 2 * 4 + (hours - 8))
    assert half["usd_per_month"] == pytest.approx(spent / 4 * MONTH_H)
    assert half["saving"] == pytest.approx(1 - spent / (2.0 * hours))
    cheap = table.row(by_predicate=pl.col("ratio") == 0.2, named=True)
    assert cheap["reserved_gpus"] == 6 + 2  # a region's GPUs are its own
    dear = table.row(by_predicate=pl.col("ratio") == 1.0, named=True)
    assert dear["reserved_gpus"] == 0 and dear["saving"] == 0


def test_spot_by_hand():
    """As above: eu has 2 GPUs always and 4 more in one hour of four; us none always, 2 in two."""
    made = run([(1.0, 1.0), (1.0, 1.0), (3.0, 0.0), (1.0, 0.0)], tail=5.0)
    table = spots([made], fleet())
    assert table.schema == SPOT and table["ratio"].to_list() == list(RATIOS)
    half = table.row(by_predicate=pl.col("ratio") == 0.5, named=True)
    assert (half["base_gpus"], half["spot_gpus"], half["spot_share"]) == (2, 4.0, 0.5)
    assert half["base_usd_per_month"] == pytest.approx(2.0 * 2 * MONTH_H)
    assert half["usd_per_month"] == pytest.approx(2.0 * (8 + 0.5 * 8) / 4 * MONTH_H)
    assert half["saving"] == pytest.approx(0.25)
    assert table["saving"][-1] == pytest.approx(0.0)  # as dear as on demand
    fixed = spots([run([(2.0, 1.0)] * 4)], fleet())
    assert (fixed["saving"] == 0).all() and (fixed["spot_gpus"] == 0).all()
    assert spots([made], fleet(price=None)).is_empty()
    assert spots([run([(1.0, 1.0)], "mixed", hours=9.0)], fleet()).is_empty()


def test_what_cannot_be_told():
    assert commitments([run([(1.0, 1.0)])], fleet(price=None))[0].is_empty()
    table, notes = commitments([run([(1.0, 1.0)]), run([(1.0, 1.0)], "mixed", hours=9.0)], fleet())
    assert table["policy"].unique().to_list() == ["p"]
    assert notes == ["reserved GPUs: not told of mixed, whose pools mix shapes"]


def test_a_constant_fleet_wins_where_reservations_are_cheap():
    """Four GPUs always; none to six by need, less in all."""
    steady, moving = run([(2.0, 0.0)] * 4, "steady"), run([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)], "moving")
    table, _ = commitments([steady, moving], fleet())
    scores = pl.DataFrame(
        {"policy": ["steady", "moving", "bad", "seer"], "foresight": [False, False, False, True],
         "slo_attainment": [0.99, 0.99, 0.9, 1.0]}
    )  # fmt: skip
    low, high = break_even(table, scores, 0.99)  # 16 ratio against 8 ratio + 6: as dear at 0.75
    assert (low[2], high[2]) == ("steady", "moving") and low[0] == RATIOS[0] and high[1] == 1.0
    assert 0.7 <= low[1] <= 0.75 <= high[0] <= 0.8


def test_an_evaluation_tells_it(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(PROFILE))
    trace = stored(tmp_path, rows(n=3000, hours=1.5), "short")
    found = evaluate(
        trace, ["hpa"], baselines=["static-mean"], profile=str(tmp_path / "p.json"), window_s=300.0, slo=("ttft<10s",)
    )
    assert set(found.commitment["policy"]) == {"hpa", "static-mean"}
    month = dict(found.scores.select("policy", "usd_per_month").iter_rows())
    on_demand = found.commitment.filter(pl.col("ratio") == 1.0)
    assert (on_demand["saving"].abs() < 1e-9).all()
    for policy, usd in on_demand.select("policy", "usd_per_month").iter_rows():
        assert usd == pytest.approx(month[policy], rel=1e-6)
    at_full = found.spot.filter(pl.col("ratio") == 1.0)
    assert dict(at_full.select("policy", "usd_per_month").iter_rows()) == pytest.approx(month, rel=1e-6)
    assert "Reserved, spot and on-demand GPUs" in texts(found) and "interruptions are in none" in texts(found)
    assert len(EvaluationMetrics.model_validate(found.metrics()).commitment) == 2 * len(RATIOS)

"""What chance and a trace cannot decide: equal policies, few requests, replays without a miss; caches not replayed."""

import json

import numpy as np
import polars as pl
import pytest
from evaluation_data import scores
from three_hours import PROFILE, stored

from lmaas.policies import evaluate
from lmaas.policies.blocks import Blocks
from lmaas.policies.choice import choose
from lmaas.policies.paired import Draws, interval
from lmaas.replay.scores import request_scores

HOURS, COST = [5.0] * 5, [13.45] * 5


def alike(**changes):
    return scores(gpu_hours_provisioned=HOURS, cost_usd=COST, slo_attainment=[1.0] * 5, **changes)


def test_of_equal_policies_the_simplest_is_recommended():
    found = choose(alike(), 0.99)
    assert found.best["policy"] == "static-peak"  # 12 actions each, and it is a static baseline
    assert found.tied == ("preserve", "hpa", "last-value")
    assert not found.told_apart
    assert found.baseline["policy"] != "static-peak"
    busy = choose(alike(scale_actions=[12, 3, 12, 12, 0]), 0.99)
    assert busy.best["policy"] == "hpa"  # fewer actions come first; the bound has none, and is none to take


def test_rounding_makes_no_winner():
    nearly = alike().with_columns(cost_usd=pl.Series([13.45 * (1 - 1e-13), *COST[1:]]))
    assert choose(nearly, 0.99).best["policy"] == "static-peak"


def test_who_costs_less_or_attains_more_is_told_apart():
    cheaper = choose(alike().with_columns(cost_usd=pl.Series([13.4, *COST[1:]])), 0.99)
    assert (cheaper.best["policy"], cheaper.tied, cheaper.told_apart) == ("preserve", (), True)
    better = choose(alike().with_columns(slo_attainment=pl.Series([0.995, 1.0, 0.995, 0.995, 1.0])), 0.99)
    assert (better.best["policy"], better.tied) == ("hpa", ())
    some = choose(alike().with_columns(cost_usd=pl.Series([13.45, 13.45, 14.0, 15.0, 1.0])), 0.99)
    assert (some.best["policy"], some.tied, some.told_apart) == ("preserve", ("hpa",), True)


def draws_of(misses, requests=23, blocks=40):
    n = np.bincount(np.arange(requests) % blocks, minlength=blocks).astype(float)
    attained = n.copy()
    attained[:misses] -= 1
    counts = {name: np.zeros((blocks, 1)) for name in ("ttft_s", "e2e_s")}
    return Draws.of(Blocks(60.0, n, attained, counts, np.ones(blocks), None), 0)


def test_no_miss_among_few_requests_is_no_certainty():
    low, high = interval("slo_attainment", 1.0, draws_of(0))
    assert (low, high) == (pytest.approx(0.05 ** (1 / 23)), 1.0)
    wide = interval("slo_attainment", 1 - 1 / 23, draws_of(1))
    assert wide[0] == pytest.approx(0.8098, abs=1e-3) and wide[1] > 0.997  # Clopper and Pearson's: 0.8098, 0.99777


def test_two_replays_without_a_miss_may_differ_by_what_neither_showed():
    none = draws_of(0)
    by = 1 - 0.05 ** (1 / 23)
    assert interval("slo_attainment", 1.0, none, 1.0, none) == (pytest.approx(-by), pytest.approx(by))
    assert interval("gpu_hours_provisioned", 40.0, none, 40.0, none) == (0.0, 0.0)


def test_an_hour_of_a_handful_is_no_worst_hour():
    def rows(n):
        times = {
            "ttft_s": [0.1] * n,
            "tpot_s": [0.01] * n,
            "e2e_s": [1.0] * n,
            "arrival_s": [float(i) for i in range(n)],
        }
        counts = {name: [1] * n for name in ("input_tokens", "output_tokens", "begun", "preemptions", "cached_tokens")}
        return pl.DataFrame({**times, **counts, "attained": [True] * n, "status": ["ok"] * n})

    assert request_scores(rows(29), 60.0)["worst_hour_attainment"] is None
    assert request_scores(rows(30), 60.0)["worst_hour_attainment"] == 1.0


def test_recorded_hits_that_are_not_replayed_are_told(tmp_path):
    (tmp_path / "profile.json").write_text(json.dumps(PROFILE))
    n = 120
    table = pl.DataFrame(
        {
            "arrival_s": [5.0 * k for k in range(n)],
            "input_tokens": [200] * n,
            "output_tokens": [5] * n,
            "cached_tokens": [200] * 60 + [50] * 59 + [None],  # the first half trains
        }
    )
    result = evaluate(
        stored(tmp_path, table, "cached"), ["static(replicas=2)"], baselines=[], profile=str(tmp_path / "profile.json"),
        window_s=30.0, warmup_s=0.0,
    )  # fmt: skip
    assert result.settings["recorded_hit_share"] == pytest.approx(0.25)
    assert any("25.0% of the evaluated part's prompt tokens" in note for note in result.notes)
    assert result.settings["pools"][0]["service"] == "default"

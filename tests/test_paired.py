"""Paired block bootstrap: its quantiles, its coverage by simulation, and its words."""

import json
import math

import numpy as np
import polars as pl
import pytest
from evaluation_data import evaluation
from three_hours import PROFILE, rows, stored

from lmaas.policies import evaluate, paired
from lmaas.policies.differences import BETTER, DIFFERENCES, OVERALL, verdict
from lmaas.policies.inputs import Inputs
from lmaas.policies.paired import (
    BUCKETS,
    FEWEST_BLOCKS,
    Blocks,
    Draws,
    _histogram,
    block_edges,
    interval,
    quantile,
    tails,
)
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy
from lmaas.reports.schema import EvaluationMetrics


def blocks_of(block, latency, met, hours):
    """Blocks of one replay: per request its block, TTFT and whether it attained; per block its GPU-hours."""
    count = len(hours)
    counts = {name: _histogram(block, pl.Series(latency), count) for name in ("ttft_s", "e2e_s")}
    n = np.bincount(block, minlength=count).astype(float)
    return Blocks(3600.0, n, np.bincount(block, weights=met, minlength=count), counts, hours, 2 * hours)


def two_replays(rng, blocks=40, apart=0.0):
    """The same busy and quiet blocks for both; each has its own luck in every block, the second one is slower."""
    n = rng.poisson(60 * np.exp(0.5 * np.sin(np.arange(blocks) / 6)))
    block = np.repeat(np.arange(blocks), n)
    busy = rng.normal(0, 0.6, blocks)
    found = []
    for shift in (0.0, apart):
        own = rng.normal(shift, 0.15, blocks)
        latency = np.exp((busy + own)[block] + rng.normal(0, 0.5, len(block)))
        hours = 5 + busy + own
        found.append(blocks_of(block, latency, latency < 2.0, hours))
    return found


METRICS = ("slo_attainment", "ttft_p50_s", "ttft_p99_s", "gpu_hours_provisioned", "goodput_rps")


def words(one, other):
    draws = [Draws.of(blocks, 0) for blocks in (one, other)]
    found = {}
    for metric in METRICS:
        value, reference = (one.point[metric] for one in draws)
        found[metric] = verdict(*interval(metric, value, draws[0], reference, draws[1]), BETTER[metric])
    return found


def test_coverage_without_a_difference(monkeypatch):
    """Nine times out of ten it says so: 250 pairs, five metrics; 90 % ± 3 standard errors of each."""
    monkeypatch.setattr(paired, "DRAWS", 300)  # for speed
    rng = np.random.default_rng(1)
    same = dict.fromkeys(METRICS, 0)
    for _ in range(250):
        for metric, word in words(*two_replays(rng)).items():
            same[metric] += word == "no difference"
    assert all(0.9 - 0.057 <= n / 250 <= 0.9 + 0.057 for n in same.values()), same


def test_a_planted_difference_is_found():
    rng = np.random.default_rng(2)
    found = [words(*two_replays(rng, apart=0.15)) for _ in range(60)]
    for metric in ("slo_attainment", "ttft_p50_s", "gpu_hours_provisioned", "goodput_rps"):
        said = [one[metric] for one in found]
        assert said.count("better") >= 0.9 * len(said), metric
        assert said.count("worse") == 0, metric


def test_pairing_is_what_finds_it():
    """Drawn apart, the busy blocks drown the same difference."""
    rng = np.random.default_rng(3)
    one, other = two_replays(rng, apart=0.15)
    mine, theirs, alone = Draws.of(one, 0), Draws.of(other, 0), Draws.of(other, 1)
    points = mine.point["ttft_p50_s"], theirs.point["ttft_p50_s"]
    together, unpaired = (interval("ttft_p50_s", points[0], mine, points[1], x) for x in (theirs, alone))
    assert together[1] - together[0] < 0.6 * (unpaired[1] - unpaired[0])


def test_quantiles_of_histograms_are_within_a_bucket():
    rng = np.random.default_rng(4)
    values = rng.lognormal(-1, 1.5, 20_000)
    counts = _histogram(np.zeros(len(values), np.int64), pl.Series(values), 1)
    assert counts.shape == (1, BUCKETS) and counts.sum() == len(values)
    for rank in (0.01, 0.5, 0.99):
        assert quantile(counts, np.arange(BUCKETS), rank)[0] == pytest.approx(np.quantile(values, rank), rel=0.012)
    assert math.isnan(quantile(np.zeros((1, BUCKETS)), np.arange(BUCKETS), 0.5)[0])


def test_a_null_latency_is_in_no_bucket():
    counts = _histogram(np.array([0, 1, 1]), pl.Series([1.0, None, 2.0]), 2)
    assert counts.sum(axis=1).tolist() == [1.0, 1.0]


def test_intervals_widen_where_blocks_are_few():
    assert tails(10_000)[0] == pytest.approx(0.05, abs=1e-4)
    for n, t in ((20, 1.7291), (50, 1.6766)):  # t of 19 and 49 degrees of freedom at 95 %
        widened = t * math.sqrt(n / (n - 1))
        assert tails(n)[0] == pytest.approx(0.5 * math.erfc(widened / math.sqrt(2)), abs=2e-5)


def test_blocks_are_windows_at_least():
    assert len(block_edges(0.0, 6000.0, 600.0)) - 1 == 10
    assert len(block_edges(0.0, 6e6, 600.0)) - 1 == 50
    edges = block_edges(100.0, 100.0 + 6500.0, 600.0)
    assert (edges[0], edges[-1]) == (100.0, 6600.0) and np.diff(edges).min() >= 600.0


@pytest.mark.parametrize(
    "low, high, sign, word",
    [(-1, 1, 1, "no difference"), (0.1, 1, 1, "better"), (0.1, 1, -1, "worse"), (-1, -0.1, 1, "worse"),
     (-1, -0.1, -1, "better"), (0, 0, 1, "no difference"), (0, 1, 1, "no difference"), (2, 2, -1, "worse")],
)  # fmt: skip
def test_words(low, high, sign, word):
    assert verdict(low, high, sign) == word


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    return home


@pytest.fixture(scope="module")
def found(home):
    """Two of the policies are the same fleet."""
    policies = ["hpa", "static(replicas=4)", "static(replicas=4,router=least-requests)"]
    trace = stored(home, rows(n=9000, hours=1.5), "plain")
    return evaluate(trace, policies, profile=str(home / "profile.json"), window_s=60.0, warmup_s=300.0, jobs=2)


def test_blocks_add_up_to_the_scores(home):
    """Requests, GPU-hours and dollars, the tail with them; percentiles within a bucket."""
    ready = prepare(
        stored(home, rows(n=9000, hours=1.5), "plain"), slos=(), attain=0.99, profile=str(home / "profile.json"),
        fleet=None, train_fraction=0.5, warmup_s=300.0, window_s=60.0, load=1.0, seed=0,
    )  # fmt: skip
    run = run_policy(parse_policy("hpa"), ready, Inputs(ready), lambda share: None)
    point = Draws.of(run.blocks, 0).point
    for metric in ("slo_attainment", "gpu_hours_provisioned", "cost_usd", "goodput_rps"):
        assert point[metric] == pytest.approx(run.scores[metric], rel=1e-6), metric
    assert run.scores["gpu_hours_tail"] > 0
    for metric in ("ttft_p50_s", "ttft_p99_s", "e2e_p99_s"):
        assert point[metric] == pytest.approx(run.scores[metric], rel=0.02), metric


def test_differences_are_exact_and_published(found):
    assert found.settings["intervals"]["blocks"] == 45
    assert found.differences.schema == pl.Schema(DIFFERENCES)
    rows_ = found.differences.filter(pl.col("metric") != OVERALL)
    assert rows_["low"].null_count() == 0
    assert ((rows_["value"] - rows_["reference"] - rows_["difference"]).abs() < 1e-12).all()
    EvaluationMetrics.model_validate(found.metrics())


def test_every_policy_is_compared(found):
    pairs = found.differences.group_by("relation").agg(pl.col("policy").unique())
    by = {relation: set(names) for relation, names in pairs.iter_rows()}
    baseline = found.differences.filter(pl.col("relation") == "baseline")["against"][0]
    assert by["baseline"] == set(found.scores["policy"]) - {baseline}
    assert by["same GPU-hours"] == {"hpa"}


def test_the_same_fleet_shows_no_difference(found):
    """By another name; and a static size's cost is known to the cent."""
    against = found.differences.filter(pl.col("relation") == "baseline")
    same = [against.filter(pl.col("policy") == name).drop("policy") for name in found.scores["policy"][1:3]]
    assert same[0].equals(same[1])
    costs = same[0].filter(pl.col("metric") == "gpu_hours_provisioned").row(0, named=True)
    assert costs["high"] - costs["low"] < 1e-9 + 0.05 * abs(costs["difference"])


def test_attainment_has_an_interval_of_its_own(found):
    for row in found.scores.iter_rows(named=True):
        assert 0 <= row["slo_attainment_low"] <= row["slo_attainment"] <= row["slo_attainment_high"] <= 1


def test_too_short_says_so(home):
    trace = stored(home, rows(n=9000, hours=1.5), "plain")
    few = evaluate(trace, ["static(replicas=4)"], baselines=["static-mean"], profile=str(home / "profile.json"),
                   window_s=300.0, warmup_s=300.0)  # fmt: skip
    assert few.settings["intervals"]["blocks"] < FEWEST_BLOCKS
    assert "too short for intervals" in few.settings["intervals"]["why"]
    assert few.differences["verdict"].null_count() == few.differences.height
    assert few.differences["difference"].null_count() < few.differences.height


def test_windows_have_none(home):
    assert evaluation().differences.is_empty()

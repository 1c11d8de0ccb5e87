"""Paired block bootstrap: its quantiles, its coverage by simulation, and its words."""

import json
import math

import numpy as np
import polars as pl
import pytest
from evaluation_data import evaluation
from three_hours import PROFILE, rows, stored

from lmaas.policies import evaluate, paired
from lmaas.policies.blocks import BUCKETS, Blocks, _histogram, block_edges, quantiles
from lmaas.policies.differences import BETTER, DIFFERENCES, OVERALL, pair, verdict, without_single
from lmaas.policies.inputs import Inputs
from lmaas.policies.paired import FEWEST_BLOCKS, Draws, interval, tails
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy
from lmaas.reports.schema import EvaluationMetrics


def blocks_of(block, latency, met, hours):
    """Blocks of one replay: per request its block, latencies (all the same) and whether it attained; GPU-hours.

    Every other request is of a tier of its own.
    """
    count = len(hours)
    counts = {name: _histogram(block, pl.Series(latency), count) for name in ("ttft_s", "tpot_s", "e2e_s")}
    n, attained = (np.bincount(block, weights=of, minlength=count).astype(float) for of in (np.ones(len(met)), met))
    batch = np.arange(len(met)) % 2 == 0
    of_batch = tuple(np.bincount(block, weights=of * batch, minlength=count) for of in (np.ones(len(met)), met))
    groups = {"tier=batch": of_batch}
    return Blocks(3600.0, n, attained, counts, hours, 2 * hours, 30 * attained, groups)


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


METRICS = (
    "slo_attainment", "ttft_p50_s", "tpot_p95_s", "e2e_p99_s", "gpu_hours_provisioned", "goodput_rps", "goodput_tok_s",
    "slo_attainment @ tier=batch",
)  # fmt: skip
SIGNS = {**BETTER, "slo_attainment @ tier=batch": 1}


def row(metric):
    return dict.fromkeys(DIFFERENCES) | {"policy": "hpa", "relation": "baseline", "against": "x", "metric": metric}


def words(one, other):
    draws = [Draws.of(blocks, 0) for blocks in (one, other)]
    found = {}
    for metric in METRICS:
        value, reference = (one.point[metric] for one in draws)
        found[metric] = verdict(*interval(metric, value, draws[0], reference, draws[1]), SIGNS[metric])
    return found


def test_coverage_without_a_difference(monkeypatch):
    """Nine times out of ten it says so: 250 pairs, eight metrics; 90 % ± 3 standard errors of each."""
    monkeypatch.setattr(paired, "DRAWS", 300)  # for speed
    rng = np.random.default_rng(1)
    same = dict.fromkeys(METRICS, 0)
    for _ in range(250):
        for metric, word in words(*two_replays(rng)).items():
            same[metric] += word == "no difference"
    assert all(0.9 - 0.057 <= n / 250 <= 0.9 + 0.057 for n in same.values()), same


def test_a_planted_difference_is_found(monkeypatch):
    monkeypatch.setattr(paired, "DRAWS", 300)  # for speed
    rng = np.random.default_rng(2)
    found = [words(*two_replays(rng, apart=0.15)) for _ in range(60)]
    for metric in (name for name in METRICS if name not in ("tpot_p95_s", "e2e_p99_s")):  # few requests make these
        said = [one[metric] for one in found]
        enough = 0.8 if " @ " in metric else 0.9  # a tier has half of the requests
        assert said.count("better") >= enough * len(said), metric
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
    ranks = (0.01, 0.5, 0.99)
    for rank, found in zip(ranks, quantiles(counts, np.arange(BUCKETS), ranks), strict=True):
        assert found[0] == pytest.approx(np.quantile(values, rank), rel=0.012)
    assert math.isnan(quantiles(np.zeros((1, BUCKETS)), np.arange(BUCKETS), (0.5,))[0][0])


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
    for metric in BETTER:
        within = 0.02 if metric.endswith("_s") else 1e-6
        assert point[metric] == pytest.approx(run.scores[metric], rel=within), metric
    assert run.scores["gpu_hours_tail"] > 0
    groups = 0
    for key, column in (("tier", "scored_tier"), ("service", "service")):
        for name, requests in run.rows.group_by(column):
            groups += 1
            assert point[f"slo_attainment @ {key}={name[0]}"] == pytest.approx(requests["attained"].mean(), rel=1e-12)
    assert groups == 5 == sum(" @ " in metric for metric in point)


def test_blocks_of_an_older_version_have_no_more_than_they_had(found):
    """TPOT and groups are left out, and the table says that they are; the rest is judged as before."""
    whole = found.blocks.filter(pl.col("policy") == "hpa").drop("policy")
    old = Blocks.read(whole.filter(pl.col("metric").str.contains("^(tpot_s|tokens|.* @ .*)$").not_()))
    new = Blocks.read(whole)
    scores = found.scores.row(by_predicate=pl.col("policy") == "hpa", named=True)
    names = {"policy": "hpa", "relation": "run", "against": "before"}
    rows_ = {row["metric"]: row for row in pair(names, scores, scores, Draws.of(new, 0), Draws.of(old, 0), 0.99)}
    assert rows_.keys() == {*BETTER, OVERALL}
    unknown = {name for name, row in rows_.items() if row["low"] is None} - {OVERALL}
    assert unknown == {"goodput_tok_s", *(name for name in BETTER if name.startswith("tpot"))}
    assert {rows_[name]["why"] for name in unknown} == {"not kept by blocks of time"}
    assert rows_["ttft_p95_s"]["verdict"] == "no difference"


def test_the_only_tier_is_not_told_twice():
    rows_ = [row(metric) for metric in ("cost_usd", "slo_attainment @ tier=batch", "slo_attainment @ service=a",
                                        "slo_attainment @ service=b", OVERALL)]  # fmt: skip
    left = without_single(pl.DataFrame(rows_, schema=DIFFERENCES))
    assert left["metric"].to_list() == [rows_[k]["metric"] for k in (0, 2, 3, 4)]


def test_undefined_in_most_draws_is_said():
    """Scores of a TPOT that no block has, and a tier without requests."""
    names = dict.fromkeys(("policy", "relation", "against"), "x")
    one, other = two_replays(np.random.default_rng(5))
    for made in (one, other):
        made.counts["tpot_s"][:] = 0
        made.groups["tier=batch"][0][:] = made.groups["tier=batch"][1][:] = 0
    draws = [Draws.of(made, 0) for made in (one, other)]
    rows_ = {row["metric"]: row for row in pair(names, {"tpot_p50_s": 1.0, "cost_usd": 2.0, "slo_attainment": 0.9,
             "gpu_hours_provisioned": 1.0}, {"tpot_p50_s": 2.0, "cost_usd": 2.0, "slo_attainment": 0.9,
             "gpu_hours_provisioned": 1.0}, *draws, 0.99)}  # fmt: skip
    assert (rows_["tpot_p50_s"]["verdict"], rows_["tpot_p50_s"]["why"]) == (None, "undefined in most draws")
    assert "slo_attainment @ tier=batch" not in rows_  # no requests, no attainment
    assert rows_["cost_usd"]["why"] is None


def test_differences_are_exact_and_published(found):
    assert found.settings["intervals"]["blocks"] == 45
    assert found.differences.schema == pl.Schema(DIFFERENCES)
    rows_ = found.differences.filter(pl.col("metric") != OVERALL)
    assert rows_["low"].null_count() == 0 == rows_["why"].count()
    shown = set(rows_["metric"])
    assert {name for name in shown if " @ " not in name} == set(BETTER)
    assert len(shown) == len(BETTER) + 5  # three tiers, two services
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
    why = few.differences.filter(pl.col("metric") != OVERALL)["why"]
    assert set(why) == {"under 20 windows"}
    assert few.differences["verdict"].null_count() == few.differences.height
    assert few.differences["difference"].null_count() < few.differences.height


def test_windows_have_none(home):
    assert evaluation().differences.is_empty()

"""Aladdin through the evaluator: no look-ahead, lanes, workers of its own choice, everything conserved."""

import json

import numpy as np
import polars as pl
import pytest
from test_evaluate_lanes import FLEET as LANES
from test_evaluate_lanes import PROFILE as LANE_PROFILE
from test_evaluate_lanes import SLO, lengths
from three_hours import HOURS, PROFILE, decisions, rows, scrambled, stored

from lmaas.policies import evaluate

UNTIL = HOURS * 3600 * 0.75  # half of the evaluated part
ALL = ["aladdin", "aladdin(ahead=false)", "aladdin(rebalance=false, linger_s=60, forecaster=last-value)"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("aladdin")


def run(home, name, table, policies, **more):
    (home / "p.json").write_text(json.dumps(PROFILE))
    trace = stored(home, table, name)
    return evaluate(
        trace, policies, baselines=["none"], profile=str(home / "p.json"), window_s=300.0,
        slo=("ttft<10s,tpot<200ms",), **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(home):
    return run(home, "plain", rows(), [*ALL, "aladdin(lengths=true)"], check=True)


@pytest.fixture(scope="module")
def other(home):
    return run(home, "other", scrambled(rows(), UNTIL), [*ALL, "aladdin(lengths=true)"])


def test_it_scales_and_attains(result):
    assert result.failures == {}
    scores = {row["policy"]: row for row in result.scores.iter_rows(named=True)}
    for policy in ALL:
        assert scores[policy]["scale_actions"] > 5
        assert scores[policy]["replicas_max"] > scores[policy]["replicas_min"]
    assert scores["aladdin"]["slo_attainment"] > 0.9
    notes = " ".join(result.notes)
    assert "N = ceil(" in notes


@pytest.mark.parametrize("policy", ALL)
def test_never_looks_ahead(result, other, policy):
    for mine, theirs in zip(decisions(result, policy, UNTIL), decisions(other, policy, UNTIL), strict=True):
        assert mine.height > 20
        assert mine.equals(theirs)


def test_the_look_ahead_test_can_fail(result, other):
    """Who is told true lengths extends nobody's; told of what comes after, it would place otherwise."""
    later = UNTIL + 600.0
    mine, theirs = (decisions(found, "aladdin(lengths=true)", later) for found in (result, other))
    assert not mine[1].equals(theirs[1])


@pytest.fixture(scope="module")
def split(home):
    rng, n = np.random.default_rng(1), 6000
    prompts, outputs = lengths(n, rng)
    table = pl.DataFrame(
        {
            "request_id": [f"r{k}" for k in range(n)], "arrival_s": np.cumsum(rng.exponential(0.03, n)),
            "service": ["chat"] * n, "input_tokens": prompts, "output_tokens": outputs.astype(np.int64),
        }
    )  # fmt: skip
    (home / "lanes.json").write_text(json.dumps(LANE_PROFILE | {"startup_s": 5.0}))
    (home / "lanes.yaml").write_text(LANES)
    return evaluate(
        stored(home, table, "lanes"), ["aladdin", "static-peak"], baselines=["none"], slo=SLO, warmup_s=0.0,
        profile=str(home / "lanes.json"), fleet=home / "lanes.yaml", check=True,
    )  # fmt: skip


def test_lanes_are_scaled_apart(split):
    assert split.failures == {}
    scores = {row["policy"]: row for row in split.scores.iter_rows(named=True)}
    assert scores["aladdin"]["slo_attainment"] > 0.9
    mean = dict(
        split.timeline.filter(pl.col("policy") == "aladdin")
        .group_by("lane")
        .agg(pl.col("provisioned").max())
        .iter_rows()
    )
    assert mean.keys() == {"prefill", "decode"}
    assert min(mean.values()) > 1
    notes = " ".join(split.notes)
    assert "chat/prefill: N = ceil(" in notes
    assert "chat/decode: N = ceil(" in notes


def test_it_chooses_its_workers(home):
    """Two GPUs a worker are given; of the shapes that ship one serves more a GPU, and what is set is said."""
    table = rows(n=3000).with_columns(service=pl.lit("chat"))
    trace = stored(home, table, "shapes")
    result = evaluate(
        trace, ["aladdin(workers=best)", "aladdin"], baselines=["none"], profile="llama-3.1-8b/h100/tp2", load=20.0
    )
    assert result.failures == {}
    assert result.settings["set_by_policy"]["aladdin(workers=best)"] == {"profiles": {"chat": "llama-3.1-8b/h100/tp1"}}
    hours = dict(result.scores.select("policy", "gpu_hours_provisioned").iter_rows())
    assert hours["aladdin(workers=best)"] < hours["aladdin"]


def test_windows_have_no_workers_to_pack(home):
    result = evaluate(
        stored(home, rows().gather_every(30), "few"), ["aladdin", "static-mean"], baselines=["none"], fidelity="window",
        profile="llama-3.1-8b/h100/tp1",
    )  # fmt: skip
    assert "take --fidelity request" in result.failures["aladdin"]

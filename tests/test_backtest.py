"""The recorded fleet's replay beside observed latencies."""

import json

import numpy as np
import polars as pl
import pytest
from evaluation_data import texts
from three_hours import PROFILE, rows, stored

from lmaas.policies import evaluate
from lmaas.policies.backtest import BACKTEST, told, worst_error
from lmaas.reports.schema import EvaluationMetrics
from lmaas.reports.sections import EVALUATE

FLEET = """
pools:
  - {service: chat, region: eu, replicas: {n}}
  - {service: code, region: eu, replicas: {n}}
"""
ASK = {"baselines": ["current"], "window_s": 300.0, "warmup_s": 600.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    for n in (1, 3):
        (home / f"{n}.yaml").write_text(FLEET.replace("{n}", str(n)))
    return home


@pytest.fixture(scope="module")
def requests():
    """Of two services in one region each; none yet observed."""
    return rows(n=4000, hours=1.5).with_columns(
        region=pl.lit("eu"), output_tokens=pl.when(pl.int_range(pl.len()) % 7 > 0).then("output_tokens").otherwise(1)
    )


@pytest.fixture(scope="module")
def observed(home, requests):
    """The latencies that the replay of one replica a pool gives all requests after the first hour."""
    found = evaluate(
        stored(home, requests, "bare"),
        [],
        fleet=home / "1.yaml",
        profile=str(home / "profile.json"),
        train_fraction=0.3,
        **ASK,
    )
    seen = found.requests["current"].select("request_id", "ttft_s", "e2e_s")
    return requests.join(seen, on="request_id", how="left", maintain_order="left")


def of(home, table, name, n=1, **more):
    return evaluate(
        stored(home, table, name),
        [],
        fleet=home / f"{n}.yaml",
        profile=str(home / "profile.json"),
        train_fraction=0.5,
        **(ASK | more),
    )


def test_a_fleet_that_did_what_the_replay_does_is_met(home, observed):
    """The warm-up begins later than when the latencies were made, so the first requests may differ a little."""
    found = of(home, observed, "met")
    table = found.backtest
    assert table.schema == BACKTEST
    assert table["service"].unique().sort().to_list() == [None, "chat", "code"]
    assert table["p50_error"].abs().max() < 0.01 and table["p95_error"].abs().max() < 0.02
    over_all = table.filter(pl.col("service").is_null())
    assert (over_all["n"] == found.requests["current"].height).sum() == 2  # TPOT: not of single tokens
    assert (table["observed_within"] - table["replayed_within"]).abs().max() < 0.01
    assert found.notes[0].startswith("back-test: the replay of current against ")
    assert EvaluationMetrics.model_validate(found.metrics()).backtest[0].n == table["n"][0]


def test_another_fleet_is_not(home, observed):
    found = of(home, observed, "other", n=3)
    error, which = worst_error(found.backtest)
    assert error < -0.1 and which.split()[0] in ("TTFT", "TPOT", "E2E")
    shown = texts(found)
    assert "the replay of the recorded fleet is off by" in shown and "The replay of current is off by" in shown


def test_errors_are_of_the_requests_observed(home, observed):
    """Twice the observed E2E: errors of half; a service that was not observed is not compared."""
    doubled = observed.with_columns(
        pl.when(pl.col("service") == "chat").then(pl.col("e2e_s") * 2),
        pl.when(pl.col("service") == "chat").then("ttft_s"),
    )
    found = of(home, doubled, "doubled")
    e2e = found.backtest.filter(pl.col("metric") == "e2e")
    np.testing.assert_allclose(e2e["p50_error"], -0.5, atol=0.01)
    np.testing.assert_allclose(e2e["median_error"], 0.5, atol=0.01)
    assert e2e["service"].to_list() == [None, "chat"]
    chat = found.requests["current"].filter(pl.col("service") == "chat").height
    assert e2e["n"].to_list() == [chat, chat]


def test_what_keeps_it_from_being_made_is_said(home, requests, observed):
    quiet = of(home, requests, "bare")
    assert quiet.backtest.is_empty() and not any("back-test" in note for note in quiet.notes)
    more = of(home, observed, "met", load=2.0)
    assert more.backtest.is_empty() and any("no back-test: at another load" in note for note in more.notes)
    profile = str(home / "profile.json")
    bare = evaluate(stored(home, observed, "met"), [], profile=profile, baselines=["static-mean"], window_s=300.0)
    assert any("with a fleet file that says how many replicas" in note for note in bare.notes)
    last = pl.int_range(pl.len()) >= pl.len() - 10
    few = observed.with_columns(pl.when(last).then("e2e_s"), pl.when(last).then("ttft_s"))
    assert any("too few of the evaluated requests" in note for note in of(home, few, "few").notes)


def test_nothing_to_say_of_nothing():
    nothing = pl.DataFrame(schema=BACKTEST)
    assert told(nothing) is None and worst_error(nothing) is None
    assert "backtest" in EVALUATE.builtin

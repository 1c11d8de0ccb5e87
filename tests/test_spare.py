"""N+1: a replica or a region lost in the busiest hour."""

import json

import numpy as np
import polars as pl
import pytest
from evaluation_data import texts
from three_hours import PROFILE, rows, stored

from lmaas.policies import evaluate
from lmaas.policies.spare import SPARE, _busiest, _most_used
from lmaas.reports.evaluate.spare import finding, told
from lmaas.reports.schema import EvaluationMetrics

SLOW = PROFILE | {"startup_s": 1200.0}  # what is lost is missed for a third of the hour
ASK = {"baselines": ["oracle"], "window_s": 300.0, "warmup_s": 300.0, "slo": ("ttft<2s, tpot<200ms",)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(SLOW))
    return home


@pytest.fixture(scope="module")
def trace(home):
    return stored(home, rows(n=18_000), "plain")


def of(home, trace, policy, **more):
    return evaluate(trace, [policy], profile=str(home / "profile.json"), **(ASK | more))


@pytest.fixture(scope="module")
def tight(home, trace):
    return of(home, trace, "static(replicas=1)")


def test_every_pool_and_region_is_lost_once(tight):
    table = tight.spare
    assert table.schema == SPARE
    assert table.filter(lost="replica").height == 4 and table.filter(lost="region")["region"].to_list() == ["eu", "us"]
    assert table["policy"].unique().to_list() == ["static(replicas=1)"]
    evaluated = tight.requests["static(replicas=1)"]
    for row in table.filter(lost="replica").iter_rows(named=True):
        inside = pl.col("arrival_s").is_between(row["start_s"], row["start_s"] + row["length_s"], closed="left")
        hour = evaluated.filter(inside, service=row["service"], region=row["region"])
        assert row["arrived"] == hour.height > 100
        assert row["attained"] == pytest.approx(hour["attained"].mean())
        assert row["replicas"] == 1


def test_the_only_replica_lost_is_felt_and_one_of_three_is_not(home, trace, tight):
    lost = tight.spare.filter(lost="replica")
    assert (lost["attained_lost"] < lost["attained"] - 0.1).all() and not lost["holds"].any()
    ample = of(home, trace, "static(replicas=3)").spare
    assert ample.filter(lost="replica")["holds"].all()


def test_a_region_lost_is_everybodys_loss(tight):
    """Its requests go to the other region, which has no room for them."""
    regions = tight.spare.filter(lost="region")
    assert (regions["attained_lost"] < regions["attained"] - 0.05).all() and not regions["holds"].any()
    assert regions["arrived"].n_unique() == 1


def test_what_is_beyond_the_base_is_taken_back_at_once(home, trace, tight):
    assert not tight.spare["lost"].is_in(["spot"]).any()  # a fixed fleet has nothing beyond
    scaling = of(home, trace, "hpa(target=4)")
    spot, one = (scaling.spare.filter(lost=what) for what in ("spot", "replica"))
    assert spot.height and (one["taken"] == 1).all() and spot["taken"].max() > 1
    for row in spot.iter_rows(named=True):
        at = scaling.timeline.filter(policy=row["policy"], service=row["service"], region=row["region"])
        beyond = at.with_columns(n=pl.col("active") - int(at["provisioned"].min() + 1e-9))
        then = beyond.filter(pl.col("start_s") == row["start_s"] - 150.0)["n"][0]
        assert 0 < row["taken"] <= round(then)
    assert (spot["attained_lost"] < spot["attained"] - 0.01).any()
    assert (spot["attained_lost"] < spot["attained"] + 0.01).all()
    assert "taken back at once" in texts(scaling)


def test_it_is_reported(tight):
    shown = texts(tight)
    assert "When something fails (N+1)" in shown and "N+1: with one replica lost at its busiest hour 0 of 4" in shown
    assert len(EvaluationMetrics.model_validate(tight.metrics()).spare) == 6
    row = {"service": "s", "region": "r", "lost": "replica", "attained": 0.9, "attained_lost": 0.9, "holds": True}
    felt = {"service": "t", "attained": 1.0, "attained_lost": 0.95, "holds": False}
    said = told(pl.DataFrame([row, row | felt, row | {"lost": "region", "attained_lost": 0.5}]))
    losses = pl.DataFrame([row, row | felt, row | {"lost": "region", "attained_lost": 0.5}])
    assert finding(losses) == "with one replica lost 1 of 2 pools hold; with a region lost 1 of 1 regions hold"
    assert (
        "1 of 2 pools hold; the worst, t/r, then attains 95" in said and "with r lost for the busiest hour 50" in said
    )


def test_one_pool_has_no_other_region_to_lose(home, trace):
    one = of(home, stored(home, rows(n=3000).with_columns(region=pl.lit("eu")), "one"), "static(replicas=3)").spare
    assert one["lost"].to_list() == ["replica", "replica"]


def test_nothing_is_replayed_without_baselines(home, trace):
    assert of(home, trace, "static(replicas=2)", baselines=["none"]).spare.is_empty()


def test_the_busiest_hour_by_hand():
    class Ready:
        cut_s = 100.0

    at = np.concatenate([np.full(40, 150.0), np.full(35, 3800.0), np.full(5, 7400.0)])
    table = pl.DataFrame({"arrival_s": at, "input_tokens": np.where(at > 7000, 10_000, np.where(at > 3000, 20, 10))})
    table = table.with_columns(output_tokens=pl.lit(1))
    assert _busiest(table, Ready(), 3600.0) == 3700.0  # the third has few requests, though most tokens
    assert _busiest(table.head(10), Ready(), 3600.0) is None


def test_the_replica_with_most_requests_at_that_moment():
    table = pl.DataFrame(
        {
            "pool": ["p"] * 6, "replica": [0, 0, 0, 1, 1, None], "arrival_s": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            "e2e_s": [1.0, 1.0, 1.0, 10.0, 10.0, None],
        }
    )  # fmt: skip
    assert _most_used(table, "p", 5.0) == [1]
    assert _most_used(table, "p", 50.0) == [0, 1]  # nothing runs: the one that served most
    assert _most_used(table, "q", 5.0) == []

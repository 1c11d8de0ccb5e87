"""SageServe's policies replayed: no look-ahead, what they set of the fleet and what its file keeps, silos, spot."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from three_hours import HOURS, PROFILE, decisions, rows, scrambled, stored

from lmaas.analysis.errors import UserError
from lmaas.policies import evaluate
from lmaas.policies.ahead import Horizon, forecast_ahead
from lmaas.policies.brought import in_silos, suited
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy

PLANNED = ["sageserve-lt-i", "sageserve-lt-u", "sageserve-lt-ua"]
ALL = [*PLANNED, "sageserve-reactive", "sageserve-siloed"]
UNTIL = 0.85 * HOURS * 3600
CUT = 0.5 * HOURS * 3600


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    return home


def run(home, name, table, policies, fleet=None, **more):
    path = None
    if fleet is not None:
        path = home / f"{name}.yaml"
        path.write_text(fleet)
    return evaluate(
        stored(home, table, name), policies, baselines=["none"], profile=str(home / "profile.json"), fleet=path,
        window_s=300.0, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(home):
    return run(home, "plain", rows(), [*ALL, "sageserve-lt-ua(forecaster=truth)"], check=True)


@pytest.fixture(scope="module")
def ready(home):
    return prepare(
        stored(home, rows(), "plain"), slos=(), attain=0.99, profile=str(home / "profile.json"), fleet=None,
        train_fraction=0.5, warmup_s=600.0, window_s=300.0, load=1.0, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def other(home):
    return run(home, "scrambled", scrambled(rows(), UNTIL), [*ALL, "sageserve-lt-ua(forecaster=truth)"])


@pytest.mark.parametrize("policy", ALL)
def test_never_looks_ahead(result, other, policy):
    for mine, theirs in zip(decisions(result, policy, UNTIL), decisions(other, policy, UNTIL), strict=True):
        assert mine.height > 20
        assert mine.equals(theirs)


def test_who_is_told_the_truth_is_marked(result):
    marked = dict(result.scores.select("policy", "foresight").iter_rows())
    assert marked == {**dict.fromkeys(ALL, False), "sageserve-lt-ua(forecaster=truth)": True}


@pytest.mark.parametrize("policy", ALL)
def test_every_request_ends_and_spare_replicas_are_lent(result, policy):
    row = result.scores.row(by_predicate=pl.col("policy") == policy, named=True)
    assert row["completed"] + row["rejected"] == row["arrived"]
    assert row["gpu_hours_donated"] > 0
    assert row["scale_actions"] > 0


def test_batch_requests_are_held_where_a_pool_is_shared(result):
    for policy in ALL:
        held = result.requests[policy].group_by("tier").agg(pl.col("hold_s").max())
        longest = dict(held.iter_rows())
        assert (longest["batch"] > 0) == (policy != "sageserve-siloed")
        assert longest["interactive-fast"] == longest["interactive-normal"] == longest[None] == 0


class TestWhatTheyBring:
    def test_is_said_and_stands_beside_the_fleet(self, result):
        sets = result.settings["set_by_policy"]["sageserve-lt-u"]
        assert sets["order"] == "promotion"
        assert sets["region_choice"] == {"rule": "threshold", "threshold": 0.7}
        assert sets["hold"] == {"tiers": ["batch"], "lower": 0.5, "upper": 0.6, "releases": (2, 1)}
        assert result.settings["fleet"]["order"] == "fcfs"  # what other policies run on
        assert any(
            note.startswith("sageserve-lt-u: sets where the fleet file does not: queues") for note in result.notes
        )
        assert json.dumps(result.metrics())

    def test_the_fleet_file_goes_first(self, home):
        fleet = "{order: fcfs, region_choice: home, hold: {tiers: [interactive-normal], lower: 0.9, upper: 0.9}}"
        found = run(home, "told", rows(2), ["sageserve-reactive"], fleet)
        assert "set_by_policy" not in found.settings
        held = dict(found.requests["sageserve-reactive"].group_by("tier").agg(pl.col("hold_s").max()).iter_rows())
        assert held["batch"] == 0 < held["interactive-normal"]

    def test_leaves_other_policies_as_they_were(self, ready):
        named = parse_policy("hpa")
        assert suited(ready, named.policy) == (ready, {})

    @pytest.mark.parametrize("name", ALL)
    def test_window_fidelity_refuses_them(self, home, name):
        with pytest.raises(UserError, match="take --fidelity request"):
            run(home, "plain", rows(), [name], fidelity="window")


class TestSilos:
    def test_split_every_pool_and_its_requests(self, ready):
        split = in_silos(ready, 0.2)
        names = [str(pool) for pool in split.fleet.pools]
        assert names[:4] == [name.replace("shared", "interactive") for name in map(str, ready.fleet.pools)]
        assert names[4:] == [name.replace("shared", "batch") for name in map(str, ready.fleet.pools)]
        batch = split.requests["scored_tier"] == "batch"
        assert (split.requests["pool"] >= 4).equals(batch)
        assert (split.requests["pool"] % 4).equals(ready.requests["pool"])

    def test_a_request_stays_in_its_silo_whatever_its_region(self, result):
        pools = result.requests["sageserve-siloed"].select("tier", lane=pl.col("pool").str.split("/").list.last())
        lanes = {tier: set(part["lane"]) for (tier,), part in pools.partition_by("tier", as_dict=True).items()}
        assert lanes.pop("batch") == {"batch"}
        assert list(lanes.values()) == [{"interactive"}] * 3  # two tiers, and those without one
        mine = result.timeline.filter(pl.col("policy") == "sageserve-siloed")
        assert set(mine["lane"]) == {"batch", "interactive"}

    def test_a_bound_is_shared_out(self, ready):
        pools = (replace(ready.fleet.pools[0], maximum=10), *ready.fleet.pools[1:])
        split = in_silos(replace(ready, fleet=replace(ready.fleet, pools=pools)), 0.2).fleet.pools
        assert (split[0].maximum, split[4].maximum) == (8, 2)
        assert split[0].initial + split[4].initial >= 2
        alone = (replace(ready.fleet.pools[0], maximum=1), *ready.fleet.pools[1:])
        with pytest.raises(ValueError, match=r"silos need two replicas; .* has at most one"):
            in_silos(replace(ready, fleet=replace(ready.fleet, pools=alone)), 0.2)

    def test_a_region_without_room_for_both_halves_is_refused(self, ready):
        profile = ready.fleet.pools[0].profile
        region, needs = ready.fleet.pools[0].region, 4 * profile.gpus_per_replica  # two services, two halves each
        enough = replace(ready.fleet, inventory={region: {profile.gpu or "": needs}})
        assert len(in_silos(replace(ready, fleet=enough), 0.2).fleet.pools) == 8
        short = replace(ready.fleet, inventory={region: {profile.gpu or "": needs - 1}})
        with pytest.raises(
            ValueError, match=f"half of every pool: {needs} GPUs of .* in {region}, which has {needs - 1}"
        ):
            in_silos(replace(ready, fleet=short), 0.2)


def test_faults_and_minima(home):
    """A region that is gone for a while, a pool's replica, and more replicas at least than are needed."""
    at = 0.7 * HOURS * 3600
    fleet = f"""
pools: [{{service: chat, region: eu, min: 4, max: 9}}, {{service: code, region: us, min: 0}}]
faults: [{{at: {at}, region: us, for: 10m}}, {{at: {at + 900}, pool: chat/eu, replica: 0}}]
"""
    found = run(home, "faults", rows(), ALL, fleet, check=True)
    assert not found.failures
    for policy in ALL:
        assert (found.requests[policy]["status"] == "ok").all()
    chat = found.timeline.filter((pl.col("service") == "chat") & (pl.col("region") == "eu"))
    counts = chat.group_by("policy", "start_s").agg(pl.col("provisioned").sum())
    assert counts.filter(pl.col("start_s") < at)["provisioned"].min() >= 4


class TestForecastAhead:
    HORIZON = Horizon()

    def test_is_issued_hourly_for_every_minute(self, ready):
        table = forecast_ahead(ready.requests, self.HORIZON, cut_s=CUT, end_s=HOURS * 3600, model="last-value")
        assert table["issued_s"].unique().sort().to_list() == [CUT, CUT + 3600]
        assert table.group_by("issued_s", "service", "origin").len()["len"].unique().to_list() == [60]
        first = table.filter(pl.col("issued_s") == CUT)
        assert first["start_s"].unique().sort().to_list() == [CUT + 60.0 * k for k in range(60)]

    def test_last_value_is_the_minute_before(self, ready):
        table = forecast_ahead(ready.requests, self.HORIZON, cut_s=CUT, end_s=HOURS * 3600, model="last-value")
        before = ready.requests.filter(
            pl.col("arrival_s").is_between(CUT - 60, CUT, closed="left") & (pl.col("scored_tier") != "batch")
        )
        expected = before.group_by("service", "origin").agg(pl.col("input_tokens").sum())
        found = table.filter((pl.col("issued_s") == CUT) & (pl.col("start_s") == CUT + 1200))
        both = found.join(expected, on=["service", "origin"])
        assert both.height == 4
        assert (both["value"] == both["input_tokens"]).all()

    @pytest.mark.parametrize("model", ["arima-312", "ses", "last-value"])
    def test_never_looks_ahead(self, ready, model):
        def issued(requests):
            table = forecast_ahead(requests, self.HORIZON, cut_s=CUT, end_s=HOURS * 3600, model=model)
            return table.filter(pl.col("issued_s") <= CUT + 3600)

        after = pl.col("arrival_s") > CUT + 3600
        other = ready.requests.with_columns(
            input_tokens=pl.when(after).then(pl.col("input_tokens") * 7 + 1).otherwise("input_tokens")
        )
        assert issued(other).equals(issued(ready.requests))

    def test_says_where_the_model_is_another(self):
        """Ten minutes of history are too little for ARIMA; of the two series one has an hour."""
        arrival_s = np.concatenate([np.arange(0.0, 3600, 10), np.arange(3000.0, 3600, 10)])
        requests = pl.DataFrame(
            {
                "arrival_s": arrival_s, "service": ["a"] * 360 + ["b"] * 60, "region": "eu",
                "input_tokens": np.random.default_rng(0).integers(1, 900, 420), "scored_tier": "interactive-fast",
            }
        )  # fmt: skip
        notes = set()
        given = {"cut_s": 3600.0, "end_s": 3700.0, "model": "arima-312"}
        assert forecast_ahead(requests, self.HORIZON, **given, notes=notes)["service"].n_unique() == 2
        said = "1 of 2 series had under 20 windows or did not change; the last value until then"
        assert f"arima-312, 60 s windows: {said}" in notes

    def test_without_history_there_is_none(self, ready):
        table = forecast_ahead(
            ready.requests.clear(), self.HORIZON, cut_s=CUT, end_s=HOURS * 3600, model="last-value"
        )  # fmt: skip
        assert table.is_empty()


def test_a_region_without_machines_plans_what_it_holds(home):
    fleet = "regions: {eu: {gpus: {GPU: 8}}, us: {gpus: {GPU: 8}}}"
    profile = PROFILE | {"gpu": "GPU", "name": "test/gpu"}
    (home / "gpu.json").write_text(json.dumps(profile))
    path = home / "small.yaml"
    path.write_text(fleet)
    found = evaluate(
        stored(home, rows(), "plain"), ["sageserve-lt-i"], baselines=["none"], profile=str(home / "gpu.json"),
        fleet=path, window_s=300.0,
    )  # fmt: skip
    assert not found.failures
    assert any("no plan met the hour's demand: region cap" in note for note in found.notes)
    most = found.timeline.group_by("region", "start_s").agg(pl.col("provisioned").sum())["provisioned"].max()
    assert np.isclose(most, 4.0)  # of two GPUs each

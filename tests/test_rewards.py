"""What a trace rewards: planted traces give the family they are made for, and what is not known is said to be."""

import numpy as np
import polars as pl
import pytest
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.workload.rewards import gains
from lmaas.reports.analyze import overview

HOUR_S = 3600.0
FAMILIES = {"scaling", "prediction", "pooling", "heterogeneous deployment", "deferral", "cache-aware routing"}


@pytest.fixture
def row(tmp_path):
    """The row of a family for a trace table."""

    def _row(rows, family, **more):
        found = analyze(storer(tmp_path)(rows, **more)).tables["rewards"]
        assert set(found["family"]) == FAMILIES
        return found.row(by_predicate=pl.col("family") == family, named=True)

    return _row


def evenly(per_hour):
    """Arrivals spread evenly within each hour, so many of them."""
    return np.concatenate([HOUR_S * (h + (np.arange(n) + 0.5) / n) for h, n in enumerate(per_hour)])


def test_scaling_is_rewarded_by_the_distance_of_peak_and_mean(row):
    flat = row(table(arrival_s=evenly([600] * 24)), "scaling")
    assert (flat["verdict"], flat["value"]) == ("little", pytest.approx(0, abs=0.01))
    peak = row(table(arrival_s=evenly([600] * 23 + [6000])), "scaling")
    used = (23 * 600 + 6000) / 24 / 6000
    # arrivals that come by chance would leave a constant load of 137 a window used to 82 %
    assert peak["value"] == pytest.approx(1 - used / 0.82, abs=0.01)
    assert peak["verdict"] == "much" and "at most 83%" in peak["says"] and f"{used:.0%} used" in peak["says"]


@pytest.mark.parametrize("rate, span_s", [(2.0, 3 * HOUR_S), (0.05, 14 * 24 * HOUR_S)])
def test_pure_noise_rewards_nothing(tmp_path, rate, span_s):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        n = rng.poisson(rate * span_s)
        region = rng.choice(["a", "b", "c"], n)
        lengths = {c: 1 + rng.lognormal(5, 1, n).astype(int) for c in ("input_tokens", "output_tokens")}
        rows = table(arrival_s=np.sort(rng.random(n)) * span_s, region=region, tenant=rng.choice(40, n).astype(str))
        found = analyze(
            storer(tmp_path)(rows.with_columns(**{k: pl.Series(v).cast(pl.UInt32) for k, v in lengths.items()}))
        )
        verdicts = dict(found.tables["rewards"].select("family", "verdict").iter_rows())
        assert {verdicts[f] for f in ("scaling", "pooling")} == {"little"}
        assert verdicts["prediction"] in ("little", "unknown")  # three hours are too short for an hour ahead
        assert not any("Sharing capacity" in f or f.startswith("Tenant") for f in found.findings)


def test_types_that_differ_in_prefill_alone_are_worth_machines_of_their_own(row):
    rng = np.random.default_rng(3)
    long = rng.random(10_000) < 0.3  # 8,000 tokens in, 50 out, against 200 and 600: about as much memory over time
    inputs = np.where(long, 8000, 200) * rng.lognormal(0, 0.4, 10_000)
    outputs = np.where(long, 50, 600) * rng.lognormal(0, 0.4, 10_000)
    at = np.sort(rng.random(10_000)) * 2 * HOUR_S
    rows = table(arrival_s=at, input_tokens=inputs.astype(int), output_tokens=outputs.astype(int))
    found = row(rows, "heterogeneous deployment")
    prefill = inputs + 2e-5 * inputs**2
    mean = np.where(long, prefill[long].mean(), prefill[~long].mean())
    assert found["value"] == pytest.approx(mean.std() / mean.mean(), rel=0.02)
    assert found["verdict"] == "much" and "prefill work" in found["says"]


def test_a_handful_of_requests_has_no_types(row):
    few = row(table(arrival_s=[0.0, 1.0, 2.0]), "heterogeneous deployment")
    assert (few["verdict"], few["value"]) == ("unknown", None)


def test_deferral_is_rewarded_by_batch_work_in_the_peaks(row):
    at = evenly([600] * 12 + [1800] * 12)
    batch = (at >= 12 * HOUR_S) & (np.arange(len(at)) % 3 > 0)  # what the second half has more is batch
    rows = table(arrival_s=at, tier=np.where(batch, "batch", "interactive-fast"))
    # urgent work is 600 an hour throughout, the mean 1,200 of a peak of 1,800
    assert row(rows, "deferral")["value"] == pytest.approx(1 - 1200 / 1800, abs=0.02)
    urgent = row(rows.with_columns(tier=pl.lit("interactive-fast").cast(pl.Categorical())), "deferral")
    assert (urgent["value"], urgent["verdict"]) == (pytest.approx(0), "little")
    unknown = row(rows.with_columns(tier=pl.lit(None).cast(pl.Categorical())), "deferral")
    assert (unknown["value"], unknown["verdict"]) == (None, "unknown")
    assert "no tier" in unknown["says"]


def test_caches_are_rewarded_by_prefixes_that_repeat(row):
    at = np.arange(100.0)
    same = table(arrival_s=at, input_tokens=[41] * 100, block_hashes=[[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]] * 100)
    found = row(same, "cache-aware routing", block_size=4)
    assert (found["value"], found["verdict"]) == (pytest.approx(0.99 * 40 / 41), "much")
    assert row(table(arrival_s=at), "cache-aware routing")["verdict"] == "unknown"


def test_families_stand_in_the_order_of_their_reward(tmp_path):
    found = analyze(storer(tmp_path)(table(arrival_s=evenly([600] * 23 + [6000])))).tables["rewards"]
    order = ["much", "some", "little", "unknown"]
    assert found["verdict"].to_list() == sorted(found["verdict"], key=order.index)
    assert gains(found).startswith("Much to gain from scaling")


@pytest.mark.parametrize("arrival_s", [[0.0], [7.0, 7.0], [0.0, 1e9]])
def test_a_handful_of_requests_is_told_nothing(row, arrival_s):
    for family in FAMILIES - {"scaling", "heterogeneous deployment"}:
        assert row(table(arrival_s=arrival_s), family)["verdict"] == "unknown", family


def test_forecasts_of_less_than_a_start_takes_do_not_count(row):
    rng = np.random.default_rng(4)
    hour = table(arrival_s=np.sort(rng.random(20_000) * HOUR_S))
    assert row(hour, "prediction")["verdict"] == "unknown"
    day = np.sort(np.concatenate([rng.random(3000) * 600 + 1200 * k for k in range(216)]))  # on and off, 20 min each
    found = row(table(arrival_s=day), "prediction")
    assert found["value"] is not None and "last value" in found["says"]


def test_what_is_rewarded_is_among_the_first_things_said_and_the_overview_is_short(tmp_path):
    rng = np.random.default_rng(1)
    at = np.sort(rng.random(50_000)) * 4 * 24 * HOUR_S
    lengths = {c: 1 + rng.pareto(1.5, len(at)) * 300 for c in ("input_tokens", "output_tokens")}
    latencies = {c: rng.gamma(2, 0.1, len(at)) for c in ("ttft_s", "e2e_s")}
    tenant = np.where(rng.random(len(at)) < 0.3, "big", rng.choice(40, len(at)).astype(str))
    found = analyze(storer(tmp_path)(table(arrival_s=at, tenant=tenant, **lengths, **latencies)))
    assert found.findings[1].startswith("What policies can gain here at most: ")
    shown = overview.section(found)
    more = len(found.findings) - overview.SHOWN
    assert more > 0 and shown.notes[-1] == f"{more} more in the sections below and in metrics.json."
    assert (shown.finding, *shown.notes[:-1]) == found.findings[: overview.SHOWN]
    assert found.metrics()["findings"] == list(found.findings)

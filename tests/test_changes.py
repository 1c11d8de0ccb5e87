"""Changes of level and drift: planted ones are found, noise, rhythm and autocorrelation are none."""

import numpy as np
import polars as pl
import pytest
from series_data import DAY_S, autoregressive, daily, finest

from lmaas.analysis.workload import changes
from lmaas.analysis.workload.changes import change_points, slope_interval
from lmaas.analysis.workload.series import rhythm


def found(counts, step_s=60.0, clock_s=None, **tokens):
    return changes.changes(finest(counts, **tokens), step_s, 0.0, len(counts) * step_s, clock_s)


@pytest.mark.parametrize(("n", "rate"), [(100, 30), (600, 200), (2500, 25)])
def test_stationary_poisson_changes_nowhere(n, rate):
    counts = [np.random.default_rng(s).poisson(rate, n) for s in range(20)]
    assert sum(len(change_points(np.log(c + 0.5))) for c in counts) <= 1


@pytest.mark.parametrize("times", [0.6, 1.3, 3.0])
def test_planted_change_is_found_at_its_place(times):
    for seed in range(10):
        rate = np.full(900, 100.0)
        rate[300:] *= times
        at = change_points(np.log(np.random.default_rng(seed).poisson(rate) + 0.5))
        assert len(at) == 1 and abs(at[0] - 300) <= 4


def test_slow_wandering_is_not_cut_into_levels():
    many = [len(change_points(autoregressive(2000, 0.5, np.random.default_rng(s)))) for s in range(20)]
    assert np.mean(many) < 0.1


def test_a_burst_is_no_change_of_level():
    for seed in range(10):
        rate = np.full(1300, 120.0)
        rate[300:302] *= 12
        assert change_points(np.log(np.random.default_rng(seed).poisson(rate) + 0.5)) == []


def test_a_small_change_is_not_told():
    y = np.random.default_rng(0).normal(size=2000) * 0.01
    y[700:] += 0.05
    assert change_points(y) == []


def test_changes_of_rate_and_lengths_are_told_apart():
    rng = np.random.default_rng(6)
    rate, length = np.full(1500, 50.0), np.full(1500, 1000.0)
    rate[500:] *= 1.8
    length[1000:] *= 0.5
    tables = found(rng.poisson(rate), input_tokens=length * rng.lognormal(0, 0.05, 1500), output_tokens=20.0)
    rows = {r["metric"]: r for r in tables["changes"].iter_rows(named=True)}
    assert set(rows) == {"rate", "input_per_request"} and len(tables["changes"]) == 2
    a, b = rows["rate"], rows["input_per_request"]
    assert (a["at_s"], b["at_s"]) == (pytest.approx(30_000, abs=240), pytest.approx(60_000, abs=240))
    assert (a["change"], b["change"]) == (pytest.approx(0.8, abs=0.03), pytest.approx(-0.5, abs=0.02))
    assert (a["before"], a["after"]) == (pytest.approx(50 / 60, rel=0.02), pytest.approx(90 / 60, rel=0.02))
    assert b["before"] == pytest.approx(1000, rel=0.02)
    assert all(r["change"] == pytest.approx(r["after"] / r["before"] - 1) for r in rows.values())


def test_a_rhythm_is_no_change_and_hides_none():
    rng = np.random.default_rng(7)
    rate = 200 * daily(8, step_s=600)
    quiet = found(rng.poisson(rate), 600.0)
    assert len(quiet["changes"]) == 0 and not quiet["trends"]["clear"][0]
    assert quiet["trends"]["rhythm_removed"][0] == "the hour of the day"
    rate[5 * 144 + 60 :] *= 1.5
    row = found(rng.poisson(rate), 600.0)["changes"].row(0, named=True)
    assert row["at_s"] == pytest.approx((5 * 144 + 60) * 600, abs=1200)
    assert row["change"] == pytest.approx(0.5, abs=0.05)


def test_weekends_are_rhythm_where_the_clock_is_known():
    t = np.arange(21 * 144) * 600.0
    rate = 300 * daily(21, step_s=600) * np.where(t // DAY_S % 7 >= 5, 0.5, 1.0)
    y = np.log(np.random.default_rng(8).poisson(rate) + 0.5)
    pattern, said = rhythm(y, 600.0, 0.0, 0.0)
    assert said == "the hour of the day and weekends"
    assert np.std(y - pattern) < 0.12 < np.std(y)
    assert rhythm(y, 600.0, 0.0, None)[1] == "the hour of the day"
    assert rhythm(y[:288], 600.0, 0.0, 0.0) == (pytest.approx(np.zeros(288)), "")


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_interval_of_a_slope_holds_under_autocorrelation(rho):
    covered = [
        abs(a) < half
        for a, half in (slope_interval(autoregressive(800, rho, np.random.default_rng(s))) for s in range(300))
    ]
    assert 0.89 < np.mean(covered) <= 1


def test_a_planted_trend_is_found_per_day():
    growth = 1.1 ** (np.arange(6 * 144) / 144)
    tables = found(np.random.default_rng(9).poisson(400 * growth), 600.0)
    row = tables["trends"].row(by_predicate=pl.col("metric") == "rate", named=True)
    assert row["clear"] and row["per_day"] == pytest.approx(0.1, abs=0.01)
    assert row["per_day_low"] < 0.1 < row["per_day_high"]
    assert row["change"] == pytest.approx(1.1**6 - 1, abs=0.06)
    assert not tables["trends"].row(by_predicate=pl.col("metric") == "input_per_request", named=True)["clear"]


def test_an_hour_has_no_growth_per_day():
    trends = found(np.random.default_rng(1).poisson(50, 60))["trends"]
    assert trends["per_day"].null_count() == len(trends) and trends["change"].null_count() == 0


def test_lengths_of_mostly_empty_windows_are_not_told():
    counts = np.zeros(300, dtype=int)
    counts[::3] = 90
    assert found(counts)["trends"]["metric"].to_list() == ["rate"]


@pytest.mark.parametrize("counts", [[], [5], [100] * 20, [0] * 5000 + [1]])
def test_too_little_gives_no_table(counts):
    assert found(counts) == {}


def test_constant_load_neither_changes_nor_drifts():
    tables = found([50] * 500)
    assert len(tables["changes"]) == 0 and not tables["trends"]["clear"].any()

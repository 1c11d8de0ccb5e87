"""Rhythm and predictability: planted seasons, weekends and forecasts that can and cannot gain."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from series_data import DAY_S, daily, finest
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.workload import rhythm
from lmaas.analysis.workload.predictability import forecasts, predictability
from lmaas.analysis.workload.temporal import COLUMNS

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


def weeks(n, weekend=0.4, rate=6.0):
    t = np.arange(n * 7 * 1440) * 60.0
    return 60 * rate * daily(7 * n, step_s=60) * np.where(t // DAY_S % 7 >= 5, weekend, 1.0)


def test_a_planted_season_is_strong_and_noise_is_not():
    rng = np.random.default_rng(0)
    day = rhythm.season_strength(finest(rng.poisson(weeks(2, 1.0))), 60.0, 0.0, 14.0 * DAY_S)
    rows = {r["component"]: r for r in day.iter_rows(named=True)}
    assert rows["day"]["strength"] > 0.95 and rows["day"]["cycles"] == 14
    assert rows["week"]["cycles"] == 2 and rows["trend"]["cycles"] is None
    flat = rhythm.season_strength(finest(rng.poisson(np.full(14 * 1440, 60.0))), 60.0, 0.0, 14.0 * DAY_S)
    for r in flat.iter_rows(named=True):
        assert r["strength"] == pytest.approx(r["by_chance"], abs=0.2), r["component"]
    assert rhythm.season_strength(finest(rng.poisson(np.full(2 * 1440, 60.0))), 60.0, 0.0, 2.0 * DAY_S) is None
    assert rhythm.season_strength(finest(np.full(4 * 1440, 60)), 60.0, 0.0, 4.0 * DAY_S) is None


def test_weekends_and_hours_of_the_week_are_those_planted():
    counts = np.random.default_rng(1).poisson(weeks(2))
    for shift_s in (0.0, 2.5 * 3600):  # the trace begins so long after Monday midnight
        tables = rhythm.calendar(finest(np.roll(counts, -int(shift_s / 60))), 60.0, 0.0, 14.0 * DAY_S, shift_s)
        rows = {r["kind"]: r for r in tables["weekdays"].iter_rows(named=True)}
        assert rows["weekend"]["mean_rps"] / rows["weekday"]["mean_rps"] == pytest.approx(0.4, rel=0.02)
        assert rows["weekend"]["days"] == 4 and rows["weekday"]["days"] == (10 if shift_s == 0 else 9)
        assert all(r["busiest_hour"] in (5, 6) and r["input_per_request"] == 100 for r in rows.values())
        hours = tables["hour_of_week"]
        assert len(hours) == 168 and hours["hours"].sum() == pytest.approx(14 * 24)
        want = counts.reshape(2, 168, 60).sum(axis=2).mean(axis=0) / 3600
        assert hours["mean_rps"].to_numpy() == pytest.approx(want)


def test_the_calendar_needs_a_clock_and_a_weekend():
    state = finest(np.full(3 * 1440, 5))
    assert rhythm.calendar(state, 60.0, 0.0, 3.0 * DAY_S, None) == {}
    assert set(rhythm.calendar(state, 60.0, 0.0, 3.0 * DAY_S, 0.0)) == {"hour_of_week"}
    assert set(rhythm.calendar(state, 60.0, 0.0, 3.0 * DAY_S, 4.0 * DAY_S)) == {"hour_of_week", "weekdays"}
    assert rhythm.calendar(state.head(300), 60.0, 0.0, 300 * 60.0, 0.0) == {}


def test_forecasts_see_only_what_has_ended():
    rng = np.random.default_rng(2)
    values = rng.poisson(50, (2, 400)).astype(float)
    targets, ahead = np.arange(200, 260), 6
    later = values.copy()
    later[:, 230 - ahead + 1 :] += 1000  # what follows the last window known when 230 is forecast
    for (name, a), (_, b) in zip(
        forecasts(values, 600.0, targets, ahead), forecasts(later, 600.0, targets, ahead), strict=True
    ):
        assert (a[:, :31] == b[:, :31]).all(), name
        assert name == "day" or not (a == b).all(), name


def test_a_regular_rhythm_is_foretold_and_poisson_noise_is_the_floor():
    counts = np.random.default_rng(3).poisson(weeks(2, 0.5))
    found = predictability(finest(counts), 60.0, 0.0, 14.0 * DAY_S)
    assert found.group_by("metric", "horizon_s").agg(pl.col("best").sum())["best"].to_list() == [1] * 4
    hour = found.filter(metric="requests", horizon_s=3600.0)
    of = {r["method"]: r for r in hour.iter_rows(named=True)}
    assert of["week"]["best"] and of["week"]["to_last_value"] < 0.5
    assert of["week"]["noise"] < of["week"]["wape"] < 2 * of["week"]["noise"]
    assert of["last-value"]["to_last_value"] == 1
    ten = counts.reshape(-1, 10).sum(axis=1)
    half = len(ten) // 2
    assert of["last-value"]["wape"] == pytest.approx(np.abs(ten[half:] - ten[half - 6 : -6]).sum() / ten[half:].sum())
    assert (of["last-value"]["window_s"], of["last-value"]["n"]) == (600.0, half)


def test_the_last_value_is_not_beaten_on_a_random_walk():
    rng = np.random.default_rng(4)
    level = 400 * np.exp(np.cumsum(rng.normal(size=600) * 0.15))
    found = predictability(finest(rng.poisson(level)), 60.0, 0.0, 36_000.0)
    assert found.filter("best")["to_last_value"].min() > 0.9


@pytest.mark.parametrize("counts", [[], [9], [100] * 10])
def test_too_little_is_not_forecast(counts):
    assert predictability(finest(counts), 60.0, 0.0, 60.0 * len(counts)) is None


def test_constant_load_is_foretold_exactly():
    found = predictability(finest([50] * 200), 60.0, 0.0, 12_000.0)
    assert (found["wape"] < 1e-9).all() and found.filter(method="last-value")["to_last_value"].null_count() == 2


def test_every_table_is_documented_and_found_by_analyze(tmp_path):
    """Two weeks with a burst, a change and a weekend: every table is there, as COLUMNS says."""
    rng = np.random.default_rng(5)
    rate = 0.2 * daily(14, step_s=60) * np.where(np.arange(14 * 1440) // 1440 % 7 >= 5, 0.5, 1.0)
    rate[8 * 1440 + 300 :] *= 1.6
    rate[3000:3020] *= 12
    counts = rng.poisson(60 * rate)
    at = np.sort(np.repeat(np.arange(len(counts)) * 60.0, counts) + rng.random(counts.sum()) * 60)
    result = analyze(storer(tmp_path)(table(arrival_s=at), epoch=MONDAY))
    for name, columns in COLUMNS.items():
        assert result.tables[name].columns == list(columns), name
        assert len(result.tables[name]), name
    said = " ".join(result.findings)
    for words in (
        "of four distributions",
        "1 burst",
        "Weekend days have",
        "The request rate changes by",
        "Forecasts of",
    ):
        assert words in said, words
    assert "on 2026-11-10 at" in said

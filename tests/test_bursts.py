"""Bursts: planted ones are found where they are, chance and rhythm are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series_data import daily, finest

from lmaas.analysis.workload import bursts

HOUR_S = 3600


def found(counts):
    return bursts.bursts(finest(counts), 1.0, 0.0, float(len(counts)))


@pytest.mark.parametrize("rate", [0.5, 3.0, 40.0])
def test_poisson_arrivals_have_no_bursts(rate):
    for seed in range(10):
        row = found(np.random.default_rng(seed).poisson(rate, 2 * HOUR_S))["burstiness"].row(0, named=True)
        assert row["bursts"] == 0 and row["request_share"] == 0


def test_a_daily_rhythm_is_no_burst():
    counts = np.random.default_rng(0).poisson(5 * daily(2, 1.8))
    assert found(counts)["burstiness"]["bursts"].item() == 0


def test_planted_bursts_are_found_where_they_are():
    rng = np.random.default_rng(1)
    rate = np.full(4 * HOUR_S, 4.0)
    planted = [(2000, 60, 5.0), (7000, 30, 10.0), (11_000, 120, 4.0)]
    for start, length, times in planted:
        rate[start : start + length] *= times
    tables = found(rng.poisson(rate))
    rows = tables["bursts"].to_dicts()
    assert tables["burstiness"]["bursts"].item() == 3
    for row, (start, length, times) in zip(rows, planted, strict=True):
        assert abs(row["start_s"] - start) <= 10 and abs(row["length_s"] - length) <= 20
        assert row["peak_to_expected"] == pytest.approx(times, rel=0.25)
        assert row["excess"] == pytest.approx((times - 1) * 4 * length, rel=0.15)
        assert row["requests"] - row["expected"] == pytest.approx(row["excess"])
    share = sum(r["excess"] for r in rows) / finest(rng.poisson(rate))["requests"].sum()
    assert tables["burstiness"]["excess_share"].item() == pytest.approx(share, rel=0.05)


def test_at_most_ten_are_listed_and_all_are_counted():
    rate = np.full(6 * HOUR_S, 5.0)
    for k in range(15):
        rate[600 + 1200 * k :][:30] *= 6
    tables = found(np.random.default_rng(2).poisson(rate))
    assert tables["burstiness"]["bursts"].item() == 15
    assert len(tables["bursts"]) == bursts.LISTED
    assert tables["bursts"]["start_s"].is_sorted()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=40, max_size=120))
def test_episodes_equal_marking_one_by_one(counts):
    counts = np.array(counts, dtype=float)
    expected, width = bursts.baseline(counts, 10.0)
    half = width // 2
    for i, level in enumerate(expected):
        assert level == max(1.0, np.median(counts[max(0, i - half) : i + half + 1]))
    limit = np.maximum(2 * expected, bursts.poisson.isf(bursts.CHANCE / len(counts), expected))
    marked = [c > m for c, m in zip(counts, limit, strict=True)]
    joined = [here or (0 < i < len(marked) - 1 and marked[i - 1] and marked[i + 1]) for i, here in enumerate(marked)]
    inside = np.zeros(len(counts), dtype=bool)
    for a, b in bursts.episodes(counts, expected):
        assert inside[a:b].sum() == 0 and b > a
        inside[a:b] = True
    assert inside.tolist() == joined


@pytest.mark.parametrize("counts", [[], [5], [1] * 20, [0] * 5000 + [1]])
def test_too_little_gives_no_table(counts):
    assert found(counts) == {}


def test_constant_load_has_no_bursts():
    assert found([20] * 600)["burstiness"]["bursts"].item() == 0

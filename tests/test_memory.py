"""Memory of the load: the Hurst exponent of noise drawn with one, autocorrelation at known lags."""

import numpy as np
import pytest
from series_data import DAY_S, daily, finest, fractional_noise

from lmaas.analysis.workload import memory


@pytest.mark.parametrize("hurst", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_planted_long_memory_is_found_and_its_error_is_honest(hurst):
    found = [memory.hurst(fractional_noise(8192, hurst, np.random.default_rng(s))) for s in range(40)]
    values = np.array([f.hurst for f in found])
    error = np.array([f.error for f in found])
    assert values.mean() == pytest.approx(hurst, abs=0.02)
    assert values.std() == pytest.approx(error.mean(), rel=0.5)
    assert (np.abs(values - hurst) < 1.96 * error).mean() > 0.8


def test_trends_do_not_pass_for_memory():
    noise = np.random.default_rng(3).normal(size=8192)
    t = np.linspace(-1, 1, 8192)
    plain, bent = memory.hurst(noise), memory.hurst(noise + 5 * t - 20 * t**2)
    assert bent.hurst == pytest.approx(plain.hurst, abs=0.02)


@pytest.mark.parametrize("rate", [0.2, 3.0])
def test_poisson_arrivals_have_none(rate):
    counts = np.random.default_rng(1).poisson(rate, DAY_S)
    row = memory.long_memory(finest(counts), 1.0, 0.0, float(len(counts)), None).row(0, named=True)
    assert row["low"] < 0.5 < row["high"] and row["high"] - row["low"] < 0.15
    assert row["straight"] and row["rhythm_removed"] == ""
    assert 4 < row["from_s"] < row["to_s"] <= memory.LONGEST_S


def test_the_memory_of_a_rate_is_found_under_the_noise_of_arrivals():
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        counts = rng.poisson(np.maximum(6 + 2 * fractional_noise(2**15, 0.8, rng), 0))
        found.append(memory.long_memory(finest(counts), 1.0, 0.0, float(len(counts)), None).row(0, named=True))
    assert np.mean([r["hurst"] for r in found]) == pytest.approx(0.8, abs=0.03)
    assert sum(r["low"] < 0.8 < r["high"] for r in found) >= 7


def test_a_load_without_a_level_is_not_given_an_exponent_beyond_its_range():
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.exp(4 + 0.02 * np.cumsum(rng.normal(size=2**14))))
    found = {"long_memory": memory.long_memory(finest(counts), 1.0, 0.0, float(len(counts)), None)}
    (said,) = memory.findings(found, None)
    assert found["long_memory"]["hurst"][0] >= 1 and said.startswith("The load wanders")


def test_a_rhythm_is_no_memory():
    rate = 3 * daily(14) * np.where(np.arange(14 * DAY_S) // DAY_S % 7 >= 5, 0.5, 1.0)
    counts = np.random.default_rng(2).poisson(rate)
    row = memory.long_memory(finest(counts), 1.0, 0.0, float(len(counts)), 0.0).row(0, named=True)
    assert row["rhythm_removed"] == "the hour of the day and weekends"
    assert row["hurst"] == pytest.approx(0.5, abs=0.03)


def test_the_wavelet_is_orthonormal_and_blind_to_parabolas():
    assert (memory.DB3**2).sum() == pytest.approx(1)
    assert memory.DB3.sum() == pytest.approx(np.sqrt(2))
    power, n = memory.energies(np.arange(400.0) ** 2)
    assert (power < 1e-10).all() and (np.diff(n) < 0).all()
    white, n = memory.energies(np.random.default_rng(0).normal(size=100_000))
    assert white[:8] == pytest.approx(np.ones(8), abs=0.2)


def test_autocorrelation_at_stated_lags():
    steps = 14 * 144
    rate = 60 * daily(14, step_s=600)
    counts = np.random.default_rng(4).poisson(rate)
    state = finest(counts)
    table = memory.autocorrelations(state, 600.0, 0.0, 14.0 * DAY_S, 600.0)
    assert table["lag"].to_list() == ["1 window", "1 hour", "1 day", "1 week"]
    assert table["pairs"].to_list() == [steps - k for k in (1, 6, 144, 1008)]
    for row, k in zip(table.iter_rows(named=True), (1, 6, 144, 1008), strict=True):
        slow = np.mean([(counts[i] - counts.mean()) * (counts[i + k] - counts.mean()) for i in range(steps - k)])
        assert row["autocorrelation"] == pytest.approx(slow / counts.var())
    short = memory.autocorrelations(state.head(200), 600.0, 0.0, 200 * 600.0, 600.0)
    assert short["lag"].to_list() == ["1 window", "1 hour"]


def test_poisson_autocorrelation_stays_within_the_noise():
    counts = np.random.default_rng(5).poisson(30, 2000)
    table = memory.autocorrelations(finest(counts), 60.0, 0.0, 120_000.0, 60.0)
    assert (table["autocorrelation"].abs() < 1.5 * table["noise"]).all()


@pytest.mark.parametrize("counts", [[], [3], [7] * 5000, [0] * 900 + [1]])
def test_too_little_or_constant_is_undefined(counts):
    state, end = finest(counts), float(len(counts))
    assert memory.long_memory(state, 1.0, 0.0, end, None) is None
    if len(set(counts)) < 2:
        assert memory.autocorrelations(state, 1.0, 0.0, end, 1.0) is None

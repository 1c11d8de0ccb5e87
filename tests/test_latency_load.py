"""Observed latency against load: levels of the busy and the quiet, and what is said of them."""

import math

import numpy as np
import pytest
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.workload.latency_load import MIN_N, findings
from lmaas.analysis.workload.scales import EDGE

HOUR_S = 3600.0


@pytest.fixture
def store(tmp_path):
    return storer(tmp_path)


def day(slow, hours=24, seed=0):
    """Each hour twice as many a minute as its number, TTFT `slow(rate)` seconds; the first and last minute cut."""
    rng = np.random.default_rng(seed)
    at = np.sort(np.concatenate([HOUR_S * h + rng.random(120 * (h + 1)) * HOUR_S for h in range(hours)]))
    rate = 120 * (np.floor(at / HOUR_S) + 1) / HOUR_S
    return table(arrival_s=at, ttft_s=slow(rate) * rng.uniform(0.9, 1.1, len(at)))


def test_latency_that_grows_with_load_is_found(store):
    result = analyze(store(day(lambda rate: rate)))
    found = result.tables["latency_load"]
    assert found["level"].to_list() == list(range(1, 11)) and set(found["metric"]) == {"ttft_s"}
    assert found["windows"].sum() == 24 * HOUR_S / found["window_s"][0]
    for r in found.iter_rows(named=True):
        # levels are of rates as counted, a little spread around those planted
        assert r["p50"] == pytest.approx(r["mean_rps"], rel=0.2), r
        assert r["min_rps"] <= r["mean_rps"] <= r["max_rps"]
    (said,) = findings(result.tables, result.trace)
    assert said.startswith("Observed TTFT grows with load") and said in result.findings


def test_latency_that_does_not_is_said_to_hardly_depend_on_it(store):
    result = analyze(store(day(lambda rate: 0.5 + 0 * rate)))
    (said,) = findings(result.tables, result.trace)
    assert said.startswith("Observed TTFT hardly depends on load: its p95 is 1.0")


def test_levels_and_percentiles_are_those_of_a_loop_over_the_windows(store):
    rows = day(lambda rate: rate, hours=5, seed=2)
    found = analyze(store(rows)).tables["latency_load"]
    window_s, at = found["window_s"][0], rows["arrival_s"].to_numpy()
    first, last = math.ceil(at[0] / window_s - EDGE), math.floor(at[-1] / window_s + EDGE)
    inside = {w: rows["ttft_s"].to_numpy()[np.floor(at / window_s) == w] for w in range(first, last)}
    busy = sorted((w for w in inside if len(inside[w])), key=lambda w: (len(inside[w]), w))
    for level, r in enumerate(found.iter_rows(named=True)):
        mine = [w for k, w in enumerate(busy) if k * 10 // len(busy) == level]
        values = np.concatenate([inside[w] for w in mine])
        assert (r["windows"], r["n"]) == (len(mine), len(values))
        assert r["mean_rps"] == pytest.approx(len(values) / len(mine) / window_s)
        for name, q in (("p50", 0.5), ("p95", 0.95)):
            expected = pytest.approx(np.quantile(values, q, method="nearest"), rel=0.011)
            assert r[name] == (expected if len(values) >= MIN_N else None)


@pytest.mark.parametrize("arrival_s", [[0.0], [5.0, 5.0, 5.0], [0.0, 1e9], [0.0, 0.5, 1.0]])
def test_too_few_windows_say_nothing(store, arrival_s):
    result = analyze(store(table(arrival_s=arrival_s, ttft_s=[0.5] * len(arrival_s))))
    assert "latency_load" not in result.tables
    assert list(findings(result.tables, result.trace)) == []

"""Laws and golden numbers of `analyze`: rates, rhythm, shares, lengths, latencies, prefix reuse, odd traces."""

import json
import math
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from trace_data import ODD, storer, table

from lmaas.analysis import analyze
from lmaas.analysis.characterise import NOT_IN_METRICS
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.synth import SynthSpec
from lmaas.analysis.synth_draw import draw
from lmaas.analysis.workload import load as workload_load
from lmaas.analysis.workload import scales as workload_scales
from lmaas.analysis.workload import temporal
from lmaas.analysis.workload.columns import COLUMNS
from lmaas.analysis.workload.lengths import P999_MIN_ROWS, latency
from lmaas.analysis.workload.tables import OTHERS, TOP, shares, totals

DAY_S = 86_400.0
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return storer(tmp_path)


def poisson(rate, span_s, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(rng.random(rng.poisson(rate * span_s)) * span_s)


def planted(days, rhythm, rate=0.3, offset=0.0) -> pl.DataFrame:
    service = {
        "name": "m",
        "requests_per_s": rate,
        "regions": {"here": 1.0},
        "tiers": [{"name": "batch", "share": 1.0}],
        "input": {"median": 100.0, "sigma": 0.5},
        "output": {"median": 50.0, "sigma": 0.5},
        "rhythm": rhythm,
    }
    places = [{"name": "here", "utc_offset_h": offset}]
    return draw(
        SynthSpec.check({"epoch": MONDAY, "days": days, "regions": places, "services": [service]}, "test")
    ).pipe(lambda d: table(**{c: d[c] for c in d.columns}))


# --- load over time


@pytest.mark.parametrize(("quantum_s", "base_s"), [(0.001, 1.0), (1.0, 1.0), (3.0, 60.0), (7.0, 300.0), (1e5, 1e5)])
def test_windows_hold_a_whole_number_of_steps_of_the_clock_or_many(quantum_s, base_s):
    assert workload_scales.base_scale_s(quantum_s) == base_s


def test_poisson_arrivals_are_called_exponential(store):
    found = [analyze(store(table(arrival_s=poisson(2.0, 3600.0, seed)))).tables["gap_fits"] for seed in range(5)]
    assert [fits["family"][0] for fits in found] == ["exponential"] * 5
    assert all(fits["aic_over_best"].min() == 0 for fits in found)


def test_a_coarse_clock_makes_no_dispersion(store):
    at = np.floor(poisson(2.0, 4 * 3600.0) / 3) * 3
    found = analyze(store(table(arrival_s=at), quantum_s=3.0)).tables["scales"]
    assert found["window_s"].min() == 60 and found["dispersion"].drop_nulls()[0] == pytest.approx(1, abs=0.5)


def test_poisson_arrivals_have_dispersion_one_and_no_rhythm(store):
    rate, span = 2.0, 4 * DAY_S
    found = analyze(store(table(arrival_s=poisson(rate, span)))).tables
    for s in found["scales"].filter(pl.col("dispersion").is_not_null()).iter_rows(named=True):
        assert s["dispersion"] == pytest.approx(1.0, abs=5 * math.sqrt(2 / s["windows"])), s["window_s"]
        assert s["mean_rps"] == pytest.approx(rate, rel=0.02)
    minute = found["scales"].row(by_predicate=pl.col("window_s") == 60, named=True)
    # the largest of 5,760 Poisson(120) counts lies near mean + 3.7 standard deviations
    assert minute["peak_to_mean"] == pytest.approx(1 + 3.7 / math.sqrt(120), abs=0.12)
    assert found["scales"]["empty_share"][0] == pytest.approx(math.exp(-rate), abs=0.005)
    # under no rhythm the adjusted share is about (F - 1) / n; 5 % of its mass lies above 0.15 with 4 cycles
    assert found["seasonality"].filter(by="all", period="day")["strength"].item() < 0.3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 5000), min_size=2, max_size=200), st.integers(0, 3))
def test_scales_equal_counting_one_by_one(times, base):
    at = np.sort(np.array(times))
    base_s = workload_scales.SCALES_S[base]
    finest = workload_scales.counts(table(arrival_s=at).lazy(), base_s).collect()
    found = workload_load.scales(finest, base_s, at[0], at[-1])
    for s in found.iter_rows(named=True):
        w = s["window_s"]
        a, b = workload_scales.whole(w, at[0], at[-1])
        counts = np.array([((at >= k * w) & (at < (k + 1) * w)).sum() for k in range(a, b)])
        assert s["windows"] == len(counts)
        assert s["peak_rps"] == counts.max() / w
        assert s["empty_share"] == pytest.approx((counts == 0).mean())
        if s["dispersion"] is not None:
            assert s["dispersion"] == pytest.approx(counts.var(ddof=1) / counts.mean())
    assert set(found["window_s"]) <= {s for s in workload_scales.SCALES_S if s >= base_s}


def test_whole_windows_leave_out_the_edges():
    assert workload_scales.whole(60.0, 0.0, 3501.7) == (0, 58)
    assert workload_scales.whole(60.0, 30.0, 150.0) == (1, 2)
    assert workload_scales.whole(60.0, 30.0, 50.0) == (1, 1)
    assert workload_scales.whole(DAY_S, 0.4, 4 * DAY_S - 0.3) == (0, 4)  # four days, as anyone would say


@pytest.mark.parametrize("offset", [0.0, -5.0, 5.5])
def test_planted_daily_rhythm_is_found_at_its_hour(store, offset):
    rows = planted(4.0, {"peak_to_trough": 6.0, "peak_hour": 15.0}, offset=offset)
    result = analyze(store(rows, epoch=MONDAY))
    day = result.tables["seasonality"].row(by_predicate=pl.col("period") == "day", named=True)
    assert day["cycles"] == 4 and day["strength"] > 0.8
    middle = (day["peak_at_s"] + 1800) / 3600
    assert abs((middle - (15.0 - offset) + 12) % 24 - 12) <= 2
    assert day["peak_to_trough"] == pytest.approx(6.0, rel=0.25)
    assert any("daily rhythm explains" in f and "UTC" in f for f in result.findings)


def test_planted_week_is_found_and_named(store):
    rows = planted(21.0, {"weekend": 0.2}, rate=0.05)
    result = analyze(store(rows, epoch=MONDAY))
    week = result.tables["seasonality"].row(by_predicate=pl.col("period") == "week", named=True)
    assert week["cycles"] == 3 and week["strength"] > 0.8
    assert week["trough_at_s"] in (5 * DAY_S, 6 * DAY_S)
    assert any("quietest on S" in f for f in result.findings)


def test_no_seasonality_without_two_periods(store):
    found = analyze(store(table(arrival_s=poisson(0.05, 1.9 * DAY_S)))).tables["seasonality"]
    assert found.is_empty()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(2, 24), st.integers(0, 1000))
def test_strength_ignores_level_and_scale(cycles, phases, seed):
    rng = np.random.default_rng(seed)
    x = rng.random((cycles, phases))
    s = workload_load.strength(x)
    assert 0 <= s <= 1
    assert workload_load.strength(7 * x + rng.random((cycles, 1)) * 100) == pytest.approx(s, abs=1e-6)
    assert workload_load.strength(np.tile(x[0], (cycles, 1))) == pytest.approx(1.0)


def test_load_is_zero_filled_and_loses_nothing(store):
    rng = np.random.default_rng(1)
    n = 3000
    rows = table(
        arrival_s=np.sort(rng.random(n) ** 2 * 40_000 + 100),
        service=rng.choice(["a", "b"], n),
        input_tokens=rng.integers(1, 100, n),
        output_tokens=rng.integers(1, 100, n),
    )
    result = analyze(store(rows), window_s=300.0)
    load, pools = result.tables["load"], result.tables["pools"]
    windows = load["start_s"].n_unique()
    assert len(load) == 2 * windows == load.select("start_s", "service").n_unique()
    assert (load["start_s"].unique().sort().diff().drop_nulls() == 300.0).all()
    for part in (load, pools):
        assert part["requests"].sum() == n
        assert part["input_tokens"].sum() == rows["input_tokens"].sum()
        assert part["output_tokens"].sum() == rows["output_tokens"].sum()
    a = load.filter("whole", service="a")["requests"] / 300
    row = pools.row(by_predicate=pl.col("service") == "a", named=True)
    assert (row["min_rps"], row["mean_rps"], row["peak_rps"]) == pytest.approx((a.min(), a.mean(), a.max()))
    assert row["region"] == "default"


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1e12), st.sampled_from([1e-6, 0.001, 1.0, 3.0, 60.0, 1e6]))
def test_default_window_is_always_usable(span_s, quantum_s):
    window = workload_scales.default_window_s(span_s, quantum_s)
    workload_scales.check_window(window, span_s, quantum_s)
    assert window <= max(600.0, 24 * span_s / 20_000, quantum_s)  # the next round number: an hour to a day at most


@pytest.mark.parametrize("window_s", [0.0, -1.0, math.nan, math.inf, 1e-4, 0.5])
def test_a_window_that_says_nothing_is_refused(store, window_s):
    trace = store(table(arrival_s=[0.0, 200_000.0]))
    with pytest.raises(UserError, match="window") as caught:
        analyze(trace, window_s=window_s)
    assert caught.value.code == Exit.USAGE


def test_nothing_is_said_below_the_quantum(store):
    at = np.sort(poisson(3.0, 7200.0) // 60 * 60)
    result = analyze(store(table(arrival_s=at), quantum_s=60.0))
    assert result.tables["scales"]["window_s"].min() == 60.0
    assert result.window_s >= 60.0
    assert any("multiples of 60 s" in f for f in result.findings)
    assert analyze(store(table(arrival_s=at), quantum_s=2 * DAY_S)).tables["scales"].is_empty()


# --- who sends


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1000)), min_size=1, max_size=300))
def test_shares_add_to_one_and_name_the_largest(requests):
    names = [f"t{t}" if t else None for t, _ in requests]
    rows = table(arrival_s=np.arange(len(names), dtype=float), tenant=names, input_tokens=[i for _, i in requests])
    groups = totals(rows.lazy(), "tenant").collect()
    found = shares(groups, "tenant")
    assert found["request_share"].sum() == pytest.approx(1)
    assert found["requests"].sum() == len(requests)
    assert found["members"].sum() == len(set(names))
    assert len(found) <= TOP + 1
    if any(i for _, i in requests):
        assert found["input_share"].sum() == pytest.approx(1)
    else:
        assert found["input_share"].null_count() == len(found)
    counted = Counter("(none)" if n is None else n for n in names)
    shown = dict(found.filter(members=1).select("name", "requests").iter_rows())
    shown.pop(OTHERS, None)
    assert all(counted[name] == n for name, n in shown.items())
    assert found["requests"][0] == max(counted.values())


# --- how long, how fast


def test_lengths_and_correlation_equal_numpy_and_scipy(store):
    rng = np.random.default_rng(3)
    n = 2000
    i = rng.lognormal(6, 1, n).astype(int) + 1
    o = (np.sqrt(i) * rng.lognormal(1, 0.5, n)).astype(int) + 1
    tier = rng.choice(["interactive-fast", "batch"], n)
    result = analyze(
        store(table(arrival_s=np.arange(n) * 1.0, input_tokens=i, output_tokens=o, tier=tier, service=["m"] * n))
    )
    for by, name, rows in (
        ("all", "all", slice(None)),
        ("tier", "batch", tier == "batch"),
        ("service", "m", slice(None)),
    ):
        for metric, values in (("input_tokens", i[rows]), ("output_tokens", o[rows])):
            row = result.tables["lengths"].filter(by=by, name=name, metric=metric).row(0, named=True)
            want = [len(values), values.mean(), values.min(), *np.percentile(values, [50, 90, 95, 99]), values.max()]
            got = [row[c] for c in ("n", "mean", "min", "p50", "p90", "p95", "p99", "max")]
            assert got == pytest.approx(want)
    both = result.tables["correlation"]
    assert both.filter(by="all")["spearman"].item() == pytest.approx(spearmanr(i, o).statistic)
    batch = tier == "batch"
    assert both.filter(by="tier", name="batch")["spearman"].item() == pytest.approx(
        spearmanr(i[batch], o[batch]).statistic
    )


def test_failed_and_empty_answers_count_as_load_but_not_as_lengths(store):
    rows = table(
        arrival_s=[0.0, 1.0, 2.0, 3.0],
        input_tokens=[10, 0, 30, 500],
        output_tokens=[5, 0, 7, 1],
        status=["ok", "failed", "ok", "cancelled"],
    )
    found = analyze(store(rows)).tables
    assert found["overview"]["rows"].item() == 4
    assert dict(found["status"].select("status", "requests").iter_rows()) == {"ok": 2, "cancelled": 1, "failed": 1}
    prompt = found["lengths"].filter(by="all", metric="input_tokens").row(0, named=True)
    assert (prompt["n"], prompt["max"]) == (2, 30)


def test_tpot_is_per_gap_and_p999_needs_ten_thousand():
    n = P999_MIN_ROWS
    rng = np.random.default_rng(5)
    output = rng.integers(1, 4, n)
    ttft, gap = rng.random(n), rng.random(n)
    rows = table(arrival_s=np.arange(n) * 1.0, output_tokens=output, ttft_s=ttft, e2e_s=ttft + gap * (output - 1))
    found = latency(rows.lazy(), {"all": pl.lit("all")}, ("ttft_s", "tpot_s")).collect()
    t, g = (found.row(by_predicate=pl.col("metric") == m, named=True) for m in ("ttft_s", "tpot_s"))
    gaps = gap[output > 1]
    assert (g["n"], g["p50"], g["p99"]) == pytest.approx((len(gaps), np.median(gaps), np.percentile(gaps, 99)))
    assert g["p999"] is None and g["n"] < P999_MIN_ROWS
    assert t["n"] == n and t["p999"] == pytest.approx(np.percentile(ttft, 99.9))


def test_latency_only_where_the_trace_has_it(store):
    assert "latency" not in analyze(store(table(arrival_s=[0.0, 1.0]))).tables
    found = analyze(store(table(arrival_s=[0.0, 1.0], e2e_s=[2.0, None]))).tables["latency"]
    assert found["metric"].unique().to_list() == ["e2e_s"] and found.filter(by="all")["n"].item() == 1


# --- odd traces, and the shape of the result

ODDITIES = ODD | {
    "a mistyped time": table(arrival_s=[0.0, 1.7e18]),
    "many services": table(arrival_s=np.arange(300.0), service=[f"s{k % 60}" for k in range(300)]),
    "latencies, no answer": table(arrival_s=[0.0, 1.0], output_tokens=[1, 1], ttft_s=[0.1, 0.2], e2e_s=[0.1, 0.2]),
    "empty hashes": table(
        arrival_s=[0.0, 1.0], block_hashes=pl.Series([[], None], dtype=pl.List(pl.UInt64)), input_tokens=[1, 1]
    ),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_odd_traces_give_tables_not_tracebacks(store, name):
    result = analyze(store(ODDITIES[name], block_size=16))
    assert result.tables["overview"]["rows"].item() == len(ODDITIES[name])
    assert result.tables["load"]["requests"].sum() == len(ODDITIES[name])
    for dimension in ("service", "region", "tier", "tenant"):
        assert result.tables["shares"].filter(by=dimension)["request_share"].sum() == pytest.approx(1)
    assert result.findings and not any("nan" in f or "None" in f or "inf " in f for f in result.findings)
    json.dumps(result.metrics(), allow_nan=False)


def test_every_column_is_documented_and_every_number_survives_json(store):
    rng = np.random.default_rng(0)
    n = 2000
    rows = table(
        arrival_s=np.sort(rng.random(n)) * 3 * DAY_S,
        input_tokens=(rng.pareto(1.5, n) * 100 + 10).astype(int),
        region=rng.choice(["x", "y"], n),
        tenant=rng.choice(["p", "q"], n),
        tier=rng.choice(["batch", "interactive-fast"], n),
        ttft_s=rng.random(n),
        e2e_s=rng.random(n) + 1,
        queue_s=rng.random(n),
        block_hashes=[[1, k] for k in range(n)],
        session_id=[f"s{k % 100}" for k in range(n)],
    )
    trace = store(rows, epoch=MONDAY, block_size=4)
    result = analyze(trace)
    assert set(COLUMNS) - set(temporal.COLUMNS) <= set(result.tables) <= set(COLUMNS)  # test_rhythm.py has the others
    for name, found in result.tables.items():
        assert found.columns == list(COLUMNS[name]), name
        assert not found.is_empty(), name
    metrics = result.metrics()
    assert metrics["schema_version"] == "1.0"
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert json.dumps(metrics) == json.dumps(analyze(trace).metrics()), "the same trace gives the same bytes"
    assert set(metrics["tables"]) == set(result.tables) - set(NOT_IN_METRICS)


def test_rows_without_a_name_are_one_with_those_that_name_it_so():
    rows = table(arrival_s=[0.0, 1.0, 2.0], region=[None, "default", "eu"])
    assert totals(rows.lazy(), "region").collect().select("name", "requests").rows() == [("default", 2), ("eu", 1)]

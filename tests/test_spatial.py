"""How requests differ: demand, heterogeneity, skew, peaks, pooling and drift, beside slow loops and planted truth."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spatial_data import clouds, requests, summary_of
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.workload import demand, heterogeneity, mixdrift, pooling, skew, spatial, types
from lmaas.analysis.workload.inequality import gini

DAY_S = 86_400.0


def row(found, **key):
    return found.filter(**key).row(0, named=True)


# --- demand


def test_demand_equals_that_of_the_rows():
    rng = np.random.default_rng(0)
    inputs, outputs = np.rint(rng.lognormal(7, 1.2, 30_000)) + 1, np.rint(rng.lognormal(5, 1, 30_000)) + 1
    per = demand.Coefficients(linear=2.0, quadratic=1e-4, step_s=0.05)
    joint = summary_of(requests(inputs, outputs)).states["joint"]
    found = demand.tables(joint, per)
    truth = {
        "prefill_work": 2 * inputs + 1e-4 * inputs**2,
        "decode_iterations": outputs,
        "kv_token_s": (inputs * outputs + outputs**2 / 2) * 0.05,
    }
    for metric, values in truth.items():
        r = row(found["demand"], metric=metric)
        assert r["n"] == 30_000 and r["exact"] is False
        assert r["mean"] == pytest.approx(values.mean(), rel=0.005)
        assert r["cv"] == pytest.approx(values.std() / values.mean(), rel=0.02)
        top = np.sort(values)[::-1]
        assert r["top1_share"] == pytest.approx(top[:300].sum() / top.sum(), rel=0.02)
        assert r["top10_share"] == pytest.approx(top[:3000].sum() / top.sum(), rel=0.02)
        assert r["gini"] == pytest.approx(gini(values, np.ones(30_000)), rel=0.01)
        for q in (50, 90, 99):
            assert r[f"p{q}"] == pytest.approx(np.percentile(values, q), rel=0.06)
    curve = found["demand_curve"].filter(metric="kv_token_s")
    assert curve["demand_share"].is_sorted() and curve["demand_share"][-1] == pytest.approx(1.0)
    (said,) = demand.findings(found, None)
    assert said.startswith("1 % of the requests make 25% of the prefill work")


def test_demand_by_service_only_where_there_are_several():
    one = summary_of(requests([10.0, 20.0], [5.0, 5.0])).states["joint"]
    assert set(demand.tables(one)["demand"]["by"]) == {"all"}
    two = summary_of(requests([10.0, 20.0], [5.0, 5.0], service=["a", "b"])).states["joint"]
    found = demand.tables(two)["demand"]
    assert set(found["name"]) == {"all", "a", "b"}
    assert row(found, name="b", metric="prefill_work")["mean"] == pytest.approx(20 + 2e-5 * 400)
    assert row(found, name="b", metric="kv_token_s")["mean"] == pytest.approx((20 * 5 + 12.5) * 0.03)
    empty = demand.tables(one.clear())
    assert empty["demand"].is_empty() and empty["demand_curve"].is_empty()


# --- heterogeneity


def test_heterogeneity_equals_that_of_the_rows():
    inputs, outputs, which = clouds(((150, 150), (8000, 60)), (0.6, 0.4), 20_000, 0.3)
    inputs, outputs = np.rint(inputs), np.rint(outputs)
    rng = np.random.default_rng(1)
    service, tenant = (
        rng.choice(["a", "b"], 20_000, p=[0.9, 0.1]),
        rng.choice(["t", "u", "v"], 20_000, p=[0.8, 0.1, 0.1]),
    )
    summary = summary_of(requests(inputs, outputs, service=service, tenant=tenant, span_s=7200.0))
    joint, keys = summary.states["joint"], summary.keys
    found = heterogeneity.tables(joint, keys.joint_s, summary.states["tenant_load"], keys.tenant_s, types.learn(joint))
    index = {r["index"]: r for r in found["heterogeneity"].iter_rows(named=True)}
    kv = inputs * outputs + outputs**2 / 2
    between = np.where(which == 0, kv[which == 0].mean(), kv[which == 1].mean())
    shares = np.array([(service == "a").mean(), (service == "b").mean()])
    owned = np.array([(inputs + outputs)[tenant == t].sum() for t in "tuv"])
    truth = {
        "input_cv": inputs.std() / inputs.mean(),
        "output_cv": outputs.std() / outputs.mean(),
        "kv_cv": kv.std() / kv.mean(),
        "kv_type_cv": between.std() / between.mean(),
        "service_evenness": -(shares * np.log(shares)).sum() / np.log(2),
        "type_evenness": -(0.6 * np.log(0.6) + 0.4 * np.log(0.4)) / np.log(2),
        "tenant_gini": gini(owned, np.ones(3)),
    }
    for name, value in truth.items():
        assert index[name]["trace"] == pytest.approx(value, rel=0.01), name
        assert index[name]["min"] <= index[name]["mean"] <= index[name]["max"]
        # every window is alike, so that each says about what the trace says
        assert index[name]["mean"] == pytest.approx(value, rel=0.1), name
    windows = found["heterogeneity_windows"]
    assert len(windows) == index["input_cv"]["windows"] <= 100
    assert windows["requests"].sum() == 20_000


def test_heterogeneity_of_one_kind_is_none_and_unknown_is_null():
    summary = summary_of(requests(np.full(200, 100.0), np.full(200, 10.0)))
    joint, s = summary.states["joint"], summary.keys.joint_s
    nobody = pl.DataFrame(schema=spatial.TENANTS)
    found = heterogeneity.tables(joint, s, nobody, 60.0, types.learn(joint))["heterogeneity"]
    value = dict(found.select("index", "trace").iter_rows())
    assert value["input_cv"] == pytest.approx(0.0, abs=1e-9)
    assert [value[k] for k in ("kv_type_cv", "type_evenness", "service_evenness", "tenant_gini")] == [None] * 4
    assert heterogeneity.tables(joint.clear(), s, nobody, 60.0, None)["heterogeneity"].is_empty()


# --- skew, and who makes the peaks


def loads(rows):
    summary = summary_of(rows)
    nobody = pl.DataFrame(schema=spatial.TENANTS)
    at = (summary.first_s, summary.last_s)
    return summary.states["cube"], summary.keys.window_s, summary.states.get("tenant_load", nobody), 60.0, *at


def test_skew_equals_that_of_the_totals():
    tenant = ["a"] * 600 + ["b"] * 300 + ["c"] * 100 + [None] * 1000
    found = skew.tables(*loads(requests(np.full(2000, 10.0), np.full(2000, 5.0), tenant=tenant)))["skew"]
    r = row(found, by="tenant", measure="requests")
    assert (r["groups"], r["top_share"], r["others_share"]) == (3, 0.3, 0.0)
    assert r["effective"] == pytest.approx(1 / (0.36 + 0.09 + 0.01))
    assert r["gini"] == pytest.approx(gini(np.array([600.0, 300.0, 100.0]), np.ones(3)))
    assert set(found["by"]) == {"tenant"}, "one service, region and tier have no skew"


def test_the_tenant_that_makes_the_peaks_is_found():
    rng = np.random.default_rng(0)
    span, quiet = 4 * 3600.0, 4 * 3600
    steady = np.sort(rng.random(quiet) * span)
    burst = np.concatenate([m * 3600.0 + rng.random(300) * 60 for m in (0.5, 1.5, 2.5)])
    at = np.concatenate((steady, burst))
    tenant = np.concatenate((rng.choice(["a", "b", "c"], quiet), np.full(900, "loud")))
    found = skew.tables(*loads(table(arrival_s=at, tenant=tenant)))
    loud = row(found["peak_makers"], name="loud", measure="requests")
    assert loud["share"] == pytest.approx(900 / (quiet + 900), rel=0.01)
    assert loud["peak_windows"] == 3 and loud["window_s"] == 60.0
    assert loud["peak_share"] == pytest.approx(300 / 360, abs=0.05)
    assert loud["excess_share"] > 0.9 and loud["lift"] > 10
    assert loud["chance"] == pytest.approx(np.sqrt(loud["share"] * (1 - loud["share"]) / 1080), rel=0.05)
    mine = found["peak_makers"].filter(by="tenant", measure="requests")
    assert mine["excess_share"].sum() == pytest.approx(1.0)
    (said,) = skew.findings(found, None)
    assert said.startswith("Tenant loud makes 6% of all requests, but 8")


def test_chance_makes_no_tenant_loud():
    rng = np.random.default_rng(3)
    at = np.sort(rng.random(4000) * 4 * 3600.0)
    found = skew.tables(*loads(table(arrival_s=at, tenant=rng.choice(["a", "b"], 4000))))
    assert not found["peak_makers"].is_empty()
    assert list(skew.findings(found, None)) == []


def test_no_peaks_in_a_constant_or_a_short_load():
    minutes = np.arange(0, 7200.0, 60.0)
    both = table(arrival_s=np.repeat(minutes, 2), tenant=["a", "b"] * len(minutes))
    assert skew.tables(*loads(both))["peak_makers"].is_empty()
    assert skew.tables(*loads(table(arrival_s=[0.0, 9.0], tenant=["a", "b"])))["peak_makers"].is_empty()


# --- pooling


def pooled_slowly(cube, keep, measure, a, b, rank):
    """Sum over groups of the window at this percentile, one by one."""
    groups = {tuple(r[k] for k in keep) for r in cube.iter_rows(named=True)}
    loads = {g: [0] * (b - a) for g in groups}
    for r in cube.iter_rows(named=True):
        loads[tuple(r[k] for k in keep)][r["window"] - a] += r[measure]
    return sum(np.percentile(load, rank) for load in loads.values())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_pooling_equals_adding_up_one_by_one(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 2000))
    rows = table(
        arrival_s=np.sort(rng.random(n) * rng.choice([720, 7800])),
        service=rng.choice(["a", "b"], n).tolist(),
        region=rng.choice(["x", "y", None], n).tolist(),
        tier=rng.choice(["batch", "interactive-fast"], n).tolist(),
        input_tokens=rng.integers(1, 100, n),
    )
    cube, window_s, _, _, *at = loads(rows)
    found = pooling.tables(cube, window_s, *at)
    a, b = pooling.whole(window_s, *at)
    inside = cube.filter(pl.col("window").is_between(a, b, closed="left"))
    assert {"all", "service"} <= set(found["pooling"]["across"])
    for r in found["pooling"].iter_rows(named=True):
        keep = [] if r["across"] == "all" else [k for k in pooling.KEYS if k != r["across"]]
        assert r["sum_of_peaks"] * 60 == pytest.approx(pooled_slowly(inside, pooling.KEYS, r["measure"], a, b, 100))
        assert r["peak_of_sums"] * 60 == pytest.approx(pooled_slowly(inside, keep, r["measure"], a, b, 100))
        if r["saving_p99"] is not None:
            tails = [pooled_slowly(inside, keys, r["measure"], a, b, 99) for keys in (keep, pooling.KEYS)]
            assert r["saving_p99"] == pytest.approx(1 - tails[0] / tails[1])
        assert 0 <= r["saving"] < 1 and r["windows"] == b - a
    for r in found["load_correlation"].iter_rows(named=True):
        x, y = (
            [int(inside.filter(pl.col(r["by"]) == r[side], window=w)["requests"].sum()) for w in range(a, b)]
            for side in "ab"
        )
        if r["correlation"] is not None:
            assert r["correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_regions_in_turn_halve_what_is_needed():
    minute = np.arange(0, 7200, 60.0)
    at = np.repeat(minute, 400)
    region = np.where(at % 3600 < 1800, "day", "night")
    found = pooling.tables(*(loads(table(arrival_s=at, region=region))[k] for k in (0, 1, 4, 5)))
    r = row(found["pooling"], across="region", measure="requests")
    assert (r["pools"], r["shared_pools"], r["saving"], r["saving_p99"]) == (2, 1, 0.5, 0.5)
    assert row(found["load_correlation"], by="region")["correlation"] == pytest.approx(-1.0)
    (said,) = pooling.findings(found, None)
    assert said.startswith("Sharing capacity across regions would spare at least 50%")
    best = pooling.best(found["pooling"])
    assert (best["across"], best["pools"]) == ("region", 2)
    assert best["beyond_chance"] == pytest.approx(0.5 - best["saving_by_chance"])


def test_the_saving_of_noise_is_called_chance():
    rng = np.random.default_rng(0)
    load = rng.poisson(30, 400)
    shares = np.array([0.5, 0.3, 0.2])
    drawn = [rng.multinomial(load, shares).max(axis=0) for _ in range(200)]
    assert pooling.peak_by_chance(load, shares) == pytest.approx(np.mean(drawn, axis=0), rel=0.05)
    at = np.sort(rng.random(24_000)) * 14_400
    found = pooling.tables(
        *(loads(table(arrival_s=at, region=rng.choice(["x", "y", "z"], 24_000)))[k] for k in (0, 1, 4, 5))
    )
    r = row(found["pooling"], across="region", measure="requests")
    assert r["saving"] > 0.1 and r["saving"] == pytest.approx(r["saving_by_chance"], abs=0.05)
    assert not list(pooling.findings(found, None))


def test_nothing_to_pool_in_one_pool_or_a_short_trace():
    for rows in (table(arrival_s=np.arange(0, 7200.0)), table(arrival_s=[0.0, 70.0], region=["x", "y"])):
        cube, window_s, _, _, *at = loads(rows)
        found = pooling.tables(cube, window_s, *at)
        assert found["pooling"].is_empty() and found["load_correlation"].is_empty()


# --- drift of the mix


def mixed(parts, seed=0, n=20_000, span_s=36_000.0):
    """Requests whose lengths change at equal parts of the time."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(parts, n // len(parts))
    return summary_of(requests(rng.lognormal(5 + kind, 0.7), rng.lognormal(4, 0.7, len(kind)), span_s=span_s))


def drift_of(summary):
    return mixdrift.tables(summary.states["joint"], summary.keys.joint_s)["mix_drift"]


@pytest.mark.parametrize("seed", range(3))
def test_a_steady_mix_stays_at_the_floor(seed):
    steps = drift_of(mixed([0.0], seed)).filter(against="previous")
    assert len(steps) == 9 and steps["drifted"].sum() <= 2
    (said,) = mixdrift.findings({"mix_drift": steps}, None)
    assert said.startswith("The mix of lengths holds")


def test_a_planted_change_is_found_where_it_is():
    found = drift_of(mixed([0.0, 1.0]))
    steps = found.filter(against="previous")
    jump = steps.sort("distance")["start_s"][-1]
    assert jump == pytest.approx(18_000, abs=3600)
    assert row(steps, start_s=jump)["distance"] > 2 * row(steps, start_s=jump)["floor"]
    since = found.filter(against="first")
    assert since.filter(pl.col("start_s") > 18_000)["drifted"].all()
    (said,) = mixdrift.findings({"mix_drift": found}, None)
    assert "in 1 of 9 steps" in said


def test_distance_is_jensen_shannons():
    a, b = np.array([[1.0, 3.0, 0.0]]), np.array([[0.0, 1.0, 1.0]])
    p, q = a / a.sum(), b / b.sum()
    m = (p + q) / 2
    slow = sum(x * np.log2(x / z) for y in (p, q) for x, z in zip(y[0], m[0], strict=True) if x) / 2
    assert mixdrift.jensen_shannon(a, b)[0] == pytest.approx(np.sqrt(slow))
    assert mixdrift.jensen_shannon(a, 7 * a)[0] == pytest.approx(0.0, abs=1e-7)
    assert mixdrift.jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0] == 1.0


def test_days_are_compared_where_there_are_enough():
    days = drift_of(mixed([0.0], span_s=5 * DAY_S))
    assert set(days["length_s"]) == {DAY_S}
    assert drift_of(summary_of(requests([10.0], [5.0]))).is_empty()


# --- all together, in analyze


def test_tables_are_documented_and_only_there_when_they_say_something(tmp_path):
    rng = np.random.default_rng(0)
    inputs, outputs, _ = clouds(((150, 150), (8000, 60)), (0.6, 0.4), 6000)
    rows = requests(
        inputs,
        outputs,
        span_s=DAY_S,
        region=rng.choice(["x", "y"], 6000),
        tier=rng.choice(["batch", "interactive-fast"], 6000),
        tenant=rng.choice(["p", "q"], 6000),
    )
    found = analyze(storer(tmp_path)(rows))
    for name, columns in spatial.COLUMNS.items():
        assert found.tables[name].columns == list(columns), name
        assert not found.tables[name].is_empty(), name
    metrics = found.metrics()["tables"]
    assert set(spatial.LONG) & set(metrics) == set()
    assert set(metrics) >= set(spatial.COLUMNS) - set(spatial.LONG)
    small = analyze(storer(tmp_path)(table(arrival_s=[5.0])))
    assert set(spatial.COLUMNS) & set(small.tables) == {
        "types",
        "type_count",
        "type_mix",
        "length_cells",
        "demand",
        "heterogeneity",
    }

"""Partial states: each as one obvious loop over the rows gives it, and those of shards merge to those of the whole."""

import math
from collections import defaultdict
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.workload import given as limits
from lmaas.analysis.workload import tables
from lmaas.analysis.workload.buckets import COARSE, FINE, NONE, bucket, edges, quantiles
from lmaas.analysis.workload.summary import STATES, Keys, merge, summarise

ALL = ("tenant", "session_id", "ttft_s", "e2e_s", "queue_s")


def keys(rows, window_s=10.0, quantum_s=1e-6, tenants=False):
    scan = rows.lazy()
    totals = {d: tables.totals(scan, d).collect() for d in tables.DIMENSIONS}
    span = (rows["arrival_s"].max() or 0) - (rows["arrival_s"].min() or 0)
    return Keys.choose(window_s, quantum_s, span, totals, tenants)


@st.composite
def traces(draw):
    """Rows with ties, unknowns, failures, zeros, and more services than are told apart."""
    n = draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    step = draw(st.sampled_from([0.001, 0.5, 30.0]))
    names = draw(st.sampled_from([2, tables.TOP + 5]))

    def maybe(values, share=0.3):
        return [None if hole else v for v, hole in zip(values.tolist(), rng.random(n) < share, strict=True)]

    ttft = rng.integers(0, 4, n) * rng.random(n)
    return table(
        arrival_s=np.sort(rng.integers(0, 40, n) * step),
        service=[f"m{i}" for i in rng.integers(0, names, n)],
        region=maybe(rng.choice(["eu", "us"], n)),
        tier=maybe(rng.choice(["batch", "interactive-fast"], n)),
        tenant=maybe(rng.choice(["a", "b", "c"], n)),
        session_id=maybe(rng.choice(["s1", "s2", "s3"], n)),
        input_tokens=maybe(rng.integers(0, 3000, n), 0.1),
        output_tokens=maybe(rng.integers(0, 4, n), 0.1),
        ttft_s=maybe(ttft),
        e2e_s=maybe(ttft + rng.random(n)),
        status=rng.choice(["ok", "failed"], n).tolist(),
    )


def slowly(rows, keys):
    """The states by a loop over the rows, each a dict of key tuples to columns."""
    found = {name: defaultdict(list) for name in STATES if name != "sessions"}
    label = lambda d, v: (  # noqa: E731
        v if (v := v or ("default" if d == "region" else tables.NONE)) in keys.names[d] else tables.OTHERS
    )
    before = None
    for r in rows.iter_rows(named=True):
        t, tokens = r["arrival_s"], (r["input_tokens"] or 0, r["output_tokens"] or 0)
        at = lambda w: math.floor(r["arrival_s"] / w)  # noqa: B023, E731
        shared = tuple(label(d, r[d]) for d in ("service", "region", "tier"))
        found["finest"][at(keys.base_s),].append(tokens)
        found["cube"][at(keys.window_s), *shared].append(tokens)
        found["hours"][at(3600.0), *shared[:2]].append(tokens)
        found["tenant_load"][at(keys.tenant_s), label("tenant", r["tenant"])].append(tokens)
        if before is not None:
            found["gaps"][one(round((t - before) * 1e6)),].append(round((t - before) * 1e6))
        before = t
        if r["status"] != "ok":
            continue
        for metric in ("input_tokens", "output_tokens"):
            if (r[metric] or 0) >= 1:
                found["lengths"][*shared, metric, one(r[metric])].append(r[metric])
                found["tenant_lengths"][label("tenant", r["tenant"]), metric, one(r[metric])].append(r[metric])
        if min(tokens) >= 1:
            cell = one(tokens[0], COARSE), one(tokens[1], COARSE)
            found["joint"][at(keys.joint_s), shared[0], *cell].append(tokens)
        both = r["ttft_s"] is not None and r["e2e_s"] is not None and tokens[1] > 1
        tpot = (r["e2e_s"] - r["ttft_s"]) / (tokens[1] - 1) if both else None
        for metric, seconds in (("ttft_s", r["ttft_s"]), ("tpot_s", tpot), ("e2e_s", r["e2e_s"])):
            if seconds is not None:
                found["latency"][*shared, metric, one(us := round(seconds * 1e6))].append(us)
                found["tenant_latency"][label("tenant", r["tenant"]), metric, one(us)].append(us)
                found["latency_load"][at(keys.joint_s), metric, one(us)].append(us)
    return found


def one(value, base=FINE):
    return math.floor(math.log(value) / math.log(base) + 1e-9) if value > 0 else NONE


def columns(name, values):
    """What a state's other columns are for the rows of one key."""
    if name not in ("finest", "cube", "hours", "tenant_load", "joint"):
        return {"n": len(values), "total": sum(values), "low": min(values), "high": max(values)}
    return {
        "n" if name == "joint" else "requests": len(values),
        "input_tokens": sum(v[0] for v in values),
        "output_tokens": sum(v[1] for v in values),
    }


@settings(max_examples=60)
@given(traces())
def test_each_state_is_what_a_loop_over_the_rows_gives(rows):
    k = keys(rows, tenants=True)
    found = summarise(rows.lazy(), k, ALL)
    assert found.rows == len(rows)
    for name, expected in slowly(rows, k).items():
        state, of = found.states[name], STATES[name]
        got = {tuple(row[c] for c in of.keys): {c: row[c] for c in (*of.sums, *of.least, *of.most)}
               for row in state.iter_rows(named=True)}  # fmt: skip
        assert len(got) == len(state)
        assert got == {key: columns(name, values) for key, values in expected.items()}, name


@settings(max_examples=60)
@given(traces(), st.lists(st.floats(0, 1), max_size=4), st.randoms())
def test_states_of_shards_merge_to_those_of_the_whole(rows, cuts, random):
    k = keys(rows, tenants=True)
    whole = summarise(rows.lazy(), k, ALL)
    at = [0, *sorted(round(c * len(rows)) for c in cuts), len(rows)]
    shards = [summarise(rows[a:b].lazy(), k, ALL) for a, b in pairwise(at)]
    random.shuffle(shards)
    merged = merge(shards)
    assert (merged.rows, merged.keys) == (whole.rows, whole.keys)
    assert (merged.first_s, merged.last_s) == (whole.first_s, whole.last_s)
    assert merged.distinct_sessions == whole.distinct_sessions
    assert merged.states.keys() == whole.states.keys()
    for name, state in whole.states.items():
        assert_frame_equal(merged.states[name], state)


def test_what_does_not_merge_is_refused():
    rows = table(arrival_s=[0.0, 1.0, 2.0, 3.0])
    k = keys(rows)
    apart = [summarise(rows[list(part)].lazy(), k, ()) for part in ((0, 2), (1, 3))]
    with pytest.raises(ValueError, match="overlap in time"):
        merge(apart)
    with pytest.raises(ValueError, match="different windows"):
        merge([apart[0], summarise(rows.lazy(), keys(rows, window_s=20.0), ())])
    with pytest.raises(ValueError, match="no summary"):
        merge([])


def test_states_of_columns_without_values_are_left_out():
    rows = table(arrival_s=[0.0, 1.0])
    found = summarise(rows.lazy(), keys(rows), ())
    assert set(found.states) == {"finest", "cube", "hours", "lengths", "joint", "gaps"}
    assert found.distinct_sessions is None


def test_windows_that_no_hour_is_made_of_count_hours_apart():
    rows = table(arrival_s=[0.0, 3599.0, 3601.0])
    found = summarise(rows.lazy(), keys(rows, window_s=7.0), ()).states["hours"]
    assert found.select("window", "requests").rows() == [(0, 2), (1, 1)]


# --- buckets


@given(st.integers(1, 10**9), st.sampled_from([FINE, COARSE]))
def test_a_value_lies_in_its_bucket(value, base):
    found = pl.select(bucket(pl.lit(value), base)).item()
    low, high = (e.item() for e in edges(found, base))
    assert low * (1 - 1e-8) <= value < high * (1 + 1e-8)


def test_zero_has_a_bucket_and_unknown_has_none():
    values = pl.DataFrame({"v": pl.Series([0, 1, None], dtype=pl.UInt32)})
    assert values.select(bucket(pl.col("v"))).to_series().to_list() == [NONE, 0, None]
    assert [e.item() for e in edges(NONE)] == [0.0, 0.0]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.floats(0, 1))
def test_percentiles_of_buckets_are_within_one_percent_and_the_rest_is_exact(values, rank):
    value, frame = pl.col("v"), pl.DataFrame({"v": values, "g": ["x"] * len(values)})
    spread = {"n": pl.len(), "total": value.sum(), "low": value.min(), "high": value.max()}
    for key, close in ((bucket(value), 0.0101), (value, 1e-12)):  # with a bucket a value, they are exact
        histogram = frame.group_by("g", key.alias("bucket")).agg(**spread)
        found = quantiles(histogram, ["g"], {"q": rank}, scale=0.5).row(0, named=True)
        assert (found["n"], found["min"], found["max"]) == (len(values), min(values) / 2, max(values) / 2)
        assert found["mean"] == pytest.approx(sum(values) / len(values) / 2)
        assert found["q"] == pytest.approx(np.quantile(values, rank) / 2, rel=close, abs=1e-9)


def test_distinct_sessions_are_estimated():
    for n in (0, 1, 500, 40_000):
        rows = table(arrival_s=[0.0] * (2 * n), session_id=[f"s{i % n}" for i in range(2 * n)])
        found = summarise(rows.lazy(), keys(rows), ("session_id",)).distinct_sessions
        assert found == pytest.approx(n, rel=0.05, abs=0.5)


# --- analyses too large for memory


def test_percentiles_of_a_trace_too_large_for_memory_are_within_one_percent_and_say_so(tmp_path, monkeypatch):
    rng, n = np.random.default_rng(3), 20_000
    ttft = rng.lognormal(-1, 1, n)
    rows = table(
        arrival_s=np.sort(rng.random(n) * 1e4),
        service=rng.choice(["a", "b"], n),
        region=rng.choice(["eu", "us"], n),
        input_tokens=rng.lognormal(6, 1.5, n).astype(int),
        output_tokens=rng.lognormal(4, 1, n).astype(int),
        session_id=[f"s{i % 3000}" for i in range(n)],
        ttft_s=ttft,
        e2e_s=ttft + rng.random(n),
        status=rng.choice(["ok", "failed"], n),
    )
    trace = storer(tmp_path)(rows)
    exact = analyze(trace).tables
    monkeypatch.setattr(limits, "IN_MEMORY_ROWS", n - 1)
    histograms = analyze(trace).tables
    assert exact.keys() == histograms.keys()
    same = [name for name in exact if name not in ("overview", "lengths", "latency", "correlation")]
    counted, estimated = exact["overview"].row(0, named=True), histograms["overview"].row(0, named=True)
    assert (counted["sessions"], counted["sessions_exact"]) == (3000, True)
    assert estimated.pop("sessions") == pytest.approx(3000, rel=0.05) and not estimated.pop("sessions_exact")
    assert estimated.items() <= counted.items()
    for name in same:
        assert_frame_equal(exact[name], histograms[name])
    for name, unit in (("lengths", 1.0), ("latency", 1e-6)):
        a, b = exact[name], histograms[name]
        assert a["exact"].all() and not b["exact"].any()
        assert_frame_equal(a.select("by", "name", "metric", "n"), b.select("by", "name", "metric", "n"))
        for column in ("mean", "min", "max"):
            if column in a.columns:
                assert b[column].to_list() == pytest.approx(a[column].to_list(), abs=unit)
        for column in ("p50", "p90", "p95", "p99"):
            assert b[column].to_list() == pytest.approx(a[column].to_list(), rel=0.012, abs=1.01 * unit)
    for r in histograms["correlation"].iter_rows(named=True):
        one = exact["correlation"].filter(by=r["by"], name=r["name"]).row(0, named=True)
        assert r["spearman"] == pytest.approx(one["spearman"], abs=0.02)

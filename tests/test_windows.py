"""Demand per window, and what was known of it when: laws, and a slow reference written from the definitions."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_data import scramble, small_tables, table, traffic

from lmaas.analysis import windows
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.windows import METRICS, demand, known_demand

laws = settings(deadline=None, max_examples=40)  # how long a case takes is no law
SIZES = st.sampled_from([1.0, 0.7, 3.0, 5.0])


@pytest.mark.parametrize(("span_s", "expected"), [(48 * 600, 600), (3600, 75), (1e9, 600), (0, 600), (-5, 600)])
def test_default_window(span_s, expected):
    assert windows.default_window_s(span_s) == expected


@laws
@given(small_tables(), SIZES, st.floats(0, 10), st.floats(0, 15))
def test_demand_counts_each_request_of_the_span_once(requests, window_s, start_s, span_s):
    end_s = start_s + span_s
    inside = requests.filter(pl.col("arrival_s").is_between(start_s, end_s, closed="left"))
    sums = dict(demand(requests, window_s, start_s, end_s).group_by("metric").agg(pl.sum("value")).iter_rows())
    prompt, output = inside["input_tokens"].sum(), inside["output_tokens"].sum()
    expected = dict(zip(METRICS, (inside.height, prompt, output, prompt + output), strict=True))
    assert sums == (expected if inside.height else {})


@laws
@given(small_tables(), SIZES, st.floats(0, 10), st.floats(0, 15))
def test_demand_is_the_sum_of_the_window_it_names_on_a_full_grid(requests, window_s, start_s, span_s):
    end_s = start_s + span_s
    got = demand(requests, window_s, start_s, end_s)
    inside = requests.filter(pl.col("arrival_s").is_between(start_s, end_s, closed="left"))
    starts = [start_s + k * window_s for k in range(100) if start_s + k * window_s < end_s]
    keys = inside.select("service", pl.col("region").fill_null("default")).unique().rows()
    assert got.height == len(starts) * len(keys) * len(METRICS)
    assert set(got["start_s"]) == (set(starts) if keys else set())
    for row in got.filter(pl.col("metric") == "requests").to_dicts():
        k = starts.index(row["start_s"])
        stop = starts[k + 1] if k + 1 < len(starts) else end_s
        assert row["length_s"] == pytest.approx(stop - row["start_s"])
        of = (pl.col("service") == row["service"]) & (pl.col("region").fill_null("default") == row["origin"])
        in_window = pl.col("arrival_s").is_between(row["start_s"], stop, closed="left")
        assert row["value"] == inside.filter(of & in_window).height


@laws
@given(st.floats(1e-3, 1e4), st.floats(-1e6, 1e6), st.integers(-10_000, 10_000))
def test_an_arrival_at_a_boundary_belongs_to_the_window_it_starts(window_s, cut_s, k):
    boundary = cut_s + k * window_s
    times = pl.DataFrame({"arrival_s": [boundary, math.nextafter(boundary, -math.inf)]})
    assert times.select(windows.window_index(window_s, cut_s))["window"].to_list() == [k, k - 1]


def test_a_scan_gives_what_the_table_gives(rng):
    requests = traffic(rng, hours=2)
    assert demand(requests.lazy(), 600, 0, 7200).equals(demand(requests, 600, 0, 7200))


@pytest.mark.parametrize("window_s", [0.0, -1.0, math.nan, math.inf])
def test_a_window_needs_a_length(window_s):
    for call in (
        lambda: demand(table(arrival_s=[1.0]), window_s, 0, 10),
        lambda: known_demand(table(arrival_s=[1.0]), window_s=window_s, cut_s=5, end_s=10),
    ):
        with pytest.raises(UserError, match="window") as error:
            call()
        assert error.value.code == Exit.USAGE


def test_too_short_a_window_is_refused_before_it_fills_the_memory():
    requests = table(arrival_s=[0.0, 1e6])
    with pytest.raises(UserError, match="longer one"):
        demand(requests, 1e-3, 0, 2e6)
    with pytest.raises(UserError, match="longer one"):
        known_demand(requests, window_s=1e-3, cut_s=1e6, end_s=2e6)


# --- what was known when ---


def known_at(requests, t, k_to_start, window_s, service, region):
    """Output tokens of one window as known at t, from the definition: plain Python over the rows."""
    start, end = k_to_start
    rows = requests.to_dicts()
    own = [r for r in rows if r["service"] == service and (r["region"] or "default") == region]
    done = lambda r: r["done_s"] is not None and r["done_s"] <= t  # noqa: E731
    age = round((t - end) / window_s)

    def lag(r):  # windows a request runs past the end of its own
        finish = math.inf if r["done_s"] is None else r["done_s"]
        own_end = (math.floor(r["arrival_s"] / window_s) + 1) * window_s
        return max(math.ceil((finish - own_end) / window_s), 0) if finish < math.inf else math.inf

    mean = windows.PRIOR_OUTPUT_TOKENS
    for group in (
        [r for r in own if done(r) and lag(r) > age],
        [r for r in own if done(r)],
        [r for r in rows if r["service"] == service and done(r)],
        [r for r in rows if done(r)],
    ):
        if group:
            mean = sum(r["output_tokens"] for r in group) / len(group)
            break
    return sum(r["output_tokens"] if done(r) else mean for r in own if start <= r["arrival_s"] < end)


@settings(deadline=None, max_examples=25)
@given(small_tables(max_size=15), st.sampled_from([1.0, 2.0, 5.0]), st.integers(0, 20))
def test_known_demand_is_its_definition(requests, window_s, end):
    requests = requests.filter(pl.col("arrival_s") < end)
    known = known_demand(requests, window_s=window_s, cut_s=0.0, end_s=float(end))
    whole = math.floor(end / window_s) - known.first
    assert known.windows == max(whole, 0) if requests.height else True
    for ended in range(1, known.windows + 1):
        seen, t = known.at(ended), (known.first + ended) * window_s
        for s, (service, region, metric) in enumerate(known.series.iter_rows()):
            if metric != "output_tokens":
                continue
            for i in range(ended):
                span = ((known.first + i) * window_s, (known.first + i + 1) * window_s)
                assert seen[s, i] == pytest.approx(known_at(requests, t, span, window_s, service, region))


@laws
@given(small_tables(), SIZES, st.floats(0, 20))
def test_arrivals_and_prompts_are_known_when_the_window_ends(requests, window_s, cut_s):
    known = known_demand(requests, window_s=window_s, cut_s=cut_s, end_s=30.0)
    if not known.windows:
        return
    edges = [cut_s + (known.first + k) * window_s for k in (0, known.windows)]
    actual = demand(requests, window_s, *edges)
    for s, (service, origin, metric) in enumerate(known.series.iter_rows()):
        if metric == "output_tokens":
            continue
        of = pl.col("service").eq(service) & pl.col("origin").eq(origin) & pl.col("metric").eq(metric)
        total = actual.filter(of)["value"].sum()
        assert known.value[:, s].sum(axis=1) == pytest.approx([total] * len(known.value))


@laws
@given(small_tables(), SIZES, st.floats(0, 20))
def test_the_first_window_is_seen_whole_and_none_straddles_the_cut(requests, window_s, cut_s):
    known = known_demand(requests, window_s=window_s, cut_s=cut_s, end_s=30.0)
    if requests.height:
        first = requests["arrival_s"].min()
        assert cut_s + known.first * window_s >= first
        assert cut_s + (known.first - 1) * window_s < first


@laws
@given(small_tables(), SIZES, st.floats(1, 15), st.integers(0, 9), st.integers(0, 99))
def test_what_is_known_at_t_does_not_depend_on_what_comes_after(requests, window_s, cut_s, back, seed):
    if not requests.height:
        return
    known = known_demand(requests, window_s=window_s, cut_s=cut_s, end_s=30.0)
    ended = max(known.windows - back, 0)
    t = cut_s + (known.first + ended) * window_s
    changed = known_demand(
        scramble(requests, t, np.random.default_rng(seed)), window_s=window_s, cut_s=cut_s, end_s=30.0
    )
    seen = dict(zip(known.series.rows(), known.at(ended), strict=True))
    after = dict(zip(changed.series.rows(), changed.at(ended), strict=True)) if changed.first == known.first else {}
    if t <= requests["arrival_s"].min():
        return
    for series, values in seen.items():
        if series in after:
            np.testing.assert_array_equal(values, after[series])
        else:
            assert not values.any()


def test_done_at_once_is_known_at_once(rng):
    requests = traffic(rng, hours=1).with_columns(done_s=pl.col("arrival_s"))
    known = known_demand(requests, window_s=60, cut_s=1800, end_s=3600)
    assert len(known.value) == 1
    actual = demand(requests, 60, 1800 + known.first * 60, 1800 + (known.first + known.windows) * 60)
    assert known.value.sum() == pytest.approx(actual.filter(pl.col("metric") != "total_tokens")["value"].sum())


def test_requests_still_running_are_longer_than_those_done(rng):
    """The estimate of an unfinished window is unbiased; counting unfinished requests as average is far too low."""
    requests = traffic(rng, hours=48, rate=0.2, services=("chat",), regions=("us",), s_per_token=3)
    known = known_demand(requests, window_s=300, cut_s=0, end_s=48 * 3600)
    output = known.value[:, 2, 100:500]
    assert output[0].sum() == pytest.approx(output[-1].sum(), rel=0.02)
    running = requests.with_columns(end=((pl.col("arrival_s") / 300).floor() + 1) * 300).filter(
        pl.col("done_s") > pl.col("end")
    )
    assert running["output_tokens"].mean() > 1.4 * requests["output_tokens"].mean()


@laws
@given(small_tables(), SIZES)
def test_constant_outputs_are_known_exactly_once_one_is_done(requests, window_s):
    requests = requests.with_columns(output_tokens=pl.lit(7, pl.UInt32))
    done = pl.concat([requests, table(arrival_s=[-100.0], output_tokens=[7])]).sort("arrival_s")
    known = known_demand(done, window_s=window_s, cut_s=0.0, end_s=25.0)
    is_output = (known.series["metric"] == "output_tokens").to_numpy()
    is_count = (known.series["metric"] == "requests").to_numpy()
    late = known.value[:, :, int(20 / window_s) :] if known.windows else known.value
    np.testing.assert_allclose(late[:, is_output], 7 * late[:, is_count], rtol=1e-12)


def test_nothing_arrived():
    known = known_demand(table(arrival_s=[]), window_s=10, cut_s=50, end_s=100)
    assert known.series.is_empty()
    assert demand(table(arrival_s=[]), 10, 0, 100).is_empty()


@pytest.fixture
def rng():
    return np.random.default_rng(7)

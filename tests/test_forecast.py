"""Forecasts: what a table of them is, and laws of every forecaster."""

import numpy as np
import polars as pl
import pytest
from forecast_data import KEY, every_forecaster, quick_forecasters, series, steady
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_data import small_tables, table, traffic

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.forecasting.forecaster import SCHEMA
from lmaas.analysis.forecasting.rolling import forecast
from lmaas.analysis.windows import demand, known_demand

laws = settings(deadline=None, max_examples=15)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


# --- what a forecast table is ---


@every_forecaster
@laws
@given(
    requests=small_tables(),
    window_s=st.sampled_from([0.7, 1.0, 3.0]),
    lead_s=st.sampled_from([0.0, 0.5, 1.0, 6.0, 100.0]),
    cut_s=st.floats(0, 20),
)
def test_any_few_requests_give_finite_forecasts_issued_in_time(model, requests, window_s, lead_s, cut_s):
    rows = forecast(requests, window_s=window_s, cut_s=cut_s, end_s=20.0, lead_s=lead_s, model=model)
    assert dict(rows.schema) == SCHEMA
    assert rows["value"].is_finite().all()
    assert (rows["value"] >= 0).all()
    assert (rows["issued_s"] <= rows["start_s"] - lead_s).all()
    # no earlier than it must be: not a whole window before
    assert (rows["issued_s"] > rows["start_s"] - lead_s - window_s * (1 + 1e-6)).all()
    assert rows["start_s"].is_between(cut_s, 20.0, closed="left").all()
    assert rows.select(KEY).is_unique().all()
    born = requests.group_by("service", origin=pl.col("region").fill_null("default")).agg(born=pl.min("arrival_s"))
    assert (rows.join(born, on=["service", "origin"]).select(pl.col("born") <= pl.col("issued_s"))).to_series().all()


@quick_forecasters
def test_every_window_of_the_evaluated_part_is_forecast(model, rng):
    requests = traffic(rng, hours=3)
    rows = forecast(requests, window_s=300, cut_s=5400, end_s=10_700, lead_s=300, model=model)
    expected = demand(requests, 300, 5400, 10_700)
    keys = ["start_s", "service", "origin", "metric"]
    assert rows.select(keys).equals(expected.select(keys).sort(keys))
    assert (rows["length_s"] == 300).all()
    assert expected["length_s"].min() == 200


@quick_forecasters
def test_total_tokens_are_prompt_and_output_tokens(model, rng):
    rows = forecast(traffic(rng, hours=2), window_s=300, cut_s=3600, end_s=7200, lead_s=0, model=model)
    prompt, output, total = (series(rows.sort(KEY), m) for m in ("prompt_tokens", "output_tokens", "total_tokens"))
    np.testing.assert_allclose(prompt + output, total, rtol=1e-12)


def test_a_lead_is_rounded_up_to_windows_and_a_whole_one_stays_whole():
    requests = steady(windows=40, window_s=0.1)
    for lead_s, windows in ((0.0, 0), (0.05, 1), (0.1, 1), (0.3, 3), (0.30001, 4)):
        rows = forecast(requests, window_s=0.1, cut_s=2.0, end_s=4.0, lead_s=lead_s, model="last-value")
        assert ((rows["start_s"] - rows["issued_s"]) / 0.1).round().unique().to_list() == [windows]


def test_what_cannot_be_asked_for_is_refused():
    requests, ask = steady(windows=4), {"cut_s": 120.0, "end_s": 240.0}
    with pytest.raises(UserError, match="did you mean 'last-value'") as error:
        forecast(requests, window_s=60, lead_s=0, model="lastvalue", **ask)
    assert error.value.code == Exit.USAGE
    with pytest.raises(UserError, match="lead"):
        forecast(requests, window_s=60, lead_s=-1, **ask)
    with pytest.raises(UserError, match="window"):
        forecast(requests, window_s=0, lead_s=0, **ask)


# --- laws ---


@every_forecaster
@pytest.mark.parametrize("windows", [2, 3, 9, 30, 100])
def test_constant_in_constant_out(model, windows):
    rows = forecast(steady(windows=windows), window_s=60, cut_s=60, end_s=60 * windows, lead_s=0, model=model)
    np.testing.assert_allclose(series(rows), 5, rtol=1e-9)


@every_forecaster
def test_a_series_that_ends_is_forecast_to_end(model):
    requests = pl.concat([steady(windows=30), steady(windows=400).with_columns(service=pl.lit("other"))])
    rows = forecast(requests, window_s=60, cut_s=1500, end_s=24_000, lead_s=60, model=model)
    gone = series(rows.filter(pl.col("service") == "chat"))
    assert gone[-1] < 0.05


@every_forecaster
def test_a_series_new_after_the_cut_is_followed(model):
    late = steady(windows=60, start=30, per_window=(8,)).with_columns(service=pl.lit("new"))
    rows = forecast(pl.concat([steady(windows=60), late]), window_s=60, cut_s=1200, end_s=3600, lead_s=0, model=model)
    new = rows.filter(pl.col("service") == "new")
    assert new["start_s"].min() == 31 * 60
    np.testing.assert_allclose(series(new)[-5:], 8, rtol=0.05)


@quick_forecasters
def test_without_training_part_forecasts_begin_with_the_first_full_window(model):
    rows = forecast(steady(windows=20), window_s=60, cut_s=6.0, end_s=1200, lead_s=0, model=model)
    assert rows["start_s"].min() == 66
    np.testing.assert_allclose(series(rows)[1:], 5, atol=1.01)


@every_forecaster
def test_nothing_arrived(model):
    assert forecast(table(arrival_s=[]), window_s=60, cut_s=60, end_s=600, lead_s=0, model=model).is_empty()


@quick_forecasters
def test_the_order_of_rows_and_where_the_clock_starts_do_not_matter(model, rng):
    requests = traffic(rng, hours=2)
    ask = {"window_s": 128.0, "cut_s": 4096.0, "end_s": 7168.0, "lead_s": 128.0, "model": model}
    rows = forecast(requests, **ask)
    assert forecast(requests.sample(fraction=1, shuffle=True, seed=1), **ask)["value"].to_numpy() == pytest.approx(
        rows["value"].to_numpy(), rel=1e-6
    )
    later = requests.with_columns(arrival_s=pl.col("arrival_s") + 2**20, done_s=pl.col("done_s") + 2**20)
    moved = forecast(later, **ask | {"cut_s": 4096.0 + 2**20, "end_s": 7168.0 + 2**20})
    np.testing.assert_allclose(moved["start_s"] - 2**20, rows["start_s"])
    np.testing.assert_allclose(moved["value"], rows["value"], rtol=1e-6)


def test_last_value_is_what_was_known_of_the_last_window(rng):
    requests = traffic(rng, hours=2)
    known = known_demand(requests, window_s=60, cut_s=3600, end_s=7200)
    rows = forecast(requests, window_s=60, cut_s=3600, end_s=7200, lead_s=120, model="last-value")
    number = {key: s for s, key in enumerate(known.series.rows())}
    checked = rows.filter(pl.col("metric") != "total_tokens").sample(200, seed=0)
    for issued_s, service, origin, metric, value in checked.select("issued_s", *known.series.columns, "value").rows():
        ended = round((issued_s - 3600) / 60) - known.first
        assert value == known.at(ended)[number[service, origin, metric], -1]

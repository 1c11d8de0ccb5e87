"""Forecasts: laws of every forecaster, what the default one is worth, and that none sees the future."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_data import scramble, small_tables, table, traffic

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.forecasting.forecaster import FORECASTERS, SCHEMA, Forecaster, Task
from lmaas.analysis.forecasting.models.arima import Arima, Process, foretell
from lmaas.analysis.forecasting.models.carried import CARRY, Carried, carried, refit_every
from lmaas.analysis.forecasting.models.naive import LastValue
from lmaas.analysis.forecasting.models.seasonal import Mstl
from lmaas.analysis.forecasting.rolling import forecast, truth
from lmaas.analysis.forecasting.scores import wape
from lmaas.analysis.windows import demand, known_demand

laws = settings(deadline=None, max_examples=15)
SLOW = ("theta", "arima", "arima-312", "trees", "ensemble")  # half a second a series and more
quick_forecasters = pytest.mark.parametrize("model", [name for name in FORECASTERS if name not in SLOW])
every_forecaster = pytest.mark.parametrize("model", list(FORECASTERS))
KEY = ["issued_s", "start_s", "service", "origin", "metric", "quantile"]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def steady(*, windows, window_s=60.0, per_window=(5,), start=0):
    """As many requests in window k as per_window says (repeated), the first at its start, done on arrival."""
    counts = [(k, per_window[k % len(per_window)]) for k in range(start, windows)]
    arrival = [(k + i / n) * window_s for k, n in counts for i in range(n)]
    return table(arrival_s=arrival)


def series(rows, metric="requests"):
    return rows.filter(pl.col("metric") == metric).sort("start_s")["value"].to_numpy()


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


# --- worth ---


@pytest.mark.parametrize("model", ["auto", "mstl", "seasonal-naive", "theta"])
def test_a_planted_daily_pattern_is_forecast_within_two_percent(model):
    day, day_s = 48, 86_400
    counts = np.round(200 + 150 * np.sin(np.arange(5 * day) / day * 2 * np.pi)).astype(int)
    requests = steady(windows=5 * day, window_s=1800, per_window=counts)
    actual = demand(requests, 1800, 3 * day_s, 5 * day_s)
    errors = {}
    for name in (model, "last-value"):
        rows = forecast(requests, window_s=1800, cut_s=3 * day_s, end_s=5 * day_s, lead_s=3600, model=name)
        scores = wape(rows, actual, "metric")
        errors[name] = scores.filter(pl.col("metric") == "requests")["wape"].item()
    assert errors[model] < 0.02
    assert errors["last-value"] > 0.1


def test_the_default_beats_the_last_value_on_noise_and_on_a_noisy_day(rng):
    for daily, hours in ((0.0, 24), (0.8, 120)):
        requests = traffic(rng, hours=hours, rate=0.05, daily=daily, services=("chat",), regions=("us", "eu"))
        half = hours * 1800.0
        actual = demand(requests, 600, half, 2 * half)
        error = {
            m: wape(forecast(requests, window_s=600, cut_s=half, end_s=2 * half, lead_s=600, model=m), actual).item()
            for m in ("auto", "last-value")
        }
        assert error["auto"] < 0.9 * error["last-value"], error


def test_truth_is_never_wrong_and_known_before_any_lead(rng):
    requests = traffic(rng, hours=2)
    rows = truth(requests, window_s=300, cut_s=3600, end_s=7000)
    assert dict(rows.schema) == SCHEMA
    assert (rows["issued_s"] <= rows["start_s"] - 1e9).all()
    assert wape(rows, demand(requests, 300, 3600, 7000)).item() == 0


def test_wape_is_its_definition():
    actual = demand(steady(windows=4, per_window=(4, 8)), 60, 0, 200)
    rows = truth(steady(windows=4, per_window=(5, 5)), window_s=60, cut_s=0, end_s=120)
    # windows 4, 8, 4 and one cut short; forecast 5, 5 and nothing
    assert wape(rows, actual.filter(pl.col("metric") == "requests")).item() == pytest.approx((1 + 3 + 4) / 16)
    nothing = actual.with_columns(value=pl.lit(0.0))
    assert wape(rows, nothing).item() is None


@pytest.mark.parametrize("name", ["code", "conv"])
def test_the_default_beats_the_last_value_on_an_hour_of_production(name, shared):
    """Azure 2023 in windows of about 36 s, so that requests of the last windows are still running at issue.

    On average over cuts and metrics only: from one cut to the next the ratio of errors runs from 0.7 to 1.35,
    and on the conversations' requests and prompt tokens alone there is nothing to gain.
    """
    file = shared / "traces" / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.csv"
    source = pl.read_csv(file, new_columns=["time", "input", "output"])
    at_s = source["time"].str.to_datetime("%Y-%m-%d %H:%M:%S%.f").dt.epoch("us") / 1e6
    requests = table(arrival_s=at_s - at_s.min(), input_tokens=source["input"], output_tokens=source["output"])
    requests = requests.with_columns(done_s=pl.col("arrival_s") + 0.5 + 0.03 * pl.col("output_tokens"))
    ratios = []
    for cut_s in np.linspace(1400, 2100, 8):
        ask = {"window_s": cut_s / 48, "cut_s": cut_s, "end_s": 3435.0}
        actual = demand(requests, cut_s / 48, cut_s, 3435.0)
        error = {
            m: wape(forecast(requests, lead_s=0, model=m, **ask), actual, "metric")["wape"]
            for m in ("auto", "last-value")
        }
        ratios.append((error["auto"] / error["last-value"]).mean())
    assert np.mean(ratios) < 1, ratios


# --- what models are made of ---


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30))
def test_the_level_carried_is_exponential_smoothing(values):
    error = np.array(values)[None] - 100.0
    for alpha, found in zip(CARRY, carried(error)[:, 0], strict=True):
        level = 100.0
        for value in values:
            level += alpha * (value - level)
        assert 100.0 + found == pytest.approx(level)


def test_models_are_refitted_a_handful_of_times_on_short_traces_and_daily_on_long():
    assert refit_every(48, 2400) == 6
    assert refit_every(1008 * 2, 144) == 144
    assert refit_every(1, 144) == 1


PATHS = [model for model in map(FORECASTERS.load, FORECASTERS) if issubclass(model, Carried)]


def task_of(day, aheads=(1,)):
    return Task(pl.DataFrame({"service": ["a"], "origin": ["b"], "metric": ["requests"]}), day, aheads)


@pytest.mark.parametrize("model", PATHS)
@pytest.mark.parametrize("n", [1, 2, 5, 40, 100])
def test_every_path_of_a_constant_is_that_constant(model, n):
    np.testing.assert_allclose(model().path(np.full(n, 3.0), 17, task_of(12), 0), 3.0)


def test_a_daily_path_repeats_the_day():
    day = np.sin(np.arange(48) / 48 * 2 * np.pi) + 2
    path = Mstl().path(np.tile(day, 4), 60, task_of(48), 0)
    np.testing.assert_allclose(path, np.tile(day, 2)[:60], atol=0.02)


def test_the_arima_between_fits_is_the_arima_of_statsforecast():
    """Coefficients taken over, the recursion gives the library's own forecasts."""
    from statsforecast.models import ARIMA

    rng = np.random.default_rng(0)
    y = 100 + rng.normal(size=300).cumsum() + rng.normal(size=300)
    model = ARIMA(order=(3, 1, 2)).fit(y)
    found = model.model_["coef"]
    process = Process(
        (3, 1, 2), np.array([found[f"ar{k}"] for k in (1, 2, 3)]), np.array([found[f"ma{k}"] for k in (1, 2)]), 0.0,
        np.zeros(12),
    )  # fmt: skip
    np.testing.assert_allclose(foretell(process, y, 300, (1, 2, 10)), model.predict(h=10)["mean"][[0, 1, 9]], rtol=1e-3)


def test_an_arima_forgets_its_fit_of_a_series_that_no_longer_changes():
    day = 8
    noisy = 100 + np.random.default_rng(0).normal(0, 5, 8 * day)
    y = np.concatenate([noisy, np.full(8 * day, 50.0)])
    task, model = task_of(day), Arima()
    state = model.start(task)
    told = [model.issue(y[None, :n], state)[0, 0] for n in range(6 * day, len(y) + 1, 2)]
    assert told[0] > 80 and told[-1] == 50.0
    assert any("did not change; the last value" in what for what in task.fallbacks)


def test_an_arima_that_cannot_be_fitted_anew_says_so(monkeypatch):
    y = 100 + np.random.default_rng(0).normal(0, 5, (1, 64))
    task, model = task_of(8), Arima(order=(1, 0, 0))
    state = model.start(task)
    model.issue(y[:, :40], state)
    monkeypatch.setattr(Arima, "_process", lambda *given: None)
    model.issue(y, state)
    assert task.fallbacks == {"could not be fitted anew; the fit before it until it can": {0}}


# --- no look-ahead ---


def sees_the_future(issue, requests, t):
    """Whether rows issued at or before t change with what happens after t: the contract every forecast must keep."""

    def by_then(table):
        return issue(table).filter(pl.col("issued_s") <= t).sort(KEY)

    before = by_then(requests)
    assert before.height > 100  # else there is nothing to compare
    return not all(by_then(scramble(requests, t, np.random.default_rng(seed))).equals(before) for seed in range(2))


WINDOW_S, CUT_S, END_S = 40.0, 3600.0, 7200.0
INSTANTS = [CUT_S - WINDOW_S, CUT_S, CUT_S + 17 * WINDOW_S, CUT_S + 1000.5]


def issue_with(model, lead_s=80.0):
    return lambda requests: forecast(
        requests, window_s=WINDOW_S, cut_s=CUT_S - 1600, end_s=END_S, lead_s=lead_s, model=model
    )


@pytest.mark.parametrize("t", INSTANTS)
@pytest.mark.parametrize("lead_s", [0.0, 80.0])
def test_the_default_never_looks_ahead(t, lead_s, rng):
    assert not sees_the_future(issue_with("auto", lead_s), traffic(rng, hours=2), t)


@every_forecaster
def test_no_model_looks_ahead(model, rng):
    def issue(requests):
        ask = {"window_s": 100.0, "cut_s": 3000.0, "end_s": END_S, "lead_s": 100.0, "quantiles": [0.1, 0.9]}
        return forecast(requests, model=model, **ask)

    assert not sees_the_future(issue, traffic(rng, hours=2, services=("chat",)), 4030.0)


def test_never_looks_ahead_over_days(rng):
    requests = traffic(rng, hours=96, rate=0.01, daily=0.5)
    day = 86_400.0
    ask = {"window_s": 1200.0, "cut_s": 2 * day, "end_s": 4 * day, "lead_s": 1200.0}
    for t in (2.5 * day, 3.3 * day):
        assert not sees_the_future(lambda r: forecast(r, **ask), requests, t)


def test_the_answer_planted_in_a_later_row_gains_nothing():
    """Every window's demand stands, one window later, in a series of its own: who peeks a window ahead is exact."""
    rng = np.random.default_rng(8)
    counts = rng.poisson(30, 60)
    requests = steady(windows=60, per_window=counts)
    planted = steady(windows=60, per_window=np.roll(counts, 1)).with_columns(service=pl.lit("answers"))
    ask = {"window_s": 60, "cut_s": 1800, "end_s": 3600, "lead_s": 0}

    def of_chat(table, model):
        return forecast(table, model=model, **ask).filter(pl.col("service") == "chat")

    for model in ("last-value", "seasonal-naive", "trees"):  # none of them weighs by what others were off
        honest = wape(of_chat(requests, model), demand(requests, 60, 1800, 3600), "metric")
        told = wape(of_chat(pl.concat([requests, planted]), model), demand(requests, 60, 1800, 3600), "metric")
        assert (told["wape"] > 0.9 * honest["wape"]).all()
        assert (honest["wape"] > 0.05).all()


class InSample(LastValue):
    """A cheat: the fit of a line through the whole series, the windows to be forecast included."""

    def __init__(self, requests):
        self.known = known_demand(requests, window_s=WINDOW_S, cut_s=CUT_S - 1600, end_s=END_S)

    def issue(self, seen, state):
        return self.known.value[-1].mean(axis=1)[None]


@pytest.mark.parametrize("t", INSTANTS)
def test_an_in_sample_fit_is_caught(t, rng):
    assert sees_the_future(lambda r: issue_with(InSample(r))(r), traffic(rng, hours=2), t)


@pytest.mark.parametrize("model", ["auto", "last-value", "mstl"])
@pytest.mark.parametrize("t", INSTANTS[:2])
def test_output_tokens_without_the_completion_lag_are_caught(model, t, rng):
    def cheat(requests):
        return issue_with(model)(requests.with_columns(done_s=pl.col("arrival_s")))

    assert sees_the_future(cheat, traffic(rng, hours=2), t)


def test_a_forecaster_gets_what_was_known_and_cannot_spoil_it(rng):
    requests = traffic(rng, hours=2)
    known = known_demand(requests, window_s=WINDOW_S, cut_s=CUT_S, end_s=END_S)
    widths = []

    class Spoiler:
        def start(self, task: Task):
            assert task.aheads == (3,)
            return widths

        def issue(self, seen, state):
            np.testing.assert_array_equal(seen, known.at(seen.shape[1]))
            state.append(seen.shape[1])
            seen[:] = -5
            return np.full((1, len(seen)), np.nan) if len(state) % 2 else seen[:, -1]

    model: Forecaster = Spoiler()
    rows = forecast(requests, window_s=WINDOW_S, cut_s=CUT_S, end_s=END_S, lead_s=2 * WINDOW_S, model=model)
    assert widths == list(range(44, 177))  # the first half of what is known at the first issue is for learning
    assert (rows["value"] >= 0).all()

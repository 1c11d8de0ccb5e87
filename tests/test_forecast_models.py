"""What forecasters are made of: paths that are carried, seasons, ARIMA between its fits."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.analysis.forecasting.forecaster import FORECASTERS, Task
from lmaas.analysis.forecasting.models.arima import Arima, Process, foretell
from lmaas.analysis.forecasting.models.carried import CARRY, Carried, carried, refit_every
from lmaas.analysis.forecasting.models.seasonal import Mstl


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

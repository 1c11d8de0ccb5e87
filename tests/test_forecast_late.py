"""Series that begin or end around the cut: who comes later tells nothing before, and who ends is still scored."""

import numpy as np
import polars as pl
import pytest
from forecast_data import KEY
from requests_data import table, traffic

from lmaas.analysis.forecasting.forecaster import FORECASTERS, Task
from lmaas.analysis.forecasting.models import trees
from lmaas.analysis.forecasting.rolling import forecast, issue
from lmaas.analysis.forecasting.study import against

HOURS = 24
CUT_S, END_S = 3600.0 * HOURS, 2 * 3600.0 * HOURS


@pytest.fixture
def requests():
    rng = np.random.default_rng(3)
    return traffic(rng, hours=2 * HOURS, rate=0.02, daily=0.5, services=("chat", "code"), regions=("us",))


@pytest.mark.parametrize("model", [name for name in FORECASTERS if name not in ("theta", "arima", "arima-312")])
def test_services_born_later_change_nothing_issued_before(model, requests):
    born_s = CUT_S + 0.7 * (END_S - CUT_S)
    ask = {"window_s": 1800.0, "cut_s": CUT_S, "end_s": END_S, "lead_s": 1800.0, "model": model, "quantiles": [0.9]}
    at = np.linspace(born_s, END_S - 1, 200)
    born = [table(arrival_s=at, service=[f"new-{k}"] * 200, region=["us"] * 200) for k in range(6)]

    def by_then(rows):
        return forecast(rows, **ask).filter(pl.col("issued_s") < born_s).sort(KEY)

    before = by_then(requests)
    assert before.height > 100
    assert by_then(pl.concat([requests, *born]).sort("arrival_s")).equals(before)


def test_what_ended_at_the_cut_is_scored_for_what_was_still_forecast_of_it(requests):
    ended = requests.filter((pl.col("service") == "chat") | (pl.col("arrival_s") < CUT_S))
    span = {"window_s": 1800.0, "cut_s": CUT_S, "end_s": END_S}
    issued = issue(ended, leads_s=[0.0], model="mean", **span)
    windows = against("mean", issued.rows, ended, span)
    code = windows.filter(service="code", metric="requests")
    assert code.height == windows.filter(service="chat", metric="requests").height > 0
    assert code["actual"].sum() == 0
    assert code["forecast"].sum() > 0


def test_a_horizon_is_one_however_late_the_clock_and_crooked_the_window(requests):
    late_s = 1.7e9 + 0.123
    later = requests.with_columns(pl.col("arrival_s", "done_s") + late_s)
    span = {"window_s": 1234.5678901 / 3, "cut_s": CUT_S + late_s, "end_s": CUT_S + late_s + 20_000}
    leads = [0.0, 2 * span["window_s"], 3600.0]
    issued = issue(later, leads_s=leads, model="last-value", **span)
    windows = against("last-value", issued.rows, later, span)
    assert windows["horizon_s"].n_unique() == len(leads)
    assert windows["forecast"].null_count() == 0
    assert not windows.select("horizon_s", "start_s", "service", "origin", "metric").is_duplicated().any()


def test_trees_learn_from_the_newest_windows_of_all_series_alike(monkeypatch):
    use = np.array([[1, 1, 1, 1], [0, 0, 1, 1]], dtype=bool)
    assert trees.newest(use, 6).tolist() == [True] * 4
    assert trees.newest(use, 5).tolist() == [False, True, True, True]
    assert trees.newest(use, 3).tolist() == [False, False, False, True]

    # both begin alike and swap their rhythms half way: what is said of the first must not be what held long ago
    monkeypatch.setattr(trees, "MAX_ROWS", 160)
    turn = np.tile([10.0, 30.0], 200)
    flat = np.full(400, 20.0)
    seen = np.stack([np.concatenate([flat, turn]), np.concatenate([turn, flat])])
    names = pl.DataFrame({"service": ["a", "b"], "origin": ["d"] * 2, "metric": ["requests"] * 2})
    model = trees.Trees()
    said = model.issue(seen, model.start(Task(names, 48, (1,))))[0]
    assert said == pytest.approx([10.0, 20.0], rel=0.1)

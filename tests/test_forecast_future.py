"""No forecast sees the future, and forecasters that do are caught."""

import numpy as np
import polars as pl
import pytest
from forecast_data import KEY, every_forecaster, steady
from requests_data import scramble, traffic

from lmaas.analysis.forecasting.forecaster import Forecaster, Task
from lmaas.analysis.forecasting.models.naive import LastValue
from lmaas.analysis.forecasting.rolling import forecast
from lmaas.analysis.forecasting.scores import wape
from lmaas.analysis.windows import demand, known_demand


@pytest.fixture
def rng():
    return np.random.default_rng(3)


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


PLANTED = {"window_s": 60, "cut_s": 1800, "end_s": 3600}


class Peeking(LastValue):
    """A cheat: of two services, what will stand one window late in the other's row."""

    def __init__(self, requests):
        self.known = known_demand(requests, **PLANTED)

    def issue(self, seen, state):
        row = self.known.value[-1, :, min(seen.shape[1] + 1, self.known.windows - 1)]
        return np.roll(row, len(row) // 2)[None] if len(row) == 6 else super().issue(seen, state)


@pytest.mark.parametrize(
    ("model", "gains"),
    [("last-value", False), ("seasonal-naive", False), ("trees", False), ("auto", False), ("mstl", False),
     (Peeking, True)],
)  # fmt: skip
def test_the_answer_planted_in_a_later_row_gains_nothing(model, gains):
    """Every window's demand stands, one window later, in a series of its own: who peeks a window ahead is exact."""
    counts = np.random.default_rng(8).poisson(30, 60)
    requests = steady(windows=60, per_window=counts)
    planted = steady(windows=60, per_window=np.roll(counts, 1)).with_columns(service=pl.lit("answers"))

    def error(requests):
        using = model if isinstance(model, str) else model(requests)
        rows = forecast(requests, model=using, lead_s=0, **PLANTED).filter(pl.col("service") == "chat")
        return wape(rows, demand(steady(windows=60, per_window=counts), 60, 1800, 3600), "metric").sort("metric")

    honest, told = error(requests)["wape"], error(pl.concat([requests, planted]))["wape"]
    assert (honest > 0.05).all()
    assert ((told < 0.9 * honest).any()) == gains, (honest, told)


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

"""What evaluate says of forecasts and lengths that could not be made as asked, counted by kind."""

from types import SimpleNamespace

import polars as pl
from forecast_data import steady
from test_forecast_intervals import Blank

from lmaas.policies.ahead import Horizon, forecast_ahead
from lmaas.policies.inputs import Inputs


def of(service, **given):
    return steady(**given).with_columns(service=pl.lit(service))


def asked(requests, cut_s=3600.0):
    return Inputs(
        SimpleNamespace(requests=requests, replayed=requests, window_s=60.0, cut_s=cut_s, horizon_s=7200.0, seed=0)
    )


def test_what_models_did_instead_is_counted_once_a_kind_whoever_asks():
    requests = pl.concat(
        [of("gappy", windows=120, per_window=(5, 0, 0)), of("other", windows=120, per_window=(3, 4)),
         of("new", windows=120, start=90, per_window=(2, 1))]
    ).sort("arrival_s")  # fmt: skip
    inputs = asked(requests)
    for model in ("mstl", "last-value"):
        inputs.demand(model, 0.0)
    assert inputs.notes == [
        "forecasts, 60 s windows: 1 of 3 series had no window in the training part and are forecast from their first "
        "request on",
        "forecasts, 60 s windows: 1 of 3 series were empty in half of their training windows or more: their forecasts "
        "are averages over gaps",
        "forecasts, 60 s windows: 2 of 3 series had under two days of history at the cut: of a day's pattern little is "
        "known",
        "mstl, 60 s windows: 3 of 3 series had less than a day; its mean until then",
    ]


def test_a_forecast_that_is_no_number_is_said_by_the_hour_too():
    requests = steady(windows=120).with_columns(scored_tier=pl.lit("interactive-fast"))
    notes: set[str] = set()
    rows = forecast_ahead(
        requests, Horizon(every_s=600.0, windows=3), cut_s=3600.0, end_s=7200.0, model=Blank(), notes=notes
    )
    assert rows["value"].is_finite().all()
    assert notes == {"Blank, 60 s windows: 1 of 1 series issued no number at times; the last value there"}


def test_services_that_nothing_was_learned_of_are_named_and_no_endless_list():
    late = [of(f"late{k}", windows=120, start=90) for k in range(7)]
    requests = pl.concat([of("known", windows=120), *late]).sort("arrival_s")
    names = "late0, late1, late2, late3, late4 and 2 more"
    said = f"output lengths: 7 of 8 services had no request done before the cut ({names}): what is said of them was "
    for kind in (None, "input-bin"):
        inputs = asked(requests)
        inputs.lengths(kind)
        assert any(note.startswith(said) for note in inputs.notes), inputs.notes


def test_nothing_is_said_of_services_where_all_are_known():
    inputs = asked(steady(windows=120))
    inputs.lengths(None)
    assert inputs.notes == []

"""How long a request ran: one formula wherever nobody saw it."""

import polars as pl
import pytest
from trace_data import reader

from lmaas.analysis.forecasting.study import _requests
from lmaas.analysis.lengths.requests import requests_of
from lmaas.analysis.nominal import SAID, duration_s, nominal_s

ROWS = pl.DataFrame(
    {"e2e_s": [2.5, 0.0, None, None], "input_tokens": [10, 5000, 5000, None], "output_tokens": [10, 20, 100, None]},
    schema_overrides={"input_tokens": pl.UInt32, "output_tokens": pl.UInt32},
)


def test_a_nominal_duration_is_a_second_and_the_tokens_of_both_kinds():
    assert ROWS.select(nominal_s()).to_series().to_list() == pytest.approx([1.502, 3.0, 7.0, 1.0])


def test_what_was_observed_counts_unless_it_is_zero():
    assert ROWS.select(duration_s()).to_series().to_list() == pytest.approx([2.5, 3.0, 7.0, 1.0])


def test_forecasts_and_lengths_know_an_output_from_the_same_instant_and_say_so(tmp_path):
    read = reader(tmp_path)
    trace = read("arrival_s,input_tokens,output_tokens,e2e_s\n0,5000,20,\n1,10,10,0\n2,10,10,3.5\n")
    forecast, remarks = _requests(trace)
    lengths, note = requests_of(trace)
    assert forecast["done_s"].to_list() == lengths["done_s"].to_list() == pytest.approx([3.0, 2.502, 5.5])
    assert SAID in remarks[0] and SAID in note and remarks[0].startswith("2 of 3") and note.startswith("2 requests")

"""Request types of forecasts: clusters of lengths that nobody knows before a request is done."""

import numpy as np
import polars as pl
from requests_data import scramble, table

from lmaas.analysis.forecasting.request_types import as_done, typed
from lmaas.analysis.forecasting.rolling import forecast
from lmaas.analysis.forecasting.shares import by_share

SPAN = {"window_s": 300.0, "cut_s": 5400.0, "end_s": 10_800.0}


def two_kinds(rng, n=4000, s_per_token=0.02, apart=1.0):
    """Short questions with long answers, long ones with short answers."""
    long = rng.random(n) < 0.3
    output = np.where(long, 20, 800) * rng.lognormal(0, 0.1, n)
    t = np.sort(rng.random(n) * 10_800)
    return table(
        arrival_s=t, input_tokens=(np.where(long, 3000, 50) ** apart * 10 * rng.lognormal(0, 0.1, n)).astype(int),
        output_tokens=output.astype(int), done_s=t + s_per_token * output,
    ), long  # fmt: skip


def test_types_are_the_clusters():
    requests, long = two_kinds(np.random.default_rng(1))
    found = typed(requests, SPAN["cut_s"])
    kinds = [found.filter(pl.Series(mask))["type"].unique().to_list() for mask in (long, ~long)]
    assert len(kinds[0]) == len(kinds[1]) == 1 and kinds[0] != kinds[1]
    np.testing.assert_array_equal(found.drop("type"), requests)


def test_without_lengths_or_history_there_is_no_type():
    requests, _ = two_kinds(np.random.default_rng(1))
    assert typed(requests, -1.0)["type"].null_count() == requests.height
    assert typed(requests.clear(), 5400.0).height == 0
    blank = requests.with_columns(
        output_tokens=pl.when(pl.col("arrival_s") > 9000).then(None).otherwise("output_tokens")
    )
    assert typed(blank, 5400.0)["type"].is_null().to_list() == blank["output_tokens"].is_null().to_list()


def test_requests_arrive_when_they_are_done():
    requests = table(arrival_s=[0.0, 1.0, 2.0], done_s=[9.0, None, 1.5])
    assert as_done(requests).select("arrival_s", "done_s").rows() == [(2.0, 2.0), (9.0, 9.0)]


def shares_change(cheat, t=7210.0):
    """Whether rows by type issued at or before t change with what happens after t."""
    requests, _ = two_kinds(np.random.default_rng(4), s_per_token=0.3, apart=0.0)
    rows = forecast(requests, lead_s=0.0, model="last-value", **SPAN).filter(pl.col("issued_s") <= t)

    def made(seen):
        known = typed(seen, SPAN["cut_s"])
        parts = by_share(rows, known if cheat else as_done(known), "type", **SPAN)
        return parts.sort("start_s", "service", "origin", "metric", "type")

    assert made(requests)["type"].n_unique() == 2
    running = pl.col("done_s") > t  # short answers in place of the long ones that are still going on
    other = scramble(requests, t, np.random.default_rng(0)).with_columns(
        output_tokens=pl.when(running).then(20).otherwise("output_tokens").cast(pl.UInt32)
    )
    return not made(requests).equals(made(other))


def test_types_see_no_future_and_those_of_running_requests_are_caught():
    assert not shares_change(cheat=False)
    assert shares_change(cheat=True)

"""Tails: planted exponents are found, lognormals are not called power laws, and odd histograms give no nonsense."""

import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import lognorm
from spatial_data import requests, summary_of

from lmaas.analysis.workload import tails
from lmaas.analysis.workload.buckets import bucket, edges
from lmaas.analysis.workload.tailfit import fit, verdict


def histogram(values):
    whole = pl.DataFrame({"v": np.rint(values).astype(np.int64)}).filter(pl.col("v") > 0)
    found = whole.group_by(b=bucket(pl.col("v"))).len().sort("b")
    return *edges(found["b"].to_numpy()), found["len"].to_numpy().astype(float)


def pareto(rng, alpha, n, least=100.0):
    return least * (1 + rng.pareto(alpha, n))


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_exponent_is_found(alpha, seed):
    tail = fit(*histogram(pareto(np.random.default_rng(seed), alpha, 20_000)))
    assert verdict(tail) == "power law"
    assert abs(tail.exponent - alpha) < 4 * tail.standard_error
    # of n values the maximum likelihood exponent has the standard error alpha / sqrt(n)
    assert tail.standard_error == pytest.approx(alpha / math.sqrt(tail.n.sum()), rel=0.1)


def test_a_power_law_that_begins_late_is_found_where_it_begins():
    rng = np.random.default_rng(3)
    body, tail = np.minimum(rng.lognormal(5, 1, 50_000), 1000), pareto(rng, 1.8, 50_000, 1000)
    found = fit(*histogram(np.where(rng.random(50_000) < 0.05, tail, body)))
    assert verdict(found) == "power law"
    assert 900 < found.threshold < 1500
    assert found.exponent == pytest.approx(1.8, abs=4 * found.standard_error)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("n", [3_000, 100_000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_lognormal_is_not_called_a_power_law(sigma, n, seed):
    found = fit(*histogram(np.random.default_rng(seed).lognormal(6, sigma, n)))
    assert verdict(found) != "power law"
    if n > 50_000:
        assert found.bell.sigma == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_limit_that_piles_up_hides_no_exponent(seed):
    cut = np.minimum(pareto(np.random.default_rng(seed), 1.2, 20_000), 2000)
    found = fit(*histogram(cut))
    assert verdict(found) == "power law"
    assert found.exponent == pytest.approx(1.2, abs=4 * found.standard_error)


def test_distances_and_laws_equal_their_definitions():
    rng = np.random.default_rng(5)
    found = fit(*histogram(rng.lognormal(6, 1, 50_000)))
    x = found.low[1:]
    assert found.power(x) == pytest.approx((x / found.threshold) ** -found.exponent)
    law = lognorm(found.bell.sigma, scale=math.exp(found.bell.mu))
    assert found.lognormal(x) == pytest.approx(law.sf(x) / law.sf(found.threshold))
    above = [found.n[k + 1 :].sum() / found.n.sum() for k in range(len(x))]
    assert found.distance("power") == pytest.approx(max(abs(a - b) for a, b in zip(above, found.power(x), strict=True)))


@pytest.mark.parametrize(
    "values",
    [
        np.full(5000, 10),
        np.repeat([10, 500], 2500),
        np.arange(1, 5001) % 3 + 1,
        np.full(5000, 4_000_000_000),
        np.arange(1, 150),
        np.random.default_rng(0).integers(900, 1100, 5000),
    ],
    ids=["constant", "two lengths", "1 to 3", "huge", "few", "narrow"],
)
def test_what_has_no_tail_has_no_power_law(values):
    found = fit(*histogram(values))
    assert found is None or verdict(found) != "power law"


def test_tables_name_services_and_leave_out_small_ones():
    rng = np.random.default_rng(1)
    service = ["heavy"] * 4000 + ["light"] * 4000 + ["rare"] * 50
    inputs = np.concatenate((pareto(rng, 1.5, 4000), rng.lognormal(5, 0.7, 4050)))
    found = tails.tables(summary_of(requests(inputs, rng.lognormal(4, 1, 8050), service=service)).states["lengths"])
    table = found["tails"]
    assert table.columns == list(tails.COLUMNS["tails"])
    assert set(table["name"]) == {"all", "heavy", "light"}
    said = dict(table.filter(metric="input_tokens").select("name", "verdict").iter_rows())
    assert said["heavy"] == "power law" and said["light"] != "power law"
    curve = found["tail_curve"].filter(name="heavy", metric="input_tokens")
    assert curve["share"][0] == 1.0 and curve["share"].is_sorted(descending=True)
    fitted = curve.drop_nulls("power").filter(pl.col("tokens") < 2000)
    assert (fitted["power"] / fitted["share"] - 1).abs().max() < 0.15
    heavy = table.filter(name="heavy").with_columns(by=pl.lit("all"))
    (sentence,) = tails.findings({"tails": heavy}, None)
    assert sentence.startswith("Prompts of") and "exponent 1.5" in sentence


@pytest.mark.parametrize("sigma", [0.2, 1.0, 2.0])
def test_the_curve_follows_steep_falls_down_to_the_longest(sigma):
    rng = np.random.default_rng(4)
    outputs = np.maximum(1, np.rint(rng.lognormal(6, sigma, 50_000)))
    found = tails.tables(summary_of(requests(outputs, outputs)).states["lengths"])
    curve = found["tail_curve"].filter(metric="output_tokens")
    tokens, share = curve["tokens"].to_numpy(), curve["share"].to_numpy()
    bins = pl.DataFrame({"v": outputs.astype(np.int64)}).group_by(b=bucket(pl.col("v"))).len().sort("b")
    every = np.maximum(1, np.ceil(edges(bins["b"].to_numpy())[0] - 1e-6))
    assert share.tolist() == [(outputs >= t).mean() for t in tokens]
    assert (tokens[0], tokens[-1]) == (every[0], every[-1])
    place = np.searchsorted(every, tokens)
    skips = np.diff(place) > 1  # from one bin to the next nothing can be drawn between
    assert skips.any()
    for values in (tokens, share):
        even = abs(math.log(values[-1] / values[0])) / 99
        # each step ends at the next bin's edge
        assert np.abs(np.diff(np.log(values)))[skips].max() < 2 * even + abs(np.diff(np.log(values))[~skips]).max()


def test_no_rows_no_tails():
    rows = requests([10.0, 20.0], [5.0, 5.0])
    found = tails.tables(summary_of(rows).states["lengths"])
    assert found["tails"].is_empty() and found["tail_curve"].is_empty()
    assert list(tails.findings(found, None)) == []

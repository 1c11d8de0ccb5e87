"""Times between arrivals: fits to grouped, quantised times find what they were drawn from, or say that they cannot."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lmaas.analysis.workload import arrivals
from lmaas.analysis.workload.buckets import bucket, edges
from lmaas.analysis.workload.families import FAMILIES, fit, log_mass

DRAWN = {
    "exponential": lambda rng, n: rng.exponential(2.0, n),
    "gamma": lambda rng, n: rng.gamma(0.4, 3.0, n),
    "weibull": lambda rng, n: 1.5 * rng.weibull(0.6, n),
    "lognormal": lambda rng, n: rng.lognormal(-1.0, 1.4, n),
}
PLANTED = {"exponential": (None, 2.0), "gamma": (0.4, 3.0), "weibull": (0.6, 1.5), "lognormal": (1.4, math.exp(-1))}


def histogram(gaps_us):
    """The state `gaps` as arrays: lower, upper, n, total."""
    found = (
        pl.DataFrame({"value": np.asarray(gaps_us, dtype=np.int64)})
        .group_by(bucket(pl.col("value")).alias("bucket"))
        .agg(n=pl.len(), total=pl.col("value").sum())
    )
    return (*edges(found["bucket"].to_numpy()), found["n"].to_numpy(), found["total"].to_numpy())


def seen(gaps_s, quantum_s):
    """What a clock of this quantum shows of arrivals so far apart, in microseconds."""
    at = np.floor(np.cumsum(gaps_s) / quantum_s)
    return np.diff(at) * quantum_s * 1e6


@pytest.mark.parametrize("quantum_s", [1e-6, 0.05])
@pytest.mark.parametrize("family", DRAWN)
def test_the_planted_family_is_found_with_its_parameters(family, quantum_s):
    gaps_s = DRAWN[family](np.random.default_rng(1), 40_000)
    tables = arrivals.gaps(*histogram(seen(gaps_s, quantum_s)), quantum_s)
    best = tables["gap_fits"].row(0, named=True)
    shape, scale = PLANTED[family]
    if family != "exponential":
        assert best["family"] == family
        assert best["shape"] == pytest.approx(shape, rel=0.05)
    else:
        # one of the wider families may be a hair likelier; none by much, and it is an exponential too
        best = tables["gap_fits"].row(by_predicate=pl.col("family") == family, named=True)
        assert best["aic_over_best"] < 10
    assert best["scale_s"] == pytest.approx(scale, rel=0.05)
    assert best["ks"] < 2 * best["ks_noise"]
    assert tables["gap_fits"]["aic_over_best"].to_list() == sorted(tables["gap_fits"]["aic_over_best"])


def test_mean_and_cv_are_those_of_the_rows():
    gaps_us = np.random.default_rng(2).lognormal(10, 1.5, 5000).astype(np.int64)
    row = arrivals.gaps(*histogram(gaps_us), 1e-6)["gaps"].row(0, named=True)
    assert row["n"] == 5000
    assert row["mean_s"] == pytest.approx(gaps_us.mean() / 1e6, rel=1e-12)
    assert row["cv"] == pytest.approx(gaps_us.std(ddof=1) / gaps_us.mean(), abs=0.003)
    for name, p in (("p50_s", 50), ("p90_s", 90), ("p99_s", 99)):
        assert row[name] == pytest.approx(np.percentile(gaps_us, p) / 1e6, rel=0.011)


def test_merged_histograms_give_the_fit_of_all():
    gaps_us = seen(DRAWN["weibull"](np.random.default_rng(3), 9000), 1e-6)
    parts = [histogram(gaps_us[k::3]) for k in range(3)]
    stacked = [np.concatenate(p) for p in zip(*parts, strict=True)]
    summed = pl.DataFrame(stacked, schema=["lower", "upper", "n", "total"]).group_by("lower", "upper").sum()
    whole = arrivals.gaps(*histogram(gaps_us), 1e-6)
    merged = arrivals.gaps(*(summed[c].to_numpy() for c in ("lower", "upper", "n", "total")), 1e-6)
    assert merged["gap_fits"].equals(whole["gap_fits"]) and merged["gaps"].equals(whole["gaps"])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.floats(0.1, 8), st.floats(0.01, 100), st.floats(1e-6, 1e3))
def test_the_mass_of_a_cell_is_that_of_scipy(family, shape, scale, lower):
    cell = np.array([lower]), np.array([lower * 1.01])
    known = {
        "exponential": stats.expon(scale=scale),
        "gamma": stats.gamma(shape, scale=scale),
        "weibull": stats.weibull_min(shape, scale=scale),
        "lognormal": stats.lognorm(shape, scale=scale),
    }[family]
    # the smaller tail, as the function should; where scipy's underflows there is nothing to compare with
    a, b = (float(x[0]) for x in cell)
    want = known.cdf(b) - known.cdf(a) if known.cdf(a) < 0.5 else known.sf(a) - known.sf(b)
    got = float(log_mass(FAMILIES[family][0], *cell, shape, scale)[0])
    assert math.isfinite(got) and got < 1e-9
    if want > 1e-200:
        assert got == pytest.approx(math.log(want), abs=1e-4)


def test_far_outliers_have_a_mass_that_falls():
    """Where a tail underflows the likelihood still says which way is better."""
    cells = np.array([1e3, 1e4, 1e5]), np.array([1e3, 1e4, 1e5]) * 1.01
    for family, (tails, _) in FAMILIES.items():
        mass = log_mass(tails, *cells, 1.5, 1.0)
        assert np.isfinite(mass).all() and (np.diff(mass) < 0).all(), family


def test_the_fit_is_the_most_likely_one():
    """No neighbour of the parameters found is likelier."""
    rng = np.random.default_rng(5)
    lower, upper, n, _ = histogram(rng.gamma(0.7, 4e5, 3000))
    order = np.argsort(lower)
    lower, upper, n = lower[order], np.maximum(upper[order], 0.5), n[order]
    for family, (tails, free) in FAMILIES.items():
        found = fit(family, lower, upper, n, 2.8e5)
        shape = found.shape or 1.0
        best = (n * log_mass(tails, lower, upper, shape, found.scale)).sum()
        assert best == pytest.approx(found.log_likelihood, rel=1e-9)
        for a, b in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)) if free > 1 else ((1, 1.01), (1, 0.99)):
            assert (n * log_mass(tails, lower, upper, shape * a, found.scale * b)).sum() < best


@pytest.mark.parametrize(
    ("gaps_us", "quantum_s", "why"),
    [
        ([0] * 900 + [3_000_000] * 100, 3.0, "shorter than the clock"),
        ([5_000_000] * 500, 1.0, "different"),
        (list(range(1, 50)), 1e-6, "fewer than 100 gaps"),
    ],
)
def test_what_the_clock_hides_is_not_fitted(gaps_us, quantum_s, why):
    tables = arrivals.gaps(*histogram(gaps_us), quantum_s)
    row = tables["gaps"].row(0, named=True)
    assert not row["resolvable"] and why in row["reason"]
    assert set(tables) == {"gaps"}
    assert row["mean_s"] == pytest.approx(np.mean(gaps_us) / 1e6)


@pytest.mark.parametrize("gaps_us", [[], [0], [0] * 1000])
def test_all_at_one_instant_has_no_gaps(gaps_us):
    assert arrivals.gaps(*histogram(gaps_us), 1.0) == {}


def test_cells_cover_time_without_overlap():
    lower, upper, n, _ = histogram(np.arange(0, 4000) * 1000)
    order = np.argsort(lower)
    low, high = arrivals.cells(lower[order], upper[order], 1000.0)
    assert low[0] == 0.0 and (low[1:] == high[:-1]).all() and n.sum() == 4000
    # times that are no multiples of the quantum said: the cells are those of whole microseconds
    low, high = arrivals.cells(np.array([10.0]), np.array([12.0]), 1000.0)
    assert (low[0], high[0]) == (9.5, 11.5)

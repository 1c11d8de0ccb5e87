"""Unequal values: weighted figures equal those of the values written out one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.analysis.workload.inequality import cv, effective, entropy, evenness, gini, quantile, top_share

weighted = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 5)), min_size=1, max_size=20)


@settings(max_examples=80, deadline=None)
@given(weighted)
def test_weights_count_values_several_times(pairs):
    values, counts = np.array(pairs, float).T
    each = np.repeat(values, counts.astype(int))
    if each.sum() == 0:
        assert cv(values, counts) is gini(values, counts) is top_share(values, counts, 0.1) is None
        return
    n, mean = len(each), each.mean()
    assert cv(values, counts) == pytest.approx(each.std() / mean)
    # half the mean difference of two drawn at random, over the mean
    assert gini(values, counts) == pytest.approx(np.abs(each[:, None] - each).sum() / (2 * n * n * mean), abs=1e-9)
    for k in (1, n // 2, n):
        assert top_share(values, counts, k / n) == pytest.approx(np.sort(each)[::-1][:k].sum() / each.sum())
    assert each.min() <= quantile(values, counts, 0.3) <= each.max()


def test_a_quantile_lies_between_the_values_around_it():
    values, counts = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    assert quantile(values, counts, 0.0) == 1.0
    assert quantile(values, counts, 1.0) == 3.0
    rng = np.random.default_rng(0)
    many = rng.lognormal(5, 1, 20_000)
    assert quantile(many, np.ones(20_000), 0.9) == pytest.approx(np.percentile(many, 90), rel=0.001)


def test_mixes():
    assert entropy(np.array([5.0])) == 0.0
    assert evenness(np.array([2.0, 2.0, 2.0]), 3) == pytest.approx(1.0)
    assert evenness(np.array([2.0, 0.0]), 2) == 0.0
    assert evenness(np.array([2.0]), 1) is None
    assert effective(np.array([1.0, 1.0, 0.0])) == pytest.approx(2.0)
    assert effective(np.array([3.0, 1.0])) == pytest.approx(1.6)


def test_nothing_counted_is_unknown():
    none = np.array([])
    assert [f(none, none) for f in (cv, gini)] == [None, None]
    assert top_share(none, none, 0.1) is quantile(none, none, 0.5) is entropy(none) is effective(none) is None
    assert evenness(np.zeros(2), 2) is None

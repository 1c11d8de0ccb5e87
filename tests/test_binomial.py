"""The exact interval of a share: against the beta quantiles it is defined by, and its coverage by enumeration."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from lmaas.policies.binomial import exact


@pytest.mark.parametrize("n", [1, 7, 23, 300, 100_000])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_it_is_the_beta_quantiles(count, n):
    count = min(count, n)
    low, high = exact(count, n, 0.9)
    assert low == pytest.approx(beta.ppf(0.05, count, n - count + 1) if count else 0.0, rel=1e-9, abs=1e-15)
    assert high == pytest.approx(beta.ppf(0.95, count + 1, n - count) if count < n else 1.0, rel=1e-9)


def test_no_miss_of_few_leaves_much_open():
    assert exact(0, 23, 0.9) == (0.0, pytest.approx(1 - 0.05 ** (1 / 23)))
    assert exact(0, 298, 0.9)[1] > 0.01 > exact(0, 299, 0.9)[1]  # 99 % needs 299 requests without a miss
    assert exact(0, 0, 0.9) == (0.0, 1.0)


def test_it_covers_whatever_the_share():
    n = 40
    bounds = [exact(k, n, 0.9) for k in range(n + 1)]
    for p in np.linspace(0.003, 0.997, 60):
        held = sum(binom.pmf(k, n, p) for k, (low, high) in enumerate(bounds) if low <= p <= high)
        assert held >= 0.9

"""The season by LOESS: statsforecast's MSTL to the bit, at less cost."""

import numpy as np
import pytest

from lmaas.analysis.forecasting.models.seasonal import Decomposed


@pytest.mark.parametrize("day", [6, 24, 144])
@pytest.mark.parametrize("empty", [0.0, 0.8, 1.0])
def test_it_is_what_statsforecast_gives(day, empty):
    from statsforecast.models import MSTL, SimpleExponentialSmoothingOptimized

    rng = np.random.default_rng(day)
    jumps = {"seasonal_jump": 2, "trend_jump": max(day // 7, 1), "low_pass_jump": max(day // 10, 1)}
    for n, h in ((2 * day, day), (3 * day + 5, day + 3), (5 * day, 2 * day + 1)):
        y = rng.lognormal(3, 1, n) * (1 + np.sin(np.arange(n) / day * 2 * np.pi)) * (rng.random(n) >= empty)
        other = MSTL([day], trend_forecaster=SimpleExponentialSmoothingOptimized(), stl_kwargs=jumps)
        np.testing.assert_array_equal(Decomposed(day).forecast(y, h)["mean"], other.forecast(y=y, h=h)["mean"])

"""The exact interval of a share that was counted, by Clopper and Pearson (Biometrika 26, 1934)."""

from collections.abc import Callable

import numpy as np

STEPS = 60  # halvings: to the last bit


def exact(count: int, n: int, level: float) -> tuple[float, float]:
    """(low, high) of a share of which `count` of `n` independent cases were seen; never narrower than `level` says.

    Of none of n it is (0, 1 - ((1 - level) / 2)^(1/n)). The time is linear in `count`.
    """
    if n == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else _root(lambda p: at_most(count - 1, n, p) > 1 - tail)
    high = 1.0 if count == n else _root(lambda p: at_most(count, n, p) > tail)
    return low, high


def at_most(count: int, n: int, p: float) -> float:
    """P(X <= count) of X ~ Binomial(n, p), 0 < p < 1."""
    k = np.arange(1, count + 1)
    ways = np.concatenate(([0.0], np.cumsum(np.log((n - k + 1) / k))))
    k = np.arange(count + 1)
    return float(np.exp(ways + k * np.log(p) + (n - k) * np.log1p(-p)).sum())


def _root(beyond: Callable[[float], bool]) -> float:
    """Where `beyond`, which holds from 0 up to some p, ceases to."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) else (low, middle)
    return low

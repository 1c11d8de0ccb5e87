"""How unequal weighted values are: variation, Gini, shares of the top, effective number of groups.

Every function takes values and how many times each counts; what is undefined (nothing counted, a mean of 0) is None.
"""

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]


def cv(values: F8, counts: F8) -> float | None:
    """Standard deviation / mean."""
    n = counts.sum()
    mean = float((values * counts).sum() / n) if n > 0 else 0.0
    if mean <= 0:
        return None
    return float(np.sqrt(((values - mean) ** 2 * counts).sum() / n) / mean)


def gini(values: F8, counts: F8) -> float | None:
    """0 where all are equal, towards 1 where one has everything: twice the area between Lorenz curve and diagonal."""
    total, n = float((values * counts).sum()), float(counts.sum())
    if total <= 0:
        return None
    order = np.argsort(values, kind="stable")
    share, people = (values * counts)[order] / total, counts[order] / n
    below = np.cumsum(share) - share
    return max(0.0, float(1 - (people * (2 * below + share)).sum()))  # rounding can fall below 0


def top_share(values: F8, counts: F8, part: float) -> float | None:
    """Share of the sum that the largest `part` of what is counted holds; within one value, proportionally."""
    total, n = float((values * counts).sum()), float(counts.sum())
    if total <= 0:
        return None
    order = np.argsort(-values, kind="stable")
    reached = np.concatenate(([0.0], np.cumsum(counts[order]) / n))
    held = np.concatenate(([0.0], np.cumsum((values * counts)[order]) / total))
    return float(np.interp(part, reached, held))


def quantile(values: F8, counts: F8, q: float) -> float | None:
    """Value below which a share q lies; each value stands in the middle of its counts, linear between."""
    n = counts.sum()
    if n <= 0:
        return None
    order = np.argsort(values, kind="stable")
    weight = counts[order] / n
    return float(np.interp(q, np.cumsum(weight) - weight / 2, values[order]))


def entropy(shares: F8) -> float | None:
    """Of a mix of groups, in nats; 0 where there is one."""
    total = shares.sum()
    if total <= 0:
        return None
    p = shares[shares > 0] / total
    return max(0.0, float(-(p * np.log(p)).sum()))


def evenness(shares: F8, groups: int) -> float | None:
    """Entropy of a mix / that of `groups` equal shares: 0 is one group alone, 1 all alike; None below two groups."""
    found = entropy(shares)
    return None if found is None or groups < 2 else min(1.0, found / float(np.log(groups)))


def effective(shares: F8) -> float | None:
    """How many equal groups would be as concentrated: 1 / sum of squared shares (inverse Simpson, 1 / HHI)."""
    total = shares.sum()
    return None if total <= 0 else float(1 / ((shares / total) ** 2).sum())

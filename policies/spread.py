"""How far scores scatter between seeds, and intervals that allow for it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .paired import LEVEL, Bounds


@dataclass(frozen=True)
class Spread:
    """Scores by policy, metric and seed, the evaluation's own first; empty: one seed, no spread is known."""

    scores: Mapping[tuple[str, str], tuple[float | None, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, by_seed: pl.DataFrame) -> "Spread":
        """Of full.seeds.SCORES, sorted by policy and seed."""
        metrics = [name for name in by_seed.columns if name not in ("policy", "seed", "why")]
        groups = by_seed.group_by("policy", maintain_order=True).agg(metrics)
        return cls({(row["policy"], m): tuple(row[m]) for row in groups.iter_rows(named=True) for m in metrics})

    def widened(self, within: Bounds, value: float, metric: str, policy: str, other: str | None = None) -> Bounds:
        """The interval (low, high) around `value`, a score of `policy` or its difference from that of `other`.

        Each side becomes sqrt(side² + (t·s)²): s is the standard deviation between seeds of the same score or
        difference, t the 95 % quantile of Student's distribution for the seeds less one. Where too few seeds could be
        replayed nothing is known of s, and the interval stays.
        """
        s = self.deviation(metric, policy, other)
        if within is None or s is None:
            return within
        low, high = (
            math.copysign(math.hypot(bound - value, s), sign) for bound, sign in zip(within, (-1, 1), strict=True)
        )
        return value + low, value + high

    def deviation(self, metric: str, policy: str, other: str | None = None) -> float | None:
        """t·s of `widened`; None where it is not known."""
        mine = self.scores.get((policy, metric), ())
        theirs = (0.0,) * len(mine) if other is None else self.scores.get((other, metric), ())
        apart = [a - b for a, b in zip(mine, theirs, strict=False) if a is not None and b is not None]
        return None if len(apart) < 2 else student(len(apart) - 1) * float(np.std(apart, ddof=1))


def student(freedom: int, level: float = LEVEL) -> float:
    """Half the width of a t-interval in standard deviations."""
    from scipy.stats import t  # deferred: a default run does without

    return float(t.ppf((1 + level) / 2, freedom))


NO_SPREAD = Spread()

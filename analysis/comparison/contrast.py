"""How far two traces are apart, measure by measure: effect sizes, and what chance alone would make of them.

Every function of numbers here takes arrays whose last axis holds the buckets, groups or blocks and whose first, where
there is one, the draws, so that one call judges all draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]

# bounds of small, medium, large. delta: Romano et al. 2006; rho: Cohen 1988; the others are conventions
SIZES = {
    "delta": (0.147, 0.33, 0.474),  # Cliff's: P(after > before) - P(after < before)
    "ratio": (0.1, 0.2, 1 / 3),  # (after - before) / (after + before): 1.22, 1.5 and 2 times
    "share": (0.05, 0.15, 0.3),  # total variation distance: the share of requests that would have to move
    "rho": (0.1, 0.3, 0.5),  # difference of rank correlations
}
WORDS = ("negligible", "small", "medium", "large")
PERMUTATIONS = 1999
BOOTSTRAPS = 400
FEWEST_BLOCKS = 4  # of either side, to say what chance would make
ALPHA = 0.05  # of all measures together (Holm 1979)


def size(kind: str, effect: float) -> str:
    """negligible, small, medium or large."""
    return WORDS[sum(abs(effect) >= bound - 1e-12 for bound in SIZES[kind])]


def delta(before: F8, after: F8) -> F8:
    """Cliff's delta of counts per bucket, in order of the values: 1 where all of after is above all of before."""
    p, q = _shares(before), _shares(after)
    through = p.cumsum(-1)
    return np.asarray((q * (2 * through - p - 1)).sum(-1))


def kolmogorov(before: F8, after: F8) -> F8:
    """Largest distance of the two distribution functions."""
    return np.asarray(np.abs((_shares(before) - _shares(after)).cumsum(-1)).max(-1))


def wasserstein(before: F8, after: F8, values: F8) -> F8:
    """Area between the two distribution functions, in the unit of `values`."""
    apart = np.abs((_shares(before) - _shares(after)).cumsum(-1))[..., :-1]
    return np.asarray((apart * np.diff(values)).sum(-1))


def variation(before: F8, after: F8) -> F8:
    """Total variation distance of counts per group: half the sum of what the shares differ by."""
    return np.asarray(np.abs(_shares(before) - _shares(after)).sum(-1) / 2)


def ratio(before: F8, after: F8) -> F8:
    """(after - before) / (after + before): -1 to 1, 0.2 is one and a half times; NaN where both are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((after - before) / (after + before))


def quantile(counts: F8, values: F8, rank: float) -> F8:
    """The value at `rank` of counts per value (ascending), linear between ranks as everywhere else; NaN of none."""
    through = counts.cumsum(-1)
    total = through[..., -1]
    place = rank * (total - 1)
    low, high = np.floor(place), np.ceil(place)
    last = counts.shape[-1] - 1
    at = [values[np.minimum((through <= k[..., None]).sum(-1), last)] for k in (low, high)]
    return np.where(total > 0, at[0] + (at[1] - at[0]) * (place - low), np.nan)


def spearman(joint: F8) -> F8:
    """Rank correlation of counts[..., in, out], each row and column one large tie; NaN without variation."""
    n = joint.sum((-2, -1))
    x, y = (m.cumsum(-1) - m / 2 for m in (joint.sum(-1), joint.sum(-2)))  # mid-ranks
    x, y = x - n[..., None] / 2, y - n[..., None] / 2  # their means are n / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        both = ((x[..., None, :] @ joint)[..., 0, :] * y).sum(-1)
        own = [(v**2 * m).sum(-1) for v, m in ((x, joint.sum(-1)), (y, joint.sum(-2)))]
        return np.asarray(both / np.sqrt(own[0] * own[1]))


def _shares(counts: F8) -> F8:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counts / counts.sum(-1, keepdims=True))


@dataclass(frozen=True)
class Draws:
    """Which blocks are drawn how often; one row a draw, over the blocks of both traces, before first.

    Permutations deal all blocks out to both sides; bootstraps draw each side's own blocks with replacement.
    """

    before: int
    dealt: F8  # [PERMUTATIONS, blocks]: 1 where the block goes to before, else it goes to after
    again: F8  # [BOOTSTRAPS, blocks]: how often the block is drawn

    @classmethod
    def of(cls, before: int, after: int, rng: np.random.Generator) -> "Draws":
        """For so many blocks a side."""
        blocks = before + after
        order = rng.random((PERMUTATIONS, blocks)).argsort(axis=1)
        own = [rng.multinomial(count, np.full(count, 1 / count), BOOTSTRAPS).astype(float) for count in (before, after)]
        return cls(before, (order < before).astype(float), np.hstack(own))

    def sides(self, weights: F8, blocks: F8, dealt: bool) -> tuple[F8, F8]:
        """Sums over blocks[blocks, ...] for each draw, before and after."""
        flat = blocks.reshape(len(blocks), -1)
        if dealt:
            found = weights @ flat, (1 - weights) @ flat
        else:
            found = weights[:, : self.before] @ flat[: self.before], weights[:, self.before :] @ flat[self.before :]
        shape = (len(weights), *blocks.shape[1:])
        return found[0].reshape(shape), found[1].reshape(shape)


Effect = Callable[[F8, F8], F8]


@dataclass(frozen=True)
class Judged:
    """An effect, its bootstrap interval of 95 %, and how often chance alone makes one as large."""

    effect: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def judge(effect: Effect, before: F8, after: F8, draws: Draws) -> Judged | None:
    """`effect` of sums over blocks; None where it is not defined. before, after: [blocks, ...]."""
    found = round(float(effect(before.sum(0), after.sum(0))), 12) + 0.0  # no -0, nothing left of rounding
    if not np.isfinite(found):
        return None
    if min(len(before), len(after)) < FEWEST_BLOCKS:
        return Judged(found)
    pooled = np.concatenate([before, after])
    chance = effect(*draws.sides(draws.dealt, pooled, dealt=True))
    again = effect(*draws.sides(draws.again, pooled, dealt=False))
    return settled(found, chance, again)


def settled(found: float, chance: F8, again: F8) -> Judged:
    """The verdict on `found` by the effects of dealt and of drawn blocks."""
    chance, again = chance[np.isfinite(chance)], again[np.isfinite(again)]
    if not len(chance) or not len(again):
        return Judged(found)
    low, high = np.quantile(again, [0.025, 0.975])
    as_large = int((np.abs(chance) >= abs(found) - 1e-12).sum())
    return Judged(found, float(low), float(high), (1 + as_large) / (1 + len(chance)))


def beyond_noise(chances: list[float | None]) -> list[bool | None]:
    """Which of several effects are no chance, at ALPHA for all of them together (Holm); None where it is not known."""
    known = sorted((p, i) for i, p in enumerate(chances) if p is not None)
    verdicts: list[bool | None] = [None if p is None else False for p in chances]
    for rank, (p, i) in enumerate(known):
        if p * (len(known) - rank) > ALPHA:
            break
        verdicts[i] = True
    return verdicts

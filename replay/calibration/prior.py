"""What coefficients look like before a log is read: the spread of the shipped profiles' ratios, whatever their scale.

A log of a busy engine hardly tells a large base from a steep slope, since its batches are always full. Of two
explanations that fit alike the one more like measured GPUs is taken: it is what the engine does when it empties.
"""

from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise

import numpy as np

from lmaas.replay.profile import Profile, shipped

from .coefficients import KNOTS, Coefficients

LARGE = 2048  # tokens of a step from which the last slope is taken
ANY_SCALE = 3.0  # standard deviation of the logarithm of the common scale: e^3 either way
LEAST_SPREAD = 0.5  # of one coefficient's logarithm: engines differ by more than the shipped profiles do
NEVER = 0.01  # of the decode step: what a coefficient that a shipped profile has at 0 counts as
OVERHEAD_S, OVERHEAD_SPREAD = 0.01, 1.5  # 10 ms, a factor of e^1.5 either way


@dataclass(frozen=True)
class Prior:
    """A normal distribution of the logarithms, and the shipped profiles it was made of."""

    mean: np.ndarray
    inverse: np.ndarray  # f8[k, k]: rows @ (x - mean) are independent, of variance 1
    shapes: np.ndarray  # f8[profiles, k], along the ratios' widest direction

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """f8 of f8: standard deviations off, along independent directions."""
        found: np.ndarray = self.inverse @ (x - self.mean)
        return found


@cache
def prior() -> Prior:
    """Of `Coefficients`, from the shipped profiles; the overhead, which they do not have, by itself."""
    rows = np.array([_simplified(p).vector() for p in shipped().values()])[:, :-1]
    scale = rows.mean(axis=1, keepdims=True)
    ratios = rows - scale
    k = rows.shape[1]
    spread = np.cov(ratios.T) + LEAST_SPREAD**2 * np.eye(k) / 2
    along = ratios @ np.linalg.eigh(spread)[1][:, -1]
    covariance = np.zeros((k + 1, k + 1))
    covariance[:k, :k] = spread + ANY_SCALE**2
    covariance[k, k] = OVERHEAD_SPREAD**2
    mean = np.append(ratios.mean(axis=0) + scale.mean(), np.log(OVERHEAD_S))
    shapes = np.column_stack([rows, np.full(len(rows), mean[-1])])[np.argsort(along, kind="stable")]
    return Prior(mean, np.linalg.inv(np.linalg.cholesky(covariance)), shapes)


def shaped(shape: np.ndarray, sequences: float, context: float, step_s: float) -> Coefficients:
    """A shipped profile's ratios, at the scale at which so many decodes of such contexts take `step_s` a step."""
    c = Coefficients.of(shape)
    tokens = [c.tokens0, c.tokens1, c.tokens2, c.tokens3]
    ends = [*KNOTS[1:], np.inf]
    grown = sum(s * max(0.0, min(sequences, b) - a) for s, a, b in zip(tokens, KNOTS, ends, strict=True))
    own = c.base + grown + sequences * (c.decode_seq + context * c.decode_kv)
    common = np.ones(len(fields(Coefficients)))
    common[-1] = 0.0
    return Coefficients.of(shape + np.log(step_s / own) * common)


def _simplified(profile: Profile) -> Coefficients:
    """A profile's coefficients with G between KNOTS; zeros lifted so that they have logarithms."""
    lat = profile.latency
    at = lat.token_s(LARGE)
    ends = [*(int(knot) for knot in KNOTS), LARGE]
    slopes = [(at[b] - at[a]) / (b - a) for a, b in pairwise(ends)]
    step = lat.base + float(at[32])
    base, seq = max(lat.base, NEVER * step), max(lat.decode_seq, NEVER * step / 32)
    tokens = [max(float(s), NEVER * step / 32) for s in slopes]
    kv = max(lat.decode_kv, NEVER * step / (32 * LARGE))
    pair = max(lat.attn_pair, NEVER * step / LARGE**2)
    return Coefficients.of(np.log([base, *tokens, pair, seq, kv, OVERHEAD_S]))

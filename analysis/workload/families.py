"""Distributions of positive times, fitted to grouped counts by maximum likelihood: what is known is only the cell."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import gammainc, gammaincc, gammaln, log_ndtr

F8 = npt.NDArray[np.float64]
LogTails = Callable[[F8, float, float], tuple[F8, F8]]  # (x, shape, scale) -> log F(x), log (1 - F(x))


def _weibull(x: F8, shape: float, scale: float) -> tuple[F8, F8]:
    power = shape * np.log(x / scale)
    z = np.exp(np.minimum(power, 700.0))
    return np.where(z < 1e-12, power, np.log(-np.expm1(-z))), -z


def _exponential(x: F8, shape: float, scale: float) -> tuple[F8, F8]:
    return _weibull(x, 1.0, scale)


def _lognormal(x: F8, shape: float, scale: float) -> tuple[F8, F8]:
    z = np.log(x / scale) / shape
    return log_ndtr(z), log_ndtr(-z)


def _gamma(x: F8, shape: float, scale: float) -> tuple[F8, F8]:
    z = x / scale
    below, above = gammainc(shape, z), gammaincc(shape, z)
    # where one underflows, the first terms of its series at 0 and at infinity
    low = shape * np.log(z) - z - gammaln(shape + 1) + np.log1p(z / (shape + 1))
    high = (shape - 1) * np.log(z) - z - gammaln(shape) + np.log1p((shape - 1) / np.maximum(z, shape + 1))
    return np.where(below > 1e-250, np.log(np.maximum(below, 1e-300)), low), np.where(
        above > 1e-250, np.log(np.maximum(above, 1e-300)), high
    )


# name -> log tails, free parameters; the exponential has no shape
FAMILIES: dict[str, tuple[LogTails, int]] = {
    "exponential": (_exponential, 1),
    "gamma": (_gamma, 2),
    "weibull": (_weibull, 2),
    "lognormal": (_lognormal, 2),
}


@dataclass(frozen=True)
class Fit:
    """A fitted family. The scale is in the unit of the cells; of a lognormal it is the median, the shape its sigma."""

    family: str
    shape: float | None
    scale: float
    log_likelihood: float

    @property
    def aic(self) -> float:
        """Akaike's information criterion: lower is better, differences count."""
        return 2 * FAMILIES[self.family][1] - 2 * self.log_likelihood

    def below(self, x: F8) -> F8:
        """P(X < x) for x >= 0."""
        return _tails(self.family, x, self.shape or 1.0, self.scale, 0)

    def above(self, x: F8) -> F8:
        """P(X >= x) for x >= 0, accurate in the tail."""
        return _tails(self.family, x, self.shape or 1.0, self.scale, 1)


def _tails(family: str, x: F8, shape: float, scale: float, side: int) -> F8:
    with np.errstate(divide="ignore", over="ignore"):
        log = FAMILIES[family][0](np.maximum(x, 1e-300), shape, scale)[side]
    return np.where(x > 0, np.exp(log), float(side))


def fit(family: str, lower: F8, upper: F8, n: F8, mean: float) -> Fit:
    """The family that makes `n` observations in the cells [lower, upper) likeliest; `mean` (> 0) is where to begin."""
    lower, upper = lower / mean, upper / mean
    tails, free = FAMILIES[family]
    middle = (lower + upper) / 2
    total = float(n.sum())

    def loss(parameters: F8) -> float:
        shape = float(np.exp(parameters[1])) if free > 1 else 1.0
        mass = float((n * log_mass(tails, lower, upper, shape, float(np.exp(parameters[0])))).sum())
        return -mass / total

    if free == 1:
        begin = np.array([0.0])
    elif family == "lognormal":
        log = np.log(np.maximum(middle, 1e-12))
        at = float((n * log).sum() / total)
        begin = np.array([at, np.log(np.sqrt((n * (log - at) ** 2).sum() / total) + 1e-3)])
    else:
        cv2 = float((n * (middle - 1) ** 2).sum() / total)
        shape = float(np.clip((1 / max(cv2, 1e-4)) ** (1.0 if family == "gamma" else 0.54), 0.05, 50))
        begin = np.array([-np.log(shape) if family == "gamma" else 0.0, np.log(shape)])
    # steps of a factor 1.3 to begin with: the default ones are too small where a parameter begins at 0
    corners = np.vstack([begin, begin + 0.26 * np.eye(len(begin))])
    options = {"xatol": 1e-6, "fatol": 1e-12, "maxiter": 800, "initial_simplex": corners}
    found = minimize(loss, begin, method="Nelder-Mead", options=options)
    fitted = float(np.exp(found.x[1])) if free > 1 else None
    return Fit(family, fitted, float(np.exp(found.x[0])) * mean, -float(found.fun) * float(total))


def log_mass(tails: LogTails, lower: F8, upper: F8, shape: float, scale: float) -> F8:
    """log P(lower <= X < upper), from whichever tail is the smaller one: no cancellation, no underflow."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        below_a, above_a = tails(np.maximum(lower, 1e-300), shape, scale)
        below_b, above_b = tails(upper, shape, scale)
        left = below_b + np.log1p(-np.exp(np.where(lower > 0, below_a - below_b, -np.inf)))
        right = above_a + np.log1p(-np.exp(above_b - above_a))
        mass = np.where((below_b < above_b) | (lower <= 0), left, right)
    return np.where(np.isfinite(mass), np.maximum(mass, -1e15), -1e15)

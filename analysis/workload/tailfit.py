"""A power law or a lognormal: which of them the end of a histogram is.

As Clauset, Shalizi and Newman (2009) do it, on bins: the tail begins where a power law fits best (least Kolmogorov-
Smirnov distance), its exponent is the maximum likelihood of the bins, and the lognormal cut off at the same threshold
is compared by likelihood. A power law is the limit of wide lognormals, so the lognormal is never less likely: it wins
where twice the gain is more than chance gives a further parameter (chi-square). Far out every lognormal looks straight,
so one fitted to the upper half of all lengths is asked first: where it foretells the tail, no power law is needed. The
last bin is open upwards, for many lengths end at a limit where what was longer piles up.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import log_ndtr
from scipy.stats import chi2

from .inequality import F8

MIN_TAIL = 100  # values above the threshold
LARGEST_TAIL = 0.5  # share of the values that the tail may be
CANDIDATES = 80  # thresholds tried
FITS = 0.04  # largest distance between the shares of tail and fit; with a million values a test rejects every fit
SIGNIFICANT = 0.05
SPAN = 10.0  # a power law must hold over a factor of ten: over less, everything is straight
SHORT = 2.0  # and any tail over a factor of two
WIDEST = 12.0  # standard deviation of ln(tokens) beyond which a lognormal is a power law


@dataclass(frozen=True)
class Bell:
    """A lognormal cut off below: `gain` is its log likelihood less that of the power law from there on."""

    start: float
    mu: float | None
    sigma: float | None
    gain: float

    @property
    def p(self) -> float:
        """Of the gain, were it a power law."""
        return float(chi2.sf(2 * self.gain, 1))


@dataclass(frozen=True, eq=False)
class Tail:
    """A fitted tail; `low`, `high` f8[b] are the bins' edges, `n` f8[b] their counts, from the threshold up."""

    low: F8
    high: F8
    n: F8
    exponent: float
    bell: "Bell"

    @property
    def threshold(self) -> float:
        """Where it begins."""
        return float(self.low[0])

    def power(self, x: F8) -> F8:
        """P(at least x | in the tail), of the power law."""
        return np.asarray((x / self.threshold) ** -self.exponent)

    def lognormal(self, x: F8) -> F8:
        """P(at least x | in the tail), of the lognormal."""
        if self.bell.mu is None or self.bell.sigma is None:
            return self.power(x)
        z = (np.log(np.concatenate(([self.threshold], x))) - self.bell.mu) / self.bell.sigma
        return np.asarray(np.exp(log_ndtr(-z[1:]) - log_ndtr(-z[0])))

    @property
    def likelihood(self) -> float:
        """Log likelihood of the power law."""
        return _power_likelihood(self.exponent, self.low, self.high, self.n)

    @property
    def standard_error(self) -> float | None:
        """Of the exponent, by the curvature of the likelihood."""
        h = 1e-3 * self.exponent
        f = [
            _power_likelihood(a, self.low, self.high, self.n)
            for a in (self.exponent - h, self.exponent, self.exponent + h)
        ]
        curvature = -(f[0] - 2 * f[1] + f[2]) / h**2
        return float(1 / np.sqrt(curvature)) if curvature > 0 else None

    def distance(self, law: str) -> float:
        """Kolmogorov-Smirnov distance at the bins' edges."""
        seen = 1 - np.cumsum(self.n)[:-1] / self.n.sum()
        said = self.power(self.low[1:]) if law == "power" else self.lognormal(self.low[1:])
        return float(np.abs(seen - said).max(initial=0.0))


def fit(low: F8, high: F8, n: F8) -> Tail | None:
    """The tail of a histogram of whole numbers; None where there are too few values or only one length."""
    low, high, n = _continuous(low, high, n)
    at = _threshold(low, high, n) if len(n) else None
    if at is None:
        return None
    exponent = _exponent(low[at:], high[at:], n[at:])
    if exponent is None:
        return None
    tail = Tail(low[at:], high[at:], n[at:], exponent, _bell(low[at:], high[at:], n[at:], exponent))
    half = int(np.searchsorted(-np.cumsum(n[::-1])[::-1], -LARGEST_TAIL * n.sum()))
    early = _exponent(low[half:], high[half:], n[half:]) if half < at else None
    if early is None:
        return tail
    earlier = replace(tail, bell=_bell(low[half:], high[half:], n[half:], early))
    return earlier if _foretells(earlier, Tail(low[half:], high[half:], n[half:], early, earlier.bell)) else tail


def _foretells(tail: Tail, half: Tail) -> bool:
    """Whether the lognormal of the upper half fits it, better than a power law, and the tail no worse than one."""
    bell = half.bell
    if bell.mu is None or bell.sigma is None or bell.p >= SIGNIFICANT or half.distance("lognormal") > fits(half.n):
        return False
    lost = tail.likelihood - _bell_likelihood(bell.mu, bell.sigma, tail.low, tail.high, tail.n)
    # the threshold was chosen among many for the power law's good
    allowed = chi2.isf(SIGNIFICANT / CANDIDATES, 1) / 2
    return bool(lost < allowed and tail.distance("lognormal") <= 1.5 * fits(tail.n))


def fits(n: F8) -> float:
    """The largest distance that a fit to counts n may have."""
    # a small tail's shares are uncertain themselves: what a test at 5 % would let pass fits
    return max(FITS, 1.36 / float(np.sqrt(n.sum())))


def _continuous(low: F8, high: F8, n: F8) -> tuple[F8, F8, F8]:
    """Bins that hold anything, in order, with edges halfway between whole numbers."""
    low, high = np.ceil(low - 1e-6) - 0.5, np.ceil(high - 1e-6) - 0.5
    real = (high > low) & (n > 0)
    low, high, n = low[real], high[real], n[real]
    order = np.argsort(low, kind="stable")
    return low[order], high[order], n[order]


def _threshold(low: F8, high: F8, n: F8) -> int | None:
    """The bin from which a power law fits best, by the exponent that the middles of the bins give (Hill)."""
    above = np.cumsum(n[::-1])[::-1]
    may = np.flatnonzero((above >= MIN_TAIL) & (above <= LARGEST_TAIL * n.sum()))
    # a pile just below a limit is as straight as anything: a tail spans a factor of two at least
    may = may[low[may] * SHORT <= low[-1]]
    if not len(may):
        return None
    tried = np.unique(np.geomspace(above[may[-1]], above[may[0]], CANDIDATES).round())
    may = np.unique(may[[int(np.abs(above[may] - t).argmin()) for t in tried]])
    middle = np.log(low) / 2 + np.log(high) / 2
    logs = np.cumsum((n * middle)[::-1])[::-1]
    alpha = above[may] / np.maximum(logs[may] - above[may] * np.log(low[may]), 1e-12)
    seen = above[None, :] / above[may][:, None]
    said = np.exp(np.minimum(0.0, -alpha[:, None] * (np.log(low)[None, :] - np.log(low[may])[:, None])))
    inside = np.arange(len(n))[None, :] >= may[:, None]
    return int(may[np.where(inside, np.abs(seen - said), 0.0).max(axis=1).argmin()])


def _power_likelihood(alpha: float, low: F8, high: F8, n: F8) -> float:
    start = np.log(low[0])
    a, b = -alpha * (np.log(low) - start), -alpha * (np.log(high) - start)
    inside = a[:-1] + np.log(-np.expm1(b[:-1] - a[:-1]))
    return float(n[:-1] @ inside + n[-1] * a[-1])  # the last bin is open


def _exponent(low: F8, high: F8, n: F8) -> float | None:
    """Where the likelihood's slope is 0."""

    def slope(log_alpha: float) -> float:
        a, h = np.exp(log_alpha), 1e-4
        up, down = (_power_likelihood(a * np.exp(s), low, high, n) for s in (h, -h))
        return float(up - down)

    ends = np.log(1e-2), np.log(1e3)
    if slope(ends[0]) <= 0 or slope(ends[1]) >= 0:
        return None
    return float(np.exp(brentq(slope, *ends, xtol=1e-9)))


def _bell_likelihood(mu: float, sigma: float, low: F8, high: F8, n: F8) -> float:
    above = log_ndtr(-(np.log(low) - mu) / sigma)
    beyond = log_ndtr(-(np.log(high[:-1]) - mu) / sigma)
    inside = above[:-1] + np.log(-np.expm1(np.minimum(beyond - above[:-1], -1e-300)))
    return float(n[:-1] @ inside + n[-1] * above[-1] - n.sum() * above[0])


def _bell(low: F8, high: F8, n: F8, alpha: float) -> Bell:
    """The most likely lognormal cut off at the first bin; `alpha` is the power law's exponent there.

    Parametrised by the local exponent at the cut and by how fast it grows (1 / sigma^2), which is 0 for a power law.
    """
    start = float(np.log(low[0]))

    def law(p: F8) -> tuple[float, float]:
        sigma = float(np.exp(-p[1] / 2))
        return start - float(p[0]) * sigma**2, sigma

    def cost(p: F8) -> float:
        mu, sigma = law(p)
        found = _bell_likelihood(mu, sigma, low, high, n) if 1e-3 < sigma < WIDEST else -np.inf
        return -found if np.isfinite(found) else 1e300

    spread = max(float((n * (np.log(low) - start)).sum() / n.sum()), 1e-3)
    starts = [
        np.array([alpha * f, np.log(bend) - 2 * np.log(min(spread, 3.0))]) for f, bend in ((0.9, 0.1), (0.3, 1.0))
    ]
    found = [minimize(cost, s, method="Nelder-Mead", options={"maxiter": 300}) for s in starts]
    best = min(found, key=lambda r: float(r.fun))
    gain = -float(best.fun) - _power_likelihood(alpha, low, high, n)
    if not gain > 0:
        return Bell(float(low[0]), None, None, 0.0)
    return Bell(float(low[0]), *law(best.x), gain)


def verdict(tail: Tail) -> str:
    """As `tails.COLUMNS` says."""
    if tail.bell.p < SIGNIFICANT and (tail.bell.start < tail.threshold or tail.distance("lognormal") <= fits(tail.n)):
        return "lognormal"
    if tail.distance("power") > fits(tail.n):
        return "neither"
    wide = tail.low[-1] >= SPAN * tail.low[0]
    return "power law" if wide and tail.bell.p >= SIGNIFICANT else "either"

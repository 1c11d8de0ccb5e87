"""Clusters of weighted points: Gaussian mixtures of one common shape, their number chosen by ICL.

One covariance for all clusters makes them differ by where they are, not by how they spread, so that a point's cluster
is its nearest centre. The number of clusters maximises the integrated completed likelihood (Biernacki, Celeux and
Govaert 2000), BIC less the entropy of the assignment: components that overlap, as those that approximate one skewed
cloud do, cost more than they gain however many points there are.
"""

from dataclasses import dataclass

import numpy as np

from .inequality import F8

MAX_CLUSTERS = 8
STARTS = 4
ITERATIONS = 60
TOLERANCE = 1e-5  # gain of log likelihood a point that ends the search
FLOOR = 0.3  # least standard deviation of a cluster, in units of the points: spikes are no types of their own
PENALTY = 0.05  # ICL a point that one more cluster must gain: with millions of points BIC's own term is nothing
MIN_SHARE = 0.01  # of a cluster
HOPELESS = 0.3  # below the best score; two numbers of clusters in a row that do no better end the search


@dataclass(frozen=True, eq=False)
class Mixture:
    """Centres f8[k, d], their shares, the common covariance, and ICL a point less PENALTY * k."""

    centres: F8
    shares: F8
    covariance: F8
    score: float

    def nearest(self, points: F8) -> np.ndarray:
        """i8[n]: the nearest centre of each point, in units of the common spread."""
        return np.asarray(_distances(points, self.centres, self.covariance).argmin(axis=1))


def fit(points: F8, weights: F8, *, seed: int = 0, most: int = MAX_CLUSTERS) -> tuple[Mixture, list[Mixture]]:
    """The best of the mixtures of 1 to `most` clusters, and those tried. `points` f8[n, d], `weights` > 0."""
    tried: list[Mixture] = []
    for k in range(1, min(most, len(points)) + 1):
        tried.append(_best(points, weights, k, seed))
        best = max(tried, key=lambda m: m.score)
        if len(tried) > 2 and max(m.score for m in tried[-2:]) < best.score - HOPELESS:
            break
    return best, tried


def _best(points: F8, weights: F8, k: int, seed: int) -> Mixture:
    rng = np.random.default_rng(seed)  # anew for each k, so that what is tried for one does not move another
    starts = (_em(points, weights, _spread_out(points, weights, k, rng)) for _ in range(STARTS if k > 1 else 1))
    return max(starts, key=lambda m: m.score)


def _spread_out(points: F8, weights: F8, k: int, rng: np.random.Generator) -> F8:
    """k-means++: each next centre is drawn by squared distance to those there are."""
    chosen = [points[_draw(weights, rng)]]
    near = ((points - chosen[0]) ** 2).sum(axis=1)
    for _ in range(k - 1):
        mass = near * weights
        chosen.append(points[_draw(mass if mass.sum() > 0 else weights, rng)])
        near = np.minimum(near, ((points - chosen[-1]) ** 2).sum(axis=1))
    return np.array(chosen)


def _draw(mass: F8, rng: np.random.Generator) -> int:
    # by the running sum: a few more points move every choice a little at most
    running = np.cumsum(mass)
    return int(min(np.searchsorted(running, rng.random() * running[-1], side="right"), len(mass) - 1))


def _em(points: F8, weights: F8, centres: F8) -> Mixture:
    n, (k, d) = weights.sum(), centres.shape
    share = np.full(k, 1 / k)
    middle = np.average(points, axis=0, weights=weights)
    points, centres = points - middle, centres - middle  # or the second moments would cancel
    covariance = _covariance(points, weights, np.zeros((1, d)), n[None]) / k
    covariance += np.eye(d) * FLOOR**2
    before = -np.inf
    for _ in range(ITERATIONS):
        logs = _log_density(points, centres, share, covariance)
        top = logs.max(axis=1)
        total = top + np.log(np.exp(logs - top[:, None]).sum(axis=1))
        belongs = np.exp(logs - total[:, None])
        likelihood = float(weights @ total / n)
        if likelihood - before < TOLERANCE:
            break
        before = likelihood
        mass = belongs * weights[:, None]
        held = mass.sum(axis=0) + 1e-12
        centres, share = (mass.T @ points) / held[:, None], held / held.sum()
        covariance = _covariance(points, weights, centres, held) + np.eye(d) * FLOOR**2
    unsure = -float((weights[:, None] * belongs * np.log(np.maximum(belongs, 1e-300))).sum() / n)
    parameters = k * d + d * (d + 1) / 2 + k - 1
    icl = likelihood - unsure - parameters * np.log(n) / (2 * n)
    tiny = share.min() < MIN_SHARE
    return Mixture(centres + middle, share, covariance, -np.inf if tiny else icl - PENALTY * k)


def _covariance(points: F8, weights: F8, centres: F8, held: F8) -> F8:
    """Within clusters: the points' own second moments less those of the centres, `held` weights each."""
    return np.asarray(((points.T * weights) @ points - (centres.T * held) @ centres) / weights.sum())


def _distances(points: F8, centres: F8, covariance: F8) -> F8:
    """Squared Mahalanobis distances f8[n, k]."""
    white = np.linalg.inv(np.linalg.cholesky(covariance)).T
    x, c = points @ white, centres @ white
    square = (x**2).sum(axis=1)[:, None] - 2 * x @ c.T + (c**2).sum(axis=1)
    return np.asarray(np.maximum(square, 0.0))


def _log_density(points: F8, centres: F8, share: F8, covariance: F8) -> F8:
    size = np.linalg.slogdet(covariance)[1] + points.shape[1] * np.log(2 * np.pi)
    return np.asarray(np.log(share) - (_distances(points, centres, covariance) + size) / 2)

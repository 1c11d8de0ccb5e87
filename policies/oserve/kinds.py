"""OServe's request types: k-means on the lengths of inputs and outputs, learned before the evaluated part begins."""

from dataclasses import dataclass

import numpy as np

TYPES = 4  # the paper's
STARTS = 8  # of k-means, from k-means++ centres; the tightest is kept
ITERATIONS = 50
MOST = 20_000  # requests that centres are learned from: more move them by less than a request's own spread


@dataclass(frozen=True, eq=False)
class Kinds:
    """Centres f8[types, 2] of (input, output) lengths, logarithms of tokens, standardised by middle and spread f8[2].

    In the order of the tokens of a request at the centre; a request is of the type whose centre is nearest (arXiv
    2602.12151; logarithm and standardising are ours).
    """

    centres: np.ndarray
    middle: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, input_tokens: np.ndarray, output_tokens: np.ndarray, types: int = TYPES, seed: int = 0) -> "Kinds":
        """Types of these requests, whose outputs are known; as many as differ where those are fewer than `types`."""
        logs = _logs(input_tokens, output_tokens)
        if len(logs) > MOST:
            logs = logs[np.random.default_rng([seed, 3]).permutation(len(logs))[:MOST]]
        if not len(logs):
            return cls(np.zeros((1, 2)), np.zeros(2), np.ones(2))
        middle, spread = logs.mean(axis=0), logs.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)  # all alike in one of the two
        points = (logs - middle) / spread
        distinct = np.unique(points, axis=0)
        centres = distinct if len(distinct) <= types else _tightest(points, types, seed)
        size = np.exp(centres * spread + middle).sum(axis=1)
        return cls(centres[np.lexsort((*centres.T, size))], middle, spread)

    def of(self, input_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
        """The type of each request, i8[requests]; of outputs that are not known yet give predicted ones."""
        from scipy.cluster.vq import vq  # deferred: scipy, which most commands do without

        points = (_logs(input_tokens, output_tokens) - self.middle) / self.spread
        return np.asarray(vq(points, self.centres, check_finite=False)[0], np.int64)

    @property
    def types(self) -> int:
        """How many there are."""
        return len(self.centres)

    @property
    def lengths(self) -> np.ndarray:
        """(input, output) tokens at the centres, f8[types, 2]: geometric means of a type's requests."""
        return np.asarray(np.exp(self.centres * self.spread + self.middle))


def _logs(input_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
    """f8[requests, 2]."""
    lengths = np.stack([input_tokens, output_tokens], axis=1).astype(np.float64)
    return np.asarray(np.log(np.maximum(lengths, 1.0)))


def _tightest(points: np.ndarray, types: int, seed: int) -> np.ndarray:
    """Centres of the start whose squared distances are least, f8[types, 2]; there are more distinct points than types.

    A start that loses a cluster is none; where all do, points far from each other are the centres.
    """
    from scipy.cluster.vq import ClusterError, kmeans2, vq

    best, least = None, np.inf
    for start in range(STARTS):
        rng = np.random.default_rng([seed, 4, start])
        try:
            centres, _ = kmeans2(points, types, iter=ITERATIONS, minit="++", missing="raise", rng=rng)
        except ClusterError:
            continue
        off = float((vq(points, centres)[1] ** 2).sum())
        if off < least - 1e-9:
            best, least = centres, off
    return _far_apart(points, types) if best is None else best


def _far_apart(points: np.ndarray, types: int) -> np.ndarray:
    """The point nearest the middle, then again and again the one farthest from those there are."""
    chosen = [points[(points**2).sum(axis=1).argmin()]]
    for _ in range(types - 1):
        near = np.min([((points - centre) ** 2).sum(axis=1) for centre in chosen], axis=0)
        chosen.append(points[near.argmax()])
    return np.array(chosen)

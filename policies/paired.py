"""How far two replays of the same requests are apart, and what chance alone would make: a paired block bootstrap.

The evaluated part is cut into blocks of time, the same for all policies. Whole blocks are drawn again with replacement
(Künsch 1989), each draw for both policies at once: what a busy hour does to both cancels out, and what is alike within
a block stays together. Percentiles come from histograms, so that a draw costs no pass over the requests.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from .binomial import exact
from .blocks import ATTAINMENT, F8, Blocks

Bounds = tuple[float, float] | None
LEVEL = 0.9
DRAWS = 1000
FEWEST_BLOCKS = 20
FEW_MISSES = 100  # up to which attainment's interval covers the exact one of independent requests, too


@dataclass(frozen=True)
class Draws:
    """A replay's scores, drawn again: `point` of the blocks as they are, `again` of each draw.

    requests: those that each attainment is the share of.
    """

    point: dict[str, float]
    again: dict[str, F8]
    blocks: int
    requests: Mapping[str, int]

    @classmethod
    def of(cls, blocks: Blocks, seed: int) -> "Draws":
        """The same draws for every replay of so many blocks and one seed: that is what pairs them."""
        count = len(blocks.requests)
        weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS).astype(float)
        once = blocks.drawn(np.ones((1, count)))
        point = {name: float(value[0]) for name, value in once.items()}
        counted = {
            ATTAINMENT: blocks.requests,
            **{f"{ATTAINMENT} @ {k}": asked for k, (asked, _) in blocks.groups.items()},
        }
        return cls(point, blocks.drawn(weights), count, {name: round(float(n.sum())) for name, n in counted.items()})


def tails(blocks: int, level: float = LEVEL) -> tuple[float, float]:
    """The two ranks of the draws between which an interval lies: wider than `level` where the blocks are few.

    As a t-interval is wider than a normal one, and by sqrt(n/(n-1)): bootstraps know too little of the spread
    (Hesterberg 2015); t by its Cornish-Fisher expansion.
    """
    normal, freedom = NormalDist(), blocks - 1
    z = normal.inv_cdf((1 + level) / 2)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    low = normal.cdf(-t * math.sqrt(blocks / freedom))
    return low, 1 - low


def interval(metric: str, value: float, one: Draws, reference: float = 0.0, other: Draws | None = None) -> Bounds:
    """(low, high) of value - reference, or of one replay's own score; None where too little is there.

    Attainment scatters around a difference, all others around a ratio: costs and latencies are never below nothing.
    value and reference are exact; what buckets make of them is taken off, and the draws say how far it scatters.
    """
    if one.blocks < FEWEST_BLOCKS or metric not in one.again or (other is not None and metric not in other.again):
        return None
    again, point = one.again[metric], one.point[metric]
    of, base = (np.zeros(1), 0.0) if other is None else (other.again[metric], other.point[metric])
    relative = other is not None and not is_attainment(metric) and min(of.min(), again.min(), base, point) > 0
    found = again / of * (base / point) * value - reference if relative else again - of
    if not relative:
        found = found - (point - base) + (value - reference)
    known = found[np.isfinite(found)]
    if len(known) < DRAWS / 2:
        return None
    low, high = np.quantile(known, tails(one.blocks))
    bounds = _whole(low, value - reference), _whole(high, value - reference)
    if not is_attainment(metric):
        return bounds
    return _covering(bounds, value, one.requests[metric], None if other is None else reference)


def _covering(bounds: tuple[float, float], value: float, requests: int, reference: float | None) -> tuple[float, float]:
    """Wider where it is narrower than independent requests allow: no miss among few does not say that none is possible.

    Of two replays without a miss, each could miss what the other attains: as often as none of `requests` leaves open.
    """
    if reference is None:
        misses = round((1 - value) * requests)
        if 0 <= misses <= FEW_MISSES:
            least, most = exact(misses, requests, LEVEL)
            return min(bounds[0], 1 - most), max(bounds[1], 1 - least)
    if value == reference == 1.0:
        _, open_ = exact(0, requests, LEVEL)
        return min(bounds[0], -open_), max(bounds[1], open_)
    return bounds


def is_attainment(metric: str) -> bool:
    """Of all requests or of a group of them."""
    return metric.partition(" @ ")[0] == ATTAINMENT


def attainments(blocks: Blocks) -> dict[str, float | None]:
    """`slo_attainment @ GROUP` of every tier and service, exact; null without requests."""
    sums = {group: (float(asked.sum()), float(met.sum())) for group, (asked, met) in blocks.groups.items()}
    return {f"{ATTAINMENT} @ {group}": met / asked if asked else None for group, (asked, met) in sums.items()}


def why_none(metric: str, one: Draws | None, other: Draws | None) -> str:
    """Why `interval` has none between these two."""
    if one is None or other is None:
        return "no blocks of time are kept"
    if one.blocks < FEWEST_BLOCKS:
        return f"under {FEWEST_BLOCKS} windows"
    if metric not in one.again or metric not in other.again:
        return "not kept by blocks of time"
    return "undefined in most draws"


def _whole(bound: Any, difference: float) -> float:
    """Without what rounding leaves where nothing scatters."""
    return difference if abs(bound - difference) <= 1e-9 * max(abs(difference), 1e-3) else float(bound)

"""Times between arrivals: how irregular they are, and which distribution they resemble.

From the `gaps` histogram alone, so shards merge. What a clock of quantum q shows as k q lies between (k - 1/2) q and
(k + 1/2) q: the likelihood is that of these cells, so quantised times are fitted as what they are.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.trace import TraceMeta

from .families import FAMILIES, Fit, fit

F8 = npt.NDArray[np.float64]

MIN_GAPS = 100
MIN_CELLS = 10  # fewer different gaps have no shape
MAX_ZERO = 0.5  # share of gaps below the quantum from which on the distribution is that of the clock
CLOSE = 0.05  # largest distance of distribution functions that still resemble each other
SIMPLER = 10.0  # of AIC: what a shape gains less by is no shape (Burnham and Anderson)
POINTS = 120  # of the curves
KS_5_PERCENT = 1.358  # / sqrt(n): Kolmogorov's 5 % point of a distribution known beforehand

COLUMNS: dict[str, dict[str, str]] = {
    "gaps": {
        "n": "times between one arrival and the next, of all services together",
        "zero_share": "share of them that the clock shows as 0",
        "mean_s": "mean, exact",
        "cv": "standard deviation (n - 1) / mean: 1 for Poisson arrivals; from bucket means, at most 0.003 too low",
        "p50_s": "half of the gaps are shorter; likewise p90_s, p99_s; from the histogram, within 1 %",
        "p90_s": "",
        "p99_s": "",
        "exact": "whether the percentiles are exact; false: within 1 %",
        "resolvable": "whether the clock shows the distribution: at most half of the gaps are 0, and enough differ",
        "reason": "why it does not; empty where it does",
    },
    "gap_fits": {
        "family": "exponential, gamma, weibull or lognormal, likeliest first, but the exponential where a shape gains "
        "less than 10 of AIC; absent where not resolvable",
        "shape": "shape of gamma and Weibull (1: exponential), sigma of the lognormal",
        "scale_s": "scale of gamma and Weibull, mean of the exponential, median of the lognormal",
        "aic": "Akaike's criterion of the grouped likelihood",
        "aic_over_best": "aic minus the lowest one",
        "ks": "largest distance between its distribution function and the observed one, at the cells' edges",
        "ks_noise": "1.358 / sqrt(n): a true distribution of independent gaps stays below it in 19 of 20 traces; "
        "with millions of gaps nothing does, and the distance itself is what counts",
    },
    "gap_curve": {
        "gap_s": "a time between arrivals; below the shortest 1 % left out",
        "observed": "share of the gaps that are at least as long",
        **{family: "the same of the fitted distribution" if family == "exponential" else "" for family in FAMILIES},
    },
}


def gaps(lower_us: F8, upper_us: F8, n: F8, total_us: F8, quantum_s: float) -> dict[str, pl.DataFrame]:
    """Tables `gaps`, `gap_fits` and `gap_curve` of a histogram: a bucket holds gaps in [lower, upper) microseconds.

    A bucket [0, 0) holds the gaps of length zero. `total_us` are the sums of each bucket's gaps. No tables without
    a gap.
    """
    some = n > 0
    order = np.argsort(lower_us[some], kind="stable")
    lower, upper, n, total = (v[some][order].astype(np.float64) for v in (lower_us, upper_us, n, total_us))
    if not len(n) or total.sum() <= 0:
        return {}
    lower, upper = cells(lower, upper, max(1.0, quantum_s * 1e6))
    count, mean = n.sum(), total.sum() / n.sum()
    zero = float(n[upper <= max(0.5, quantum_s * 5e5)].sum() / count)
    reason = _not_resolvable(zero, count, len(n))
    square = (total**2 / n).sum() / count
    p50, p90, p99 = (quantile(n, total / n, p) / 1e6 for p in (0.5, 0.9, 0.99))
    found = {
        "gaps": pl.DataFrame(
            {
                "n": [int(count)],
                "zero_share": [zero],
                "mean_s": [mean / 1e6],
                "cv": [float(np.sqrt(max(square - mean**2, 0.0) * count / max(count - 1, 1)) / mean)],
                "p50_s": [p50],
                "p90_s": [p90],
                "p99_s": [p99],
                "exact": [False],
                "resolvable": [not reason],
                "reason": [reason],
            }
        )
    }
    if not reason:
        fits = sorted((fit(f, lower, upper, n, mean) for f in FAMILIES), key=_worth)
        found["gap_fits"] = _fits(fits, lower, upper, n)
        found["gap_curve"] = _curve(fits, lower, n)
    return found


def _worth(of: Fit) -> float:
    return of.aic - (SIMPLER if of.family == "exponential" else 0.0)


def cells(lower: F8, upper: F8, quantum: float) -> tuple[F8, F8]:
    """The true times that a clock of this quantum shows within [lower, upper): half a quantum to either side.

    Where the buckets hold times that are no multiples of the quantum, the buckets themselves.
    """
    for step in (quantum, 1.0):
        first, after = np.ceil(lower / step - 1e-6), np.ceil(upper / step - 1e-6)
        after = np.where(upper <= 0, 1.0, after)  # zero is one point of the clock, and its bucket has no width
        if (after > first).all():
            return np.maximum((first - 0.5) * step, 0.0), (after - 0.5) * step
    return lower, np.maximum(upper, 0.5)


def _not_resolvable(zero: float, count: float, different: int) -> str:
    if zero > MAX_ZERO:
        return f"{zero:.0%} of the gaps are shorter than the clock shows"
    if count < MIN_GAPS:
        return f"fewer than {MIN_GAPS} gaps"
    if different < MIN_CELLS:
        return f"fewer than {MIN_CELLS} different gaps"
    return ""


def quantile(n: F8, value: F8, p: float) -> float:
    """The value below which a share p of the observations lies; a bucket's mean stands for its observations."""
    return float(value[min(int(np.searchsorted(n.cumsum(), p * n.sum())), len(n) - 1)])


def distance(one: Fit, lower: F8, upper: F8, n: F8) -> float:
    """Kolmogorov's distance between a fit and grouped counts, at the edges of the cells that hold any."""
    after = n.cumsum() / n.sum()
    before = after - n / n.sum()
    return float(max(np.abs(one.below(upper) - after).max(), np.abs(one.below(lower) - before).max()))


def _fits(fits: list[Fit], lower: F8, upper: F8, n: F8) -> pl.DataFrame:
    best = min(f.aic for f in fits)
    return pl.DataFrame(
        [
            {
                "family": f.family,
                "shape": f.shape,
                "scale_s": f.scale / 1e6,
                "aic": f.aic,
                "aic_over_best": f.aic - best,
                "ks": distance(f, lower, upper, n),
                "ks_noise": KS_5_PERCENT / float(np.sqrt(n.sum())),
            }
            for f in fits
        ],
        schema={c: pl.String if c == "family" else pl.Float64 for c in COLUMNS["gap_fits"]},
    )


def _curve(fits: list[Fit], lower: F8, n: F8) -> pl.DataFrame:
    """Observed and fitted shares at cells' lower edges, evenly spaced in the logarithm, the least 1 % left out."""
    longer = 1 - (n.cumsum() - n) / n.sum()
    positive = np.flatnonzero((lower > 0) & (longer <= max(0.99, longer[-1])))
    wanted = np.geomspace(lower[positive[0]], lower[positive[-1]], POINTS)
    at = np.unique(positive[np.clip(np.searchsorted(lower[positive], wanted), 0, len(positive) - 1)])
    by_name = {f.family: f.above(lower[at]) for f in fits}
    return pl.DataFrame(
        {"gap_s": lower[at] / 1e6, "observed": longer[at], **{family: by_name[family] for family in FAMILIES}}
    )


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """How irregular arrivals are and what they resemble."""
    if "gaps" not in tables:
        return
    g = tables["gaps"].row(0, named=True)
    if not g["resolvable"]:
        return
    f = tables["gap_fits"].row(0, named=True)
    name = {"weibull": "Weibull"}.get(f["family"], f["family"])
    shape = "" if f["shape"] is None or f["family"] == "lognormal" else f" of shape {f['shape']:.2f}"
    which = f"{'an' if name == 'exponential' else 'a'} {name}{shape}"
    close = f"{which} is closest" if f["ks"] <= CLOSE else f"none is close, {which} closest"
    yield (
        f"Times between arrivals have a coefficient of variation of {g['cv']:.3g} (Poisson: 1); of four distributions "
        f"{close}, at most {f['ks']:.1%} off (n = {g['n']:,})."
    )

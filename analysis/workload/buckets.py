"""Logarithmic buckets: histograms of a known relative error that merge by adding up.

Bucket b holds values v with base**b <= v < base**(b + 1); NONE holds zeros. Fine buckets are 1 % wide, so a percentile
read from them is off by at most 1 %; coarse ones are a quarter of an octave, for histograms of two dimensions.
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl

FINE = 1.01
COARSE = 2**0.25
NONE = -1  # zeros
_SLACK = 1e-9  # log(v) of an exact power may come out a hair low

F8 = npt.NDArray[np.float64]


def bucket(value: pl.Expr, base: float = FINE) -> pl.Expr:
    """The bucket of whole numbers >= 0, i16; null stays null."""
    log = value.cast(pl.Float64).log() / math.log(base) + _SLACK
    return pl.when(value <= 0).then(pl.lit(NONE, pl.Int16)).otherwise(log.floor().cast(pl.Int16, strict=False))


def edges(buckets: npt.ArrayLike, base: float = FINE) -> tuple[F8, F8]:
    """Lower (in) and upper (out) edges of the buckets; both are 0 for NONE."""
    b = np.asarray(buckets, np.float64)
    zero = b == NONE
    return np.where(zero, 0.0, base**b), np.where(zero, 0.0, base ** (b + 1))


def quantiles(histograms: pl.DataFrame, keys: list[str], ranks: dict[str, float], scale: float = 1.0) -> pl.DataFrame:
    """Percentiles of each histogram: one row a group of `keys`, with n, mean, min, `ranks` and max, times `scale`.

    `histograms`: the keys, bucket, n, total (sum of the bucket's values), low and high (its least and greatest). n,
    mean, min and max are exact. A percentile is linear between the two ranks around it, each the mean of its bucket:
    within a bucket's width, and exact where each bucket holds one value.
    """
    running = histograms.sort(*keys, "bucket").with_columns(
        through=pl.col("n").cum_sum().over(keys), of=pl.col("n").sum().over(keys)
    )
    value = pl.col("total") / pl.col("n") * scale

    def at(rank: float) -> pl.Expr:
        place = rank * (pl.col("of") - 1)
        low, high = (value.filter(pl.col("through") > p).first() for p in (place.floor(), place.ceil()))
        part = place.first() % 1
        return low + part * (high - low)

    return running.group_by(keys, maintain_order=True).agg(
        n=pl.col("n").sum(),
        mean=pl.col("total").sum() / pl.col("n").sum() * scale,
        min=pl.col("low").min() * scale,
        **{name: at(rank) for name, rank in ranks.items()},
        max=pl.col("high").max() * scale,
    )

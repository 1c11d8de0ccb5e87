"""Quantiles that hold: sorted, and shifted by what they missed on a part of the training that they never saw."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from .features import level_codes

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)
INTERVALS = {"80": (0.1, 0.9), "95": (0.025, 0.975)}  # central ones, percent -> levels
CALIBRATION = 0.2  # of the training rows, the last by arrival: quantiles are learned on those before
MIN_CALIBRATION = 50  # rows of a service below which it shares the shift of all


@dataclass(frozen=True, eq=False)
class Shift:
    """Split-conformal factors by service and level (Vovk et al.; per quantile as in Romano et al., CQR).

    factor[s, q] is the q-quantile of output / predicted quantile over the calibration rows of service s, so that a
    share q of them lies below the predicted quantile times it. A factor, for outputs are lognormal rather than normal.
    """

    services: tuple[str, ...]
    factor: np.ndarray  # f8[services + 1, LEVELS]; the last row is of all

    @classmethod
    def learn(cls, rows: pl.DataFrame, guess: np.ndarray) -> "Shift":
        """From calibration rows (service, output_tokens) and their sorted quantiles f8[rows, LEVELS]."""
        output = rows["output_tokens"].cast(pl.Float64).to_numpy()
        counts = rows.select(pl.col("service").cast(pl.String)).to_series().value_counts()
        services = tuple(counts.filter(pl.col("count") >= MIN_CALIBRATION)["service"].drop_nulls().sort().to_list())
        code = level_codes(rows["service"], services)
        factor = np.ones((len(services) + 1, len(LEVELS)))
        ratio = output[:, None] / guess
        for s in range(len(services) + 1):
            mine = ratio[code == s] if s < len(services) else ratio
            for q, level in enumerate(LEVELS):
                # the finite-sample rank: ceil(q (n + 1)) of n from above the median on, floor below it
                rank = np.ceil(level * (len(mine) + 1)) if level >= 0.5 else np.floor(level * (len(mine) + 1))
                at = int(np.clip(rank, 1, max(len(mine), 1))) - 1
                factor[s, q] = np.partition(mine[:, q], at)[at] if len(mine) else 1.0
        return cls(services, factor)

    def __call__(self, requests: pl.DataFrame, guess: np.ndarray) -> np.ndarray:
        """f8[rows, LEVELS], rising along levels."""
        return np.sort(guess * self.factor[level_codes(requests["service"], self.services).astype(np.int64)], axis=1)


def split(known: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(which rows to learn quantiles on, which to calibrate them on) of `known`, sorted by arrival.

    What was not done when the calibration rows begin is in neither: it was not known then.
    """
    late = np.arange(known.height) >= int(known.height * (1 - CALIBRATION))
    begins = known["arrival_s"].to_numpy()[late].min(initial=np.inf)
    return ~late & (known["done_s"] < begins).to_numpy(), late

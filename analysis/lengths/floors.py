"""What any length predictor must beat: the mean of those with an input as long (Aladdin's), and the median."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from .features import level_codes
from .intervals import LEVELS

MIN_ROWS = 5  # of a bin for its own mean to be used
OCTAVES = 2  # bins an octave of the input


@dataclass(frozen=True, eq=False)
class InputBin:
    """E[output | service, half octave of the input] (Aladdin's estimate); of the service or of all elsewhere."""

    services: tuple[str, ...]
    mean: np.ndarray  # f8[services + 1, bins]; the last row is of all services, for others
    quantile: np.ndarray  # f8[services + 1, bins, LEVELS]

    @classmethod
    def learn(cls, known: pl.DataFrame, *_: Any) -> "InputBin":
        """From service, input_tokens, output_tokens; at least one row."""
        services = tuple(known["service"].cast(pl.String).unique().drop_nulls().sort().to_list())
        rows = pl.DataFrame(
            {
                "service": level_codes(known["service"], services).astype(np.int64),
                "bin": _bins(known),
                "output": known["output_tokens"].cast(pl.Float64),
            }
        )
        bins = int(rows["bin"].max()) + 2  # type: ignore[arg-type]  # the last: no input, or longer than any
        mean, quantile = np.empty((len(services) + 1, bins)), np.empty((len(services) + 1, bins, len(LEVELS)))
        for s in range(len(services) + 1):
            own = rows.filter(service=s) if s < len(services) else rows
            mean[s], quantile[s] = _summary(own)
            for (b,), part in own.group_by("bin"):
                if part.height >= MIN_ROWS and b >= 0:  # type: ignore[operator]
                    mean[s, b], quantile[s, b] = _summary(part)
        return cls(services, mean, quantile)

    def predict(self, requests: pl.DataFrame, matrix: Any = None) -> np.ndarray:
        """f8[rows]."""
        return np.asarray(self.mean[self._cell(requests)])

    def quantiles(self, requests: pl.DataFrame, matrix: Any = None) -> np.ndarray:
        """f8[rows, LEVELS]."""
        return np.asarray(self.quantile[self._cell(requests)])

    def _cell(self, requests: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        bins, last = _bins(requests), self.mean.shape[1] - 1
        return level_codes(requests["service"], self.services).astype(np.int64), np.where(
            (bins < 0) | (bins > last), last, bins
        )


@dataclass(frozen=True, eq=False)
class Median:
    """The median output of the training part, whatever is asked."""

    quantile: np.ndarray  # f8[LEVELS]

    @classmethod
    def learn(cls, known: pl.DataFrame, *_: Any) -> "Median":
        """From output_tokens; at least one row."""
        return cls(np.quantile(known["output_tokens"].cast(pl.Float64), LEVELS))

    def predict(self, requests: pl.DataFrame, matrix: Any = None) -> np.ndarray:
        """f8[rows]."""
        return np.full(requests.height, self.quantile[LEVELS.index(0.5)])

    def quantiles(self, requests: pl.DataFrame, matrix: Any = None) -> np.ndarray:
        """f8[rows, LEVELS]."""
        return np.tile(self.quantile, (requests.height, 1))


def _summary(rows: pl.DataFrame) -> tuple[float, np.ndarray]:
    output = rows["output"].to_numpy()
    return float(output.mean()), np.quantile(output, LEVELS)


def _bins(requests: pl.DataFrame) -> np.ndarray:
    """The half octave of each input, -1: unknown."""
    octave = (pl.col("input_tokens").cast(pl.Float64).clip(1.0).log(2.0) * OCTAVES).floor()
    return requests.select(octave.cast(pl.Int64).fill_null(-1)).to_series().to_numpy()

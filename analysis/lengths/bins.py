"""Aladdin's estimate of an output's length: the mean of those with an input as long."""

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True, eq=False)
class InputBinMean:
    """E[output | service, half octave of the input] (Aladdin's estimate); means of the service or all elsewhere."""

    bins: pl.DataFrame  # service, bin, mean
    services: pl.DataFrame  # service, service_mean
    mean: float

    @classmethod
    def learn(cls, training: pl.DataFrame) -> "InputBinMean":
        """From service, input_tokens, output_tokens; at least one row."""
        rows = training.select(*_bin(), pl.col("output_tokens").cast(pl.Float64))
        bins = rows.group_by("service", "bin").agg(mean=pl.mean("output_tokens"), n=pl.len())
        services = rows.group_by("service").agg(service_mean=pl.mean("output_tokens"))
        return cls(bins.filter(pl.col("n") >= 5).drop("n"), services, float(rows["output_tokens"].mean()))  # type: ignore[arg-type]

    def predict(self, requests: pl.DataFrame) -> np.ndarray:
        """f8[rows] >= 1."""
        joined = (
            requests.select(*_bin())
            .join(self.bins, on=["service", "bin"], how="left", maintain_order="left", nulls_equal=True)
            .join(self.services, on="service", how="left", maintain_order="left")
        )
        mean = joined.select(pl.coalesce("mean", "service_mean").fill_null(self.mean)).to_series()
        return np.asarray(np.maximum(mean.to_numpy(), 1.0))


def _bin() -> tuple[pl.Expr, pl.Expr]:
    half_octave = (pl.col("input_tokens").cast(pl.Float64).clip(1.0).log(2.0) * 2).floor().cast(pl.Int32)
    return pl.col("service").cast(pl.String), half_octave.alias("bin")

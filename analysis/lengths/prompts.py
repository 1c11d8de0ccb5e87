"""Features of a prompt's hashed words: those bits that the training's outputs go with."""

from functools import cached_property

import numpy as np
import polars as pl

from ..grams import BITS, bits_of

GRAMS = {f"gram_{bit}": bit for bit in range(BITS)}
MOST = 32  # bits that become features: each costs 4 bytes a row and a look of every tree
LEAST_T = 4.0  # of the difference that a bit makes, to be one of them: of 128 bits of noise one in a hundred traces
ROWS = 100_000  # of the training, the last: what the choice is made on


def telling(training: pl.DataFrame) -> set[str]:
    """Of GRAMS the MOST with which ln(output_tokens) differs most clearly within a service; none without prompts."""
    if "prompt_grams" not in training.columns:
        return set()
    rows = training.filter(pl.col("prompt_grams").is_not_null()).tail(ROWS)
    output = pl.col("output_tokens").cast(pl.Float64).log()
    apart = rows.select(output - output.mean().over(pl.col("service").cast(pl.String))).to_series().to_numpy()
    n, spread = rows.height, float(np.sum(apart**2))  # its mean is 0
    if spread <= 0:
        return set()
    bits = bits_of(rows["prompt_grams"]).astype(np.float32)
    share = bits.mean(axis=0, dtype=np.float64)
    there = np.flatnonzero((share > 0) & (share < 1))  # always or never set, it tells nothing
    share = share[there]
    correlation = (apart @ bits[:, there]) / np.sqrt(n * share * (1 - share) * spread)
    t = np.abs(correlation) * np.sqrt(n / np.maximum(1 - correlation**2, 1e-12))
    best = np.argsort(-t, kind="stable")[:MOST]
    return {f"gram_{there[k]}" for k in best if t[k] >= LEAST_T}


class PromptBits:
    """The bits of requests' prompts, decoded at the first look."""

    def __init__(self, requests: pl.DataFrame) -> None:
        self.height = requests.height
        self.grams = requests["prompt_grams"] if "prompt_grams" in requests.columns else None

    def of(self, name: str) -> np.ndarray:
        """f4[rows], one of GRAMS: 0 or 1, NaN where nothing is known of the prompt."""
        if self.grams is None:
            return np.full(self.height, np.nan, np.float32)
        bits, unknown = self._bits
        return np.where(unknown, np.float32(np.nan), bits[:, GRAMS[name]].astype(np.float32))

    @cached_property
    def _bits(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.grams is not None
        return bits_of(self.grams), self.grams.is_null().to_numpy()

"""Series for tests of the statistics of time: counts as the state `finest`, and noise of known memory."""

import numpy as np
import polars as pl

DAY_S = 86_400


def finest(counts, input_tokens=100.0, output_tokens=10.0) -> pl.DataFrame:
    """The state `finest` of so many requests in each window from 0 on; empty windows absent."""
    counts = np.asarray(counts, dtype=np.int64)
    window = np.flatnonzero(counts)
    tokens = (np.rint(counts * np.asarray(t)).astype(np.int64)[window] for t in (input_tokens, output_tokens))
    return pl.DataFrame(
        [window, counts[window], *tokens], schema=["window", "requests", "input_tokens", "output_tokens"]
    )


def fractional_noise(n, hurst, rng) -> np.ndarray:
    """Fractional Gaussian noise of variance 1, exact (Davies and Harte)."""
    k = np.arange(n + 1.0)
    covariance = (np.abs(k + 1) ** (2 * hurst) - 2 * k ** (2 * hurst) + np.abs(k - 1) ** (2 * hurst)) / 2
    spectrum = np.fft.fft(np.concatenate([covariance, covariance[-2:0:-1]])).real.clip(0)
    noise = rng.normal(size=len(spectrum)) + 1j * rng.normal(size=len(spectrum))
    return np.fft.fft(np.sqrt(spectrum / len(spectrum)) * noise).real[:n]


def autoregressive(n, rho, rng) -> np.ndarray:
    """x[t] = rho x[t - 1] + N(0, 0.1)."""
    x = rng.normal(size=n) * 0.1
    for t in range(1, n):
        x[t] += rho * x[t - 1]
    return x


def daily(days, peak_to_mean=1.6, step_s=1) -> np.ndarray:
    """A day's shape with mean 1, at every step of so many days."""
    t = np.arange(int(days * DAY_S / step_s)) * step_s
    return 1 + (peak_to_mean - 1) * np.sin(2 * np.pi * t / DAY_S)

"""Logs that the replay itself writes: the truth is known, and noise is of known size."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from lmaas.replay.calibration.judge import replayed
from lmaas.replay.calibration.log import Log
from lmaas.replay.estimating.estimate import estimate
from lmaas.replay.profile import Profile


def truth(**changed: Any) -> Profile:
    """A combination that does not ship, so that no start of a calibration is near it, with fourteen slopes for four.

    Its KV is endless unless told.
    """
    known = estimate("mistral-7b", "rtx-4090")
    return known.model_copy(update={"overhead_s": 0.01, "max_batch_tokens": 2048, "kv_tokens": 10**6, **changed})


def log_of(
    profile: Profile, n: int = 240, rate: float = 5.0, replicas: int = 1, noise: float = 0.0, seed: int = 1
) -> Log:
    """Poisson arrivals, lognormal prompts, answers of 256 to 767 tokens; noise: relative, of TTFT and of the rest."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rate, n))
    prompts = np.clip(rng.lognormal(6.5, 0.6, n), 16, 6000).astype(np.int64)
    nothing = np.full(n, np.nan)
    log = Log(arrival - arrival[0], prompts, rng.integers(256, 768, n), nothing, nothing)
    said = replayed(log, profile, replicas)
    first = said.ttft_s * np.exp(noise * rng.standard_normal(n))
    rest = (said.e2e_s - said.ttft_s) * np.exp(noise * rng.standard_normal(n))
    return replace(log, ttft_s=first, e2e_s=first + rest)


def written(log: Log, path: Any, **more: Any) -> Any:
    """The log as a canonical Parquet."""
    names = ("arrival_s", "input_tokens", "output_tokens", "ttft_s", "e2e_s")
    pl.DataFrame({name: getattr(log, name) for name in names} | more).write_parquet(path)
    return path


def decode_s(profile: Profile, sequences: int, context: int = 1000) -> float:
    """A decode step."""
    lat = profile.latency
    return float(lat.base + lat.token_s(sequences)[-1] + sequences * (lat.decode_seq + context * lat.decode_kv))


def prefill_s(profile: Profile, tokens: int) -> float:
    """An iteration of one prompt."""
    lat = profile.latency
    return float(lat.base + lat.token_s(tokens)[-1] + lat.attn_pair * tokens * (tokens + 1) / 2)

"""Aladdin's latency model of a profile: linear prefill and decode iterations, fitted by least squares to its steps."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from .profile import Latency, Profile

POINTS = 24  # of each grid's axis: doublings are met four times over
PROMPTS = 1024  # tokens: steps are timed for prompts of up to this, and for one that fills the batch


@dataclass(frozen=True)
class StepLaw:
    """Prefill lasts prefill_s + token_s · tokens of prompts; decoding decode_s + seq_s · requests + context_s · tokens.

    Seconds an iteration; Aladdin's k1 = token_s, c1 = prefill_s, k2 = context_s, c2 = seq_s, c3 = decode_s (arXiv
    2405.06856). A request holds its tokens and kv_tokens more (j, with h = 1): what its last block leaves empty, the
    mean. prefill_error, decode_error: mean relative errors over the steps it was fitted to; *_worst the largest.
    """

    prefill_s: float
    token_s: float
    decode_s: float
    seq_s: float
    context_s: float
    kv_tokens: float
    prefill_error: float
    prefill_worst: float
    decode_error: float
    decode_worst: float


def step_law(profile: Profile) -> StepLaw:
    """The law of a profile: least squares of relative errors, no coefficient below 0.

    Steps are what the profile says of them: prefills of 16 tokens up to two full batches, in prompts of several
    lengths; decodes of one request up to as many as may run, over contexts up to what the KV cache holds.
    """
    most = min(profile.max_seqs, profile.max_batch_tokens)
    return _law(profile.latency, profile.max_batch_tokens, most, profile.kv_tokens, profile.block)


@lru_cache(maxsize=256)
def _law(latency: Latency, batch_tokens: int, most_seqs: int, kv_tokens: int, block: int) -> StepLaw:
    tokens, prefill_s = prefill_steps(latency, batch_tokens)
    seqs, context, decode_s = decode_steps(latency, most_seqs, kv_tokens)
    prefill, prefill_off = fitted(np.stack([np.ones_like(tokens), tokens], axis=1), prefill_s)
    decode, decode_off = fitted(np.stack([np.ones_like(seqs), seqs, context], axis=1), decode_s)
    (c1, k1), (c3, c2, k2) = prefill, decode
    return StepLaw(
        c1, k1, c3, c2, k2, (block - 1) / 2,
        float(prefill_off.mean()), float(prefill_off.max()), float(decode_off.mean()), float(decode_off.max()),
    )  # fmt: skip


def prefill_steps(lat: Latency, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(prompt tokens, seconds) of prefills by the profile's formula, in chunks of at most `most` tokens."""
    tokens = np.unique(np.geomspace(min(16, most), 2 * most, POINTS).round())
    tokens, prompt = (a.ravel() for a in np.meshgrid(tokens, [64, 256, PROMPTS, most]))
    prompt = np.minimum(prompt, tokens)
    rest = tokens % most
    g = lat.token_s(most)
    iterations_s = np.ceil(tokens / most) * lat.base + tokens // most * g[-1] + np.where(rest, g[rest.astype(int)], 0.0)
    return tokens, iterations_s + lat.attn_pair * tokens * (prompt + 1) / 2


def decode_steps(lat: Latency, most: int, kv_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(requests, tokens of context, seconds) of decode iterations of up to `most`, by the profile's formula."""
    seqs = np.unique(np.geomspace(1, most, POINTS).round())
    seqs, share = (a.ravel() for a in np.meshgrid(seqs, np.geomspace(0.01, 1.0, POINTS)))
    context = np.maximum(share * kv_tokens, seqs)
    step_s = lat.base + lat.token_s(most)[seqs.astype(int)]
    return seqs, context, step_s + lat.decode_seq * seqs + lat.decode_kv * context


def fitted(columns: np.ndarray, seconds: np.ndarray) -> tuple[list[float], np.ndarray]:
    """(coefficients from 0 up, relative errors f8[steps]): the best choice of columns, each by least squares."""
    relative = columns / seconds[:, None]
    best, least = [0.0] * columns.shape[1], math.inf
    for n in range(columns.shape[1], 0, -1):
        for chosen in combinations(range(columns.shape[1]), n):
            scale = relative[:, chosen].max(axis=0)  # columns of seconds a token and of seconds: alike in size
            found = np.linalg.lstsq(relative[:, chosen] / scale, np.ones(len(seconds)), rcond=None)[0] / scale
            off = float(((relative[:, chosen] @ found - 1) ** 2).sum())
            if (found >= 0).all() and off < least:
                best, least = [0.0] * columns.shape[1], off
                for column, value in zip(chosen, found, strict=True):
                    best[column] = float(value)
    return best, np.abs(relative @ np.array(best) - 1)

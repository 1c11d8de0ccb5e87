"""The roofline judged by the shipped profiles: efficiencies fitted to some, the error measured on those left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from lmaas.replay.profile import Profile

from .facts import find_gpu, find_model
from .roofline import SHARES, Efficiency, Shape, attention_s, names, token_s

DECODES = [(b, b * context) for b in (1, 4, 16, 64, 128, 256) for context in (256, 2048, 8192)]
PREFILLS = [128, 512, 2048, 8192]
MIXED = [(512, 32, 32 * 1024), (2048, 128, 128 * 1024)]
WEAK = 0.2  # a change of an efficiency by e costs as much as an error of a fifth in one step


@dataclass(frozen=True)
class Steps:
    """Iterations to compare on: n tokens, A, K, B as in `Latency`, f8 each."""

    n: np.ndarray
    pairs: np.ndarray
    context: np.ndarray
    decodes: np.ndarray


def steps() -> Steps:
    """Prefills, decodes and both together, from one request to a full batch."""
    rows: list[tuple[float, ...]] = [(b, 0, k, b) for b, k in DECODES]
    rows += [(p, p * (p + 1) / 2, 0, 0) for p in PREFILLS]
    rows += [(p + b, p * (p + 1) / 2, k, b) for p, b, k in MIXED]
    columns = np.array(rows, np.float64).T
    return Steps(*columns)


def measured_s(profile: Profile, at: Steps) -> np.ndarray:
    """What the profile says that these iterations last."""
    lat = profile.latency
    tokens = lat.token_s(int(at.n.max()))[at.n.astype(int)]
    total: np.ndarray = (
        lat.base + tokens + lat.attn_pair * at.pairs + lat.decode_seq * at.decodes + lat.decode_kv * at.context
    )
    return total


def estimated_s(shape: Shape, at: Steps, eff: Efficiency) -> np.ndarray:
    """What the roofline says."""
    pair, read = attention_s(shape, eff)
    return token_s(shape, at.n, eff) + pair * at.pairs + read * at.context


def shape_of(profile: Profile) -> Shape:
    """The shape of a shipped profile."""
    assert profile.model is not None and profile.gpu is not None
    return Shape(find_model(profile.model), find_gpu(profile.gpu), profile.tp, profile.dtype or "bf16")


def fitted(profiles: Sequence[Profile], start: Efficiency | None = None) -> Efficiency:
    """The efficiencies under which the roofline is nearest to these profiles (relative errors, robust)."""
    from scipy.optimize import least_squares

    at = steps()
    pairs = [(shape_of(p), np.log(measured_s(p, at))) for p in profiles]
    begin = start or Efficiency()
    prior = begin.vector()

    def residuals(vector: np.ndarray) -> np.ndarray:
        eff = begin.moved(vector)
        off = [np.log(estimated_s(shape, at, eff)) - truth for shape, truth in pairs]
        return np.concatenate([*off, WEAK * (vector - prior)])

    most = [0.0 if name in SHARES else np.inf for name in names(begin)]  # logarithms: no more than the whole peak
    return begin.moved(least_squares(residuals, prior, bounds=(-np.inf, most), loss="soft_l1", f_scale=0.2).x)


def trusted(profiles: Sequence[Profile]) -> list[Profile]:
    """Without tensor parallelism over PCIe by more than two GPUs, of which the database says impossible things."""
    return [p for p in profiles if shape_of(p).linked]


def left_out(profiles: Sequence[Profile]) -> pl.DataFrame:
    """unseen (gpu, model, both), profile, gpu, model, kind (dense, moe), mape, p95, bias over the steps; a row each.

    Every profile is predicted by efficiencies fitted without its GPU, without its model, or without either.
    """
    at, rows = steps(), []
    known: dict[tuple[str | None, str | None], Efficiency] = {}
    for profile in profiles:
        for unseen, gpu, model in (
            ("gpu", profile.gpu, None),
            ("model", None, profile.model),
            ("both", profile.gpu, profile.model),
        ):
            if (gpu, model) not in known:
                known[gpu, model] = fitted([p for p in profiles if p.gpu != gpu and p.model != model])
            shape = shape_of(profile)
            off = estimated_s(shape, at, known[gpu, model]) / measured_s(profile, at) - 1
            rows.append(
                {
                    "unseen": unseen,
                    "profile": profile.name,
                    "gpu": profile.gpu,
                    "model": profile.model,
                    "kind": "moe" if shape.model.experts else "dense",
                    "mape": float(np.abs(off).mean()),
                    "p95": float(np.quantile(np.abs(off), 0.95)),
                    "bias": float(np.median(off)),
                }
            )
    return pl.DataFrame(rows)

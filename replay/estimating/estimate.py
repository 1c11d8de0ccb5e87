"""A profile for a combination that has none: estimated, with the error that such estimates were measured to have.

from lmaas.replay.estimating.estimate import estimate
profile = estimate("llama-2-70b", "a40", tp=8)
"""

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.profile import Latency, Profile, Startup, shipped

from .facts import DTYPES, Gpu, Model, find_gpu, find_model
from .roofline import Efficiency, Shape, attention_s, token_s

KNOTS = (0, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)  # those of the shipped profiles
BEYOND = 16384  # tokens, up to where the last slope is taken
UTILISATION = 0.9  # of a GPU's memory that an engine takes (vLLM's default)
WORKSPACE, WORKSPACE_MOE = 2.5e9, 5e9  # bytes a GPU beside weights and KV: activations, graphs, communication
MOST_GPUS = 1024
SOURCE = "first-principles roofline; efficiencies fitted to the shipped profiles"
SLOW = "; the error does not cover tensor parallelism over PCIe by more than two GPUs"
PIPED = "; the error does not cover pipeline stages: no measurement has validated their formula"
COLD_BYTES_S, WARM_BYTES_S = 2.4e9, 7.2e9  # weights from local NVMe, from page cache: what shipped profiles assume
COMPILE_S, COMPILED_S = 150.0, 35.0  # engine start, without and with a compile cache


class Band(NamedTuple):
    """How far off estimates were for combinations left out: relative errors of step times, by what was left out."""

    unseen: str  # model, gpu, both, or none of them
    kind: str  # dense, moe
    mape: float  # median over the profiles left out
    p95: float  # likewise, of each one's 95th percentile
    profiles: int


def estimate(model: str, gpu: str, tp: int = 1, pp: int = 1, dtype: str | None = None) -> Profile:
    """The profile of a model on tp x pp GPUs, by the roofline; provenance `estimated`, its error measured (`band`).

    dtype of the weights: bf16, fp16, fp8, int8, mxfp4; default: what the model is published in. A pipeline of pp stages
    keeps pp parts of the batch in flight, so that an iteration takes the time of one pass: what does not depend on
    tokens in full, the rest over pp (no measurement to validate it by). UserError: a name that the table does not know
    (exit 2), weights that do not fit (exit 5).
    """
    of, on = find_model(model), find_gpu(gpu)
    dtype = dtype or _published(of)
    if dtype not in DTYPES:
        raise UserError(f"no dtype '{dtype}'; there are {', '.join(DTYPES)}", Exit.USAGE)
    if min(tp, pp) < 1 or tp * pp > MOST_GPUS:
        raise UserError(f"TP {tp} x PP {pp}: write at least 1 each and at most {MOST_GPUS} GPUs", Exit.USAGE)
    if tp > of.heads or pp > of.layers:
        raise UserError(
            f"{of.name} has {of.heads} heads and {of.layers} layers; TP {tp} x PP {pp} has more", Exit.CONFIG
        )
    shape, eff, error = Shape(of, on, tp, dtype), efficiencies(), band(of, on)
    weights = sum(part * count for part, count in zip(of.weight_bytes(dtype), (1, of.experts), strict=True))
    suffix = (f"/pp{pp}" if pp > 1 else "") + ("" if dtype == "bf16" else f"/{dtype}")
    return Profile(
        name=f"{of.name}/{on.alias}/tp{tp}{suffix}",
        model=of.repository,
        gpu=on.name,
        tp=tp,
        pp=pp,
        dtype=dtype,
        gpus_per_replica=tp * pp,
        kv_tokens=_kv_tokens(shape, pp, weights),
        max_batch_tokens=8192,
        max_seqs=256,
        latency=_latency(shape, pp, eff),
        startup_s=_startup(weights),
        usd_per_gpu_hour=next((p.usd_per_gpu_hour for p in shipped().values() if p.gpu == on.name), None),
        kv_bytes_per_token=of.kv_bytes_per_token,
        weights_gb=round(weights / 1e9, 1),
        provenance="estimated",
        source=SOURCE + (SLOW if not shape.linked else "") + (PIPED if pp > 1 else ""),
        error={"mape": error.mape, "p95": error.p95},
    )


def _published(model: Model) -> str:
    """The dtype its weights are published in."""
    if model.name.startswith("gpt-oss"):
        return "mxfp4"
    return "fp8" if model.repository.endswith("FP8") or model.name.startswith("deepseek") else "bf16"


def _latency(shape: Shape, pp: int, eff: Efficiency) -> Latency:
    ends = np.array([*KNOTS, BEYOND], np.float64)
    at = token_s(shape, ends, eff)
    slopes = np.maximum(np.diff(at) / np.diff(ends), 0.0) / pp
    pair, read = attention_s(shape, eff)
    handed_on = pp * eff.allreduce_s if pp > 1 else 0.0  # from stage to stage
    if pp > 1:
        slopes = slopes + shape.model.hidden * 2 / (shape.gpu.link_bytes_s * eff.link)  # once a stage, of 1/pp of them
    return Latency(
        base=float(at[0]) + handed_on,
        token_knots=tuple(float(pp * n) for n in KNOTS),
        token_slopes=tuple(float(s) for s in slopes),
        attn_pair=pair / pp,
        prefix_kv=read / pp,
        decode_kv=read / pp,
    )


def _kv_tokens(shape: Shape, pp: int, weights: float) -> int:
    model, gpus = shape.model, shape.tp * pp
    beside = WORKSPACE_MOE if model.experts else WORKSPACE
    free = UTILISATION * shape.gpu.memory_bytes - weights / gpus - beside
    copies = shape.tp / shape.kv_share  # of KV, where there are more GPUs than heads to divide
    tokens = int(free * gpus / (model.kv_bytes_per_token * copies)) if free > 0 else 0
    if tokens < 1024:
        need = math.ceil(weights / max(UTILISATION * shape.gpu.memory_bytes - beside, 1))
        raise UserError(
            f"{model.name} in {shape.dtype} takes {weights / 1e9:,.0f} GB of weights; {gpus} x {shape.gpu.name} leave "
            f"no room for KV beside them. It needs more than {need} of these GPUs (--tp)",
            Exit.CONFIG,
        )
    return tokens


def _startup(weights: float) -> Startup:
    cold, warm = weights / COLD_BYTES_S, weights / WARM_BYTES_S
    return Startup(
        cold=round(cold + COMPILE_S, 1), warm=round(warm + COMPILED_S, 1), swap=round(cold + COMPILED_S, 1), cv=0.4
    )


# ---- what the roofline was judged to be (benchmarks/roofline.py writes it)


@cache
def _judged() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("lmaas.replay").joinpath("data/roofline.json").read_text())
    return found


def efficiencies() -> Efficiency:
    """Fitted to all shipped profiles."""
    return Efficiency(**_judged()["efficiencies"])


def bands() -> list[Band]:
    """The measured errors: every shipped profile predicted without its GPU, its model, or both."""
    return [Band(**row) for row in _judged()["errors"]]


def band(model: Model, gpu: Gpu) -> Band:
    """The error of a combination like this one, by what of it the shipped profiles do not have.

    Where they have both, that of an unseen model: the larger one of those that a combination of known parts can have.
    """
    known = shipped().values()
    unseen_model = all(p.model != model.repository for p in known)
    unseen = ("both" if unseen_model else "gpu") if all(p.gpu != gpu.name for p in known) else "model"
    kind = "moe" if model.experts else "dense"
    return next(b for b in bands() if (b.unseen, b.kind) == (unseen, kind))

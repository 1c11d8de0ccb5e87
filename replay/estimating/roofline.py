"""The time of an iteration from first principles: bytes over bandwidth, operations over peak, each with an efficiency.

The form of Williams, Waterman and Patterson (CACM 2009) a kernel class, summed over those of a transformer, plus what
a layer costs however little it does and what tensor parallelism sends around (2 all-reduces a layer).
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from .facts import Gpu, Model

SHARES = {"compute", "compute_low", "compute_moe", "memory", "memory_moe", "kv", "attention", "link"}  # of a peak
SMOOTH = 1.5  # exponent of the smooth maximum of compute and memory time: kernels overlap them, not wholly


@dataclass(frozen=True)
class Efficiency:
    """What of the peaks is reached, and what is lost to launching and waiting; fitted to the shipped profiles."""

    compute: float = 0.8  # of peak FLOP/s in matrix products, 16 bit
    compute_low: float = 0.55  # the same in 8 bit and less
    compute_moe: float = 0.3  # of experts, whose products are small
    memory: float = 0.85  # of bandwidth, reading weights
    memory_moe: float = 0.8
    kv: float = 0.9  # of bandwidth, reading KV in decodes
    attention: float = 0.6  # of peak FLOP/s, in prefills
    activations: float = 16.0  # hidden vectors written and read a layer and token
    layer_s: float = 3e-5  # a layer's kernels, however little they do
    layer_low_s: float = 3e-5  # more where weights are quantised
    layer_moe_s: float = 4e-5  # more where tokens are sorted to experts
    allreduce_s: float = 8e-6  # one all-reduce, however small
    link: float = 0.8  # of the link's bytes/s

    def vector(self) -> np.ndarray:
        """Logarithms of the fields, in their order."""
        return np.log([getattr(self, name) for name in names(self)])

    def moved(self, vector: np.ndarray) -> "Efficiency":
        """The one with these logarithms."""
        return replace(self, **{name: float(v) for name, v in zip(names(self), np.exp(vector), strict=True)})


def names(eff: Efficiency) -> list[str]:
    """Its fields, in the order of its vector."""
    return [f.name for f in fields(eff)]


PCIE = 1e11  # bytes/s: on links slower than this the step times of more than two GPUs are not to be trusted


@dataclass(frozen=True)
class Shape:
    """A model on GPUs: dtype of its weights, tensor parallel degree. Pipelines: see `estimate`."""

    model: Model
    gpu: Gpu
    tp: int
    dtype: str

    @property
    def low(self) -> bool:
        """Whether weights are of fewer than 16 bit."""
        return self.dtype not in ("bf16", "fp16")

    @property
    def linked(self) -> bool:
        """Whether its GPUs have links of their own, or are few."""
        return self.tp <= 2 or self.gpu.link_bytes_s > PCIE

    @property
    def kv_share(self) -> int:
        """Over how many GPUs a token's KV is divided: heads are replicated where there are more GPUs than heads."""
        return min(self.tp, self.model.kv_heads)


def token_s(shape: Shape, n: np.ndarray, eff: Efficiency) -> np.ndarray:
    """Seconds of an iteration of n tokens without its attention, f8 of f8; n >= 1."""
    model, gpu, tp = shape.model, shape.gpu, shape.tp
    peak = gpu.fp8_flops if shape.low else gpu.bf16_flops
    compute = eff.compute_low if shape.low else eff.compute
    shared_bytes, expert_bytes = model.weight_bytes(shape.dtype)
    dense = _smooth(
        2 * model.shared_parameters * n / (tp * peak * compute),
        shared_bytes / (tp * gpu.memory_bytes_s * eff.memory),
    )
    moe = np.zeros_like(n)
    if model.experts:
        touched = model.experts * (1 - (1 - model.experts_per_token / model.experts) ** n)
        moe = _smooth(
            2 * model.experts_per_token * model.expert_parameters * n / (tp * peak * eff.compute_moe),
            touched * expert_bytes / (tp * gpu.memory_bytes_s * eff.memory_moe),
        )
    layer = eff.layer_s + shape.low * eff.layer_low_s + (model.experts > 0) * eff.layer_moe_s
    written = model.layers * eff.activations * model.hidden * 2 * n / (tp * gpu.memory_bytes_s)
    total: np.ndarray = dense + moe + model.layers * layer + written + _communication(shape, n, eff)
    return total


def _communication(shape: Shape, n: np.ndarray, eff: Efficiency) -> np.ndarray:
    if shape.tp == 1:
        return np.zeros_like(n)
    around = 2 * (shape.tp - 1) / shape.tp * shape.model.hidden * 2 * n  # bytes a GPU sends in a ring
    return 2 * shape.model.layers * (eff.allreduce_s + around / (shape.gpu.link_bytes_s * eff.link))


def attention_s(shape: Shape, eff: Efficiency) -> tuple[float, float]:
    """(attn_pair, decode_kv): seconds a pair of prompt tokens, and a token of context that a decode reads."""
    model, gpu = shape.model, shape.gpu
    pair = 4 * model.layers * model.heads * model.head_dim / (shape.tp * gpu.bf16_flops * eff.attention)
    read = model.kv_bytes_per_token / (shape.kv_share * gpu.memory_bytes_s * eff.kv)
    return pair, read


def _smooth(a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    total: np.ndarray = (a**SMOOTH + b**SMOOTH) ** (1 / SMOOTH)
    return total

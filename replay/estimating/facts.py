"""What is known of GPUs and models from datasheets and configurations (replay/data/hardware.json)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from lmaas.analysis.errors import Exit, UserError

DTYPES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "mxfp4": 0.53}  # bytes a weight; mxfp4: 4 bits and scales
MXFP4_OTHERS = 2.0  # bytes a weight that is no expert's: gpt-oss keeps those in 16 bit


@dataclass(frozen=True)
class Gpu:
    """One GPU: peak dense FLOP/s, memory bandwidth, memory (bytes, as the driver reports), link to its neighbours."""

    name: str
    alias: str
    bf16_flops: float
    fp8_flops: float
    memory_bytes_s: float
    memory_bytes: float
    link_bytes_s: float  # in one direction
    source: str


@dataclass(frozen=True)
class Model:
    """A model's shape; kv_bytes_per_token in 16 bit, over all layers; experts 0: dense."""

    name: str
    repository: str
    parameters: float
    active_parameters: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    kv_bytes_per_token: int
    experts: int
    experts_per_token: int

    @property
    def expert_parameters(self) -> float:
        """Of one expert, over all layers."""
        idle = self.experts - self.experts_per_token
        return (self.parameters - self.active_parameters) / idle if idle else 0.0

    @property
    def shared_parameters(self) -> float:
        """Of what every token passes: attention, embeddings, dense layers."""
        return self.active_parameters - self.experts_per_token * self.expert_parameters

    def weight_bytes(self, dtype: str) -> tuple[float, float]:
        """(shared, one expert's) bytes in that type."""
        others = MXFP4_OTHERS if dtype == "mxfp4" else DTYPES[dtype]
        return self.shared_parameters * others, self.expert_parameters * DTYPES[dtype]


@cache
def _facts() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(files("lmaas.replay").joinpath("data/hardware.json").read_text())
    return found


@cache
def gpus() -> dict[str, Gpu]:
    """The GPUs of the table, by their short name."""
    names = [f.name for f in fields(Gpu)]
    return {row["alias"]: Gpu(**{name: row[name] for name in names}) for row in _facts()["gpus"]}


@cache
def models() -> dict[str, Model]:
    """The models of the table, by their short name."""
    names = [f.name for f in fields(Model)]
    return {row["name"]: Model(**{name: row[name] for name in names}) for row in _facts()["models"]}


def find_gpu(name: str) -> Gpu:
    """By short or full name, in any case; UserError (exit 2)."""
    return gpus()[_key("GPU", name, [(gpu.alias, gpu.name) for gpu in gpus().values()])]


def find_model(name: str) -> Model:
    """By short name or repository, in any case; UserError (exit 2)."""
    return models()[_key("model", name, [(model.name, model.repository) for model in models().values()])]


def _key(what: str, name: str, names: Sequence[tuple[str, str]]) -> str:
    wanted = name.strip().lower()
    for alias, full in names:
        if wanted in (alias.lower(), full.lower(), full.lower().rpartition("/")[2]):
            return alias
    from difflib import get_close_matches

    known = [alias for alias, _ in names]
    near = get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"the table has no {what} '{name}'; {hint}It has {', '.join(known)}", Exit.USAGE)

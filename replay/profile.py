"""GPU profiles: (model, GPU, TP, dtype) -> step-time coefficients, KV capacity, start-up times, price."""

import json
import math
import re
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lmaas.analysis.errors import Exit, UserError

Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]

DEFAULT = "llama-3.1-8b/h100/tp1"
# a service without a profile gets the first whose pattern its name contains: size class, cheapest common shape
CLASSES = (
    (r"(?<!\d)405b", "llama-3.1-405b/h200/tp8/fp8"),
    (r"deepseek|671b", "deepseek-v3/h200/tp8/fp8"),
    (r"235b", "qwen3-235b-a22b/h200/tp4/fp8"),
    (r"gpt-oss|120b", "gpt-oss-120b/h100/tp2/mxfp4"),
    (r"(?<!\d)(65|70|72)b", "llama-3.1-70b/h100/tp2/fp8"),
    (r"30b-a3b", "qwen3-30b-a3b/h100/tp1"),
    (r"(?<!\d)(30|32|34)b", "qwen3-32b/h100/tp1/fp8"),
)


class Latency(BaseModel):
    """An iteration's duration, s: base + G(n) + attn_pair·A + prefix_kv·PK + decode_seq·B + decode_kv·K.

    n: tokens of the iteration, A: sum over prefill chunks of L·computed + L(L+1)/2, PK: their computed tokens,
    B: decoding sequences, K: their context tokens; G: piecewise linear, slope i from knot i to knot i+1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Seconds
    token_knots: tuple[Seconds, ...] = (0.0,)
    token_slopes: tuple[Seconds, ...] = (0.0,)
    attn_pair: Seconds = 0.0
    prefix_kv: Seconds = 0.0
    decode_seq: Seconds = 0.0
    decode_kv: Seconds = 0.0

    @model_validator(mode="after")
    def _coherent(self) -> "Latency":
        knots = self.token_knots
        if len(knots) != len(self.token_slopes):
            raise ValueError(f"{len(knots)} token_knots for {len(self.token_slopes)} token_slopes")
        if not knots or knots[0] != 0 or any(b <= a for a, b in pairwise(knots)):
            raise ValueError("token_knots must start at 0 and rise")
        if self.base == 0 and self.token_slopes[0] == 0:
            raise ValueError("an iteration would last 0 s: base or the first token slope must be above 0")
        return self

    def token_s(self, most: int) -> np.ndarray:
        """G(n) for n = 0 ... most, f8[most + 1], seconds."""
        n = np.arange(most + 1, dtype=np.float64)
        ends = [*self.token_knots[1:], math.inf]
        total = np.zeros(most + 1)
        for slope, low, high in zip(self.token_slopes, self.token_knots, ends, strict=True):
            total += slope * np.maximum(0.0, np.minimum(n, high) - low)
        return total


class Startup(BaseModel):
    """Seconds until a replica serves: cold, warm (same model resumes), swap (another's place); cv of the draw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cold: Seconds = 0.0
    warm: Seconds = 0.0
    swap: Seconds = 0.0
    cv: Seconds = 0.0

    def draw(self, mean_s: float, rng: np.random.Generator) -> float:
        """One start-up time, s: lognormal of the given mean and this cv (starts have a long right tail)."""
        if mean_s == 0 or self.cv == 0:
            return mean_s
        sigma2 = math.log1p(self.cv**2)
        return float(rng.lognormal(math.log(mean_s) - sigma2 / 2, math.sqrt(sigma2)))


class Profile(BaseModel):
    """A replica's engine on its GPUs; fields and units of docs/profiles.md, all in seconds and tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    kv_tokens: int = Field(ge=1, le=10**12)
    max_batch_tokens: int = Field(ge=1, le=1_000_000)
    max_seqs: int = Field(ge=1, le=65_536)
    latency: Latency
    model: str | None = None
    gpu: str | None = None
    tp: int = Field(default=1, ge=1)
    pp: int = Field(default=1, ge=1)
    dtype: str | None = None
    gpus_per_replica: int = Field(default=1, ge=1)
    block: int = Field(default=16, ge=1)
    prefix_cache: bool = Field(default=True, strict=True)  # whether the engine keeps computed prompt blocks
    overhead_s: Seconds = 0.0  # tokenising and API time, once in every TTFT and E2E
    startup_s: Startup = Startup()
    usd_per_gpu_hour: Seconds | None = None
    kv_bytes_per_token: int | None = Field(default=None, ge=1)
    weights_gb: Seconds | None = None
    provenance: Literal["measured", "calibrated", "fitted", "estimated"] = "measured"
    source: str | None = None
    error: dict[str, Seconds] | None = None  # held-out relative errors: mape, p95 of step times; ttft_p50, ... of a log
    date: str | None = None

    @field_validator("startup_s", mode="before")
    @classmethod
    def _plain_number(cls, value: object) -> object:
        return {"cold": value, "warm": value, "swap": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _has_a_block(self) -> "Profile":
        if self.kv_tokens < self.block:
            raise ValueError(f"kv_tokens {self.kv_tokens} is below one block of {self.block} tokens")
        return self

    def alone_s(self, input_tokens: np.ndarray, output_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(TTFT, E2E) in seconds of requests that have a replica to themselves, prompts unchunked beyond the budget.

        The floor no fleet can beat; used to say which requests a latency target excludes.
        """
        n, lat = input_tokens.astype(np.float64), self.latency
        full, rest = np.divmod(n, self.max_batch_tokens)
        g = lat.token_s(self.max_batch_tokens)
        chunks = full + (rest > 0)
        prefix = self.max_batch_tokens * (chunks * (chunks - 1) / 2)
        prefill = (
            chunks * lat.base
            + full * g[-1]
            + np.where(rest > 0, g[rest.astype(int)], 0.0)
            + lat.attn_pair * n * (n + 1) / 2
            + lat.prefix_kv * prefix
        )
        more = output_tokens.astype(np.float64) - 1
        step = lat.base + float(lat.token_s(1)[1]) + lat.decode_seq
        decode = more * step + lat.decode_kv * (more * (n + 1) + more * (more - 1) / 2)
        return self.overhead_s + prefill, self.overhead_s + prefill + decode


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


@cache
def shipped() -> dict[str, Profile]:
    """The shipped profiles by name."""
    rows = json.loads(files("lmaas.replay").joinpath("data/profiles.json").read_text())["profiles"]
    return {row["name"]: Profile.model_validate(row) for row in rows}


def profiles() -> pl.DataFrame:
    """The shipped table: name, model, gpu, tp, dtype, gpus_per_replica, kv_tokens, usd_per_gpu_hour, ..."""
    fields = ("name", "model", "gpu", "tp", "dtype", "gpus_per_replica", "kv_tokens", "usd_per_gpu_hour")
    rows = [
        {f: getattr(p, f) for f in fields} | {"provenance": p.provenance, "mape": (p.error or {}).get("mape")}
        for p in shipped().values()
    ]
    return pl.DataFrame(rows)


def find_profile(name_or_path: str) -> Profile:
    """A shipped profile by name, or one read from a JSON file; UserError (exit 2, file: 5) where there is none."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    try:
        is_file = path.suffix == ".json" or path.is_file()
    except OSError:  # a name no file can have
        is_file = False
    if is_file:
        return _read_profile(path)
    from difflib import get_close_matches

    near = get_close_matches(name_or_path, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UserError(f"no profile named '{name_or_path}'{hint} (lmaas profile list)", Exit.USAGE)


def _read_profile(path: Path) -> Profile:
    try:
        return Profile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", Exit.CONFIG) from None
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)} (docs/profiles.md)", Exit.CONFIG) from None
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, a number too long to convert
        raise UserError(f"{path}: not a JSON profile: {error}", Exit.CONFIG) from None


def default_profile(service: str) -> Profile:
    """The shipped profile whose size class fits the service's name, else Llama-3.1-8B on one H100."""
    for pattern, name in CLASSES:
        if re.search(pattern, service.lower()):
            return shipped()[name]
    return shipped()[DEFAULT]

"""The peers' fixed workload and the two profiles it is replayed with: Llama-2-70B fp16 on 2 x A100-80GB a replica.

Workload: Azure LLM inference trace 2023 "conv" (AzurePublicDataset, CC-BY-4.0), prompts clipped so that input + output
<= 4096 (Vidur's profile of this model ends there). Step times: splitwise-sim's `data/perf_model.csv` (MIT), measured.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from read_to_results import read_azure
from scipy.interpolate import interp1d
from scipy.optimize import nnls

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile

TRACE = "traces/azure-llm-2023/AzureLLMInferenceTrace_conv.csv"
STEP_TIMES = "profiles/splitwise_step_times.csv"

# KV capacity. A token of Llama-2-70B with grouped queries: K and V x 80 layers x 8 heads x 128 x 2 B
KV_BYTES = 2 * 80 * 8 * 128 * 2
GPU_BYTES = 85_899_345_920  # A100-80GB
# splitwise-sim: all memory of both GPUs less 135 GB of weights (configs/model_repo/sizes/llama2-70b-fp16.yaml)
KV_SPLITWISE = (2 * GPU_BYTES - 135_000_000_000) // KV_BYTES
# vLLM: 90 % of each GPU, less its half of 68,976,648,192 fp16 parameters and about 2.5 GB of activations and graphs
KV_VLLM = 2 * (GPU_BYTES * 9 // 10 - 68_976_648_192 - 2_500_000_000) // KV_BYTES

# splitwise-sim's configs/start_state/baseline.yaml
BATCH_TOKENS, MAX_SEQS = 2048, 512
# the sizes the table was measured at; in between nothing is known, so a line
KNOTS = (0, 128, 256, 512, 1024, 2048, 4096)
LONGEST = 8192  # tokens of a step in the workload, by far
BATCHES = np.array([1.0, 2, 4, 8, 16, 32, 64])


def workload(shared: Path, copies: int = 1) -> Requests:
    """The workload, `copies` of it rotated in time and superposed (the peers' "x5": 5); arrivals from 0."""
    return read_azure(shared / TRACE, copies)


# --- step times ---


def step_times(shared: Path) -> pl.DataFrame:
    """Llama-2-70B, A100-80GB, TP2, as measured: prompt_size, batch_size, token_size, prompt_s, token_s, e2e_s."""
    return (
        pl.read_csv(shared / STEP_TIMES)
        .filter(model="llama2-70b", hardware="a100-80gb", tensor_parallel=2)
        .with_columns((pl.col(f"{what}_time") / 1e3).alias(f"{what}_s") for what in ("prompt", "token", "e2e"))
        .select("prompt_size", "batch_size", "token_size", "prompt_s", "token_s", "e2e_s")
    )


def read_by_tokens(rows: pl.DataFrame) -> pl.DataFrame:
    """splitwise-sim's reading: medians by n = prompt_size x batch_size, prompts and decodes alike."""
    by_tokens = rows.group_by(n=pl.col("prompt_size") * pl.col("batch_size"))
    return by_tokens.agg(pl.col("prompt_s", "token_s").median()).sort("n")


def interpolated(table: pl.DataFrame, column: str) -> interp1d:
    """A column over n, straight between the rows and beyond them, as splitwise-sim does."""
    return interp1d(table["n"].to_numpy().astype(float), table[column].to_numpy(), fill_value="extrapolate")


@dataclass(frozen=True)
class Fit:
    """A fitted profile and its relative error on the rows it was fitted to."""

    profile: Profile
    error: np.ndarray


def as_splitwise(shared: Path) -> Fit:
    """The table read as splitwise-sim reads it: a decode of b sequences costs what b *tokens* cost.

    Its rows start at 128 tokens, so decodes of 1 to 64 sequences (the largest batch of the table) are its line
    through 128 and 256 continued, 53.3 to 53.5 ms; G gets a knot at 64, as prompts of its rows are longer.
    """
    table = read_by_tokens(step_times(shared)).filter(pl.col("n") <= LONGEST)
    prompts, decodes = interpolated(table, "prompt_s"), interpolated(table, "token_s")
    knots = (0, 64, *KNOTS[1:])
    n = table["n"].to_numpy().astype(float)
    rows = np.concatenate([_tokens(n, knots), _tokens(BATCHES, knots)])
    return _fitted("read as splitwise-sim", rows, np.concatenate([prompts(n), decodes(BATCHES)]), knots, "")


def as_measured(shared: Path, only: pl.Expr | None = None) -> Fit:
    """The table read by what was measured: a decode of b sequences costs what decoding b sequences took.

    One row a configuration (the median of its 5 to 15 runs). Left out: batch 64, whose prompts are faster than batch
    4's and whose end-to-end time is 17 times the sum of its steps. Answers can be shorter than asked for: their
    length is read off the end-to-end time. `only`: fit to fewer of the rows, to see what hangs on them.
    """
    runs = step_times(shared).filter(pl.col("batch_size") < 64, pl.lit(True) if only is None else only)
    one = runs.group_by("prompt_size", "batch_size", "token_size").median().sort("prompt_size", "batch_size")
    prompt, batch, asked, prompt_s, token_s, e2e_s = (one[name].to_numpy().astype(float) for name in one.columns)
    generated = np.minimum(asked, 1 + (e2e_s - prompt_s) / token_s)
    none = np.zeros(len(one))
    pairs, context = batch * prompt * (prompt + 1) / 2, batch * (prompt + generated / 2)
    rows = np.concatenate(
        [
            np.column_stack([_tokens(prompt * batch, KNOTS), pairs, none, none]),
            np.column_stack([_tokens(batch, KNOTS), none, batch, context]),
        ]
    )
    terms = "attn_pair decode_seq decode_kv"
    return _fitted("read as measured", rows, np.concatenate([prompt_s, token_s]), KNOTS, terms)


def _tokens(n: np.ndarray, knots: tuple[int, ...]) -> np.ndarray:
    """1 and the tokens of n in each interval of G: f8[len(n), 1 + len(knots)]."""
    ends = np.array([*knots[1:], np.inf])
    return np.column_stack([np.ones(len(n)), np.maximum(0.0, np.minimum(n[:, None], ends) - np.array(knots))])


def _fitted(name: str, rows: np.ndarray, seconds: np.ndarray, knots: tuple[int, ...], terms: str) -> Fit:
    """Non-negative least squares on relative errors."""
    relative = rows / seconds[:, None]
    scale = relative.max(axis=0)
    found = nnls(relative / scale, np.ones(len(seconds)))[0] / scale
    base, slopes, rest = found[0], found[1 : 1 + len(knots)], found[1 + len(knots) :]
    latency = Latency(
        base=base, token_knots=knots, token_slopes=tuple(slopes), **dict(zip(terms.split(), rest, strict=True))
    )
    error = rows @ found / seconds - 1
    profile = Profile(
        name=f"llama-2-70b/a100/tp2, {name}", model="meta-llama/Llama-2-70b-hf", gpu="A100-SXM-80GB", tp=2,
        dtype="fp16", gpus_per_replica=2, kv_tokens=KV_SPLITWISE, max_batch_tokens=BATCH_TOKENS, max_seqs=MAX_SEQS,
        latency=latency, kv_bytes_per_token=KV_BYTES, provenance="fitted",
        source=f"splitwise-sim data/perf_model.csv (MIT), Llama-2-70B, A100-80GB, TP2, {name}",
        error={"mape_in_sample": float(np.abs(error).mean()), "worst_in_sample": float(np.abs(error).max())},
    )  # fmt: skip
    return Fit(profile, error)


# --- replay ---


@dataclass(frozen=True)
class Latencies:
    """p50 and p99 of TTFT, TPOT and E2E, s, in this order; what ended how."""

    seconds: np.ndarray
    completed: int
    preemptions: int


def replay(requests: Requests, profile: Profile, replicas: int, router: str = "round-robin") -> Latencies:
    """The workload on one pool of `replicas`."""
    outcome = Replay(requests, Fleet((Pool("llama-2-70b", "default", profile),)), [replicas], router).run()
    return latencies(requests, outcome.first_s, outcome.done_s, int(outcome.preemptions.sum()))


def latencies(requests: Requests, first_s: np.ndarray, done_s: np.ndarray, preemptions: int = 0) -> Latencies:
    """Percentiles over the requests that completed; TPOT = (e2e - ttft) / (output - 1)."""
    done = np.isfinite(done_s)
    ttft, e2e = (x[done] - requests.arrival_s[done] for x in (first_s, done_s))
    more = requests.output_tokens[done] - 1
    tpot = (e2e - ttft)[more > 0] / more[more > 0]
    seconds = np.array([np.quantile(x, q) for x in (ttft, tpot, e2e) for q in (0.5, 0.99)])
    return Latencies(seconds, int(done.sum()), preemptions)

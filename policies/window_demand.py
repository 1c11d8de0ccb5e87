"""Demand in short steps, from a streaming scan: what window fidelity sees of a trace instead of its requests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from lmaas.analysis.trace import Trace
from lmaas.analysis.windows import count_windows
from lmaas.replay.fleet import NO_REGION
from lmaas.replay.profile import Profile
from lmaas.replay.rates import Mix, Rates, attained
from lmaas.replay.slo import NO_TIER

from .prepare import Prepared

MEASURES = ("requests", "possible", "work", "input_tokens", "output_tokens")
MICRO = 1e6  # work is summed in whole microseconds: sums of integers are the same in any order
LIMITS = ("limit_ttft_s", "limit_tpot_s", "limit_e2e_s")


@dataclass(frozen=True)
class Work:
    """What a request costs a replica of one pool, in replica-seconds at μ: scale times its share of busy iterations.

    A request of I input and O output tokens, in a batch of `batch` (the mean at μ), takes
    I·g + attn_pair·I(I+1)/2 for its prompt (g: time of a token in a full iteration) and
    O·((base + G(batch))/batch + decode_seq) + decode_kv·O·(I + O/2) for its answer (docs/replay.md); `scale` makes the
    mean over the load-tested mix 1/μ, so that a pool at its sustainable rate does one second of work a replica-second.
    """

    profile: Profile
    batch: float
    scale: float

    @classmethod
    def of(cls, profile: Profile, rates: Rates, input_tokens: np.ndarray, output_tokens: np.ndarray) -> "Work":
        """For a pool whose service sustains `rates`, scaled on these requests."""
        raw = cls(profile, max(1.0, min(rates.mean_running, profile.max_seqs)), 1.0)
        return cls(
            profile, raw.batch, 1 / (rates.requests_s * float(raw.of_requests(input_tokens, output_tokens).mean()))
        )

    def of_requests(self, input_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
        """f8 replica-seconds at μ of each request."""
        i, o, lat = input_tokens.astype(np.float64), output_tokens.astype(np.float64), self.profile.latency
        full = self.profile.max_batch_tokens
        g = lat.token_s(full)
        a_prompt = i * (lat.base + g[full]) / full + lat.attn_pair * i * (i + 1) / 2
        at = min(int(self.batch), full)
        a_token = (lat.base + g[at]) / self.batch + lat.decode_seq
        return np.asarray(self.scale * (a_prompt + o * a_token + lat.decode_kv * o * (i + o / 2)))


@dataclass(frozen=True)
class Steps:
    """Demand of every pool in steps of step_s from start_s on: arrays f8[pools, steps] by name (MEASURES).

    possible: requests that would meet their SLO on an idle replica; work: replica-seconds at μ (Work).
    """

    start_s: float
    step_s: float
    of: dict[str, np.ndarray]

    @property
    def count(self) -> int:
        """Number of steps."""
        return int(self.of["work"].shape[1])


def lazy_requests(trace: Trace, ready: Prepared) -> pl.LazyFrame:
    """arrival_s, pool, input_tokens, output_tokens and limits of the replayable rows, unread until collected.

    Equals `ready.requests` where the load is 1x (tested), without holding it.
    """
    keys = ready.requests.lazy().select("service", "origin", "pool").unique()
    names = ["service", "scored_tier", *LIMITS]
    limits = ready.requests.lazy().select(names).unique()
    usable = ((pl.col("input_tokens") >= 1) & (pl.col("output_tokens") >= 1)).fill_null(False)
    return (
        trace.scan()
        .select("arrival_s", "service", "region", "tier", "input_tokens", "output_tokens")
        .filter(usable)
        .with_columns(
            service=pl.col("service").cast(pl.String),
            origin=pl.col("region").cast(pl.String).fill_null(NO_REGION),
            scored_tier=pl.col("tier").cast(pl.String).fill_null(NO_TIER),
        )
        .join(keys, on=["service", "origin"], how="inner")
        .join(limits, on=["service", "scored_tier"], how="left")
        .select("arrival_s", "pool", "input_tokens", "output_tokens", *LIMITS)
    )


def scan_steps(requests: pl.LazyFrame, works: Sequence[Work], *, step_s: float, start_s: float, end_s: float) -> Steps:
    """Demand of [start_s, end_s] in steps, streamed: memory is that of pools x steps, whatever the trace's size.

    requests: arrival_s, pool (number; works[pool]), input_tokens, output_tokens, limit_*_s. The last arrival counts
    with the last step where it lies on its end.
    """
    count = max(count_windows(step_s, start_s, end_s), 1)
    step = ((pl.col("arrival_s") - start_s) / step_s).floor().cast(pl.Int64).clip(0, count - 1)
    columns = ("pool", "input_tokens", "output_tokens", *LIMITS)
    kind = pl.Struct({"work": pl.Int64(), "possible": pl.Int64()})
    sums = (
        requests.filter(pl.col("arrival_s").is_between(start_s, end_s))
        .with_columns(
            cell=pl.col("pool").cast(pl.Int64) * count + step,
            weight=pl.struct(columns).map_batches(
                lambda rows: _weights(rows.struct.unnest(), works), return_dtype=kind, is_elementwise=True
            ),
        )
        .group_by("cell")
        .agg(
            requests=pl.len(),
            possible=pl.col("weight").struct.field("possible").sum(),
            work=pl.col("weight").struct.field("work").sum() / MICRO,
            input_tokens=pl.col("input_tokens").cast(pl.Int64).sum(),
            output_tokens=pl.col("output_tokens").cast(pl.Int64).sum(),
        )
        .collect(engine="streaming")
    )
    arrays = {}
    for name in MEASURES:
        flat = np.zeros(len(works) * count)
        flat[sums["cell"].to_numpy()] = sums[name].to_numpy()
        arrays[name] = flat.reshape(len(works), count)
    return Steps(start_s, step_s, arrays)


def possible(profile: Profile, mix: Mix) -> np.ndarray:
    """Whether each request would complete within its limits with a replica to itself: no fleet does better."""
    blocks = np.ceil((mix.input_tokens + mix.output_tokens - 1) / profile.block)
    return attained(
        mix, *profile.alone_s(mix.input_tokens, mix.output_tokens), blocks <= profile.kv_tokens // profile.block
    )


def mix_of(rows: pl.DataFrame) -> Mix:
    """Lengths and limits as the load test takes them, in the rows' order."""
    lengths = [rows[name].to_numpy().astype(np.int64) for name in ("input_tokens", "output_tokens")]
    ttft, tpot, e2e = (rows[name].to_numpy() for name in LIMITS)
    return Mix(lengths[0], lengths[1], ttft, tpot, e2e, np.zeros(rows.height, np.int64))


def _weights(rows: pl.DataFrame, works: Sequence[Work]) -> pl.Series:
    pool, mix = rows["pool"].to_numpy(), mix_of(rows)
    work, can = np.zeros(rows.height), np.zeros(rows.height)
    for number in np.unique(pool):
        mine = pool == number
        of = works[number]
        part = mix.take(mine)
        work[mine] = of.of_requests(part.input_tokens, part.output_tokens)
        can[mine] = possible(of.profile, part)
    micro = np.rint(work * MICRO).astype(np.int64)
    return pl.DataFrame({"work": micro, "possible": can.astype(np.int64)}).to_struct("weight")

"""A trace cut into blocks of time, and what of each block two traces are compared by.

Requests of one minute resemble each other, so how much a number would differ by chance is asked of whole blocks of
time, drawn again (Künsch 1989) or dealt out to both sides: what is alike within a block stays together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.trace import Trace
from lmaas.analysis.workload.buckets import COARSE, FINE, bucket
from lmaas.analysis.workload.given import IN_MEMORY_ROWS
from lmaas.analysis.workload.scales import SCALES_S, base_scale_s
from lmaas.analysis.workload.summary import ADDED, observed
from lmaas.analysis.workload.tables import DIMENSIONS, OTHERS, TOP, answered, named, totals, tpot_s

F8 = npt.NDArray[np.float64]
BLOCKS = 24  # of the shorter trace, where its time steps allow
MOST_BLOCKS = 400  # of the longer one
WINDOWS = 10  # at least so many windows a block, where the time steps allow
LENGTHS = ("input_tokens", "output_tokens")
MIX = (*DIMENSIONS, "status")


@dataclass(frozen=True)
class Cut:
    """How both traces are cut: blocks of `block_s`, each a whole number of windows of `window_s`."""

    window_s: float
    block_s: float

    @classmethod
    def choose(cls, spans_s: Sequence[float], quantum_s: float) -> "Cut":
        """By the spans of the traces and the coarser of their time steps."""
        least = base_scale_s(quantum_s)
        wanted = max(min(spans_s) / BLOCKS, max(spans_s) / MOST_BLOCKS, least)
        window_s = max((s for s in SCALES_S if least <= s <= wanted / WINDOWS), default=least)
        return cls(window_s, window_s * math.ceil(wanted / window_s))

    def count(self, span_s: float) -> int:
        """Blocks of a trace; the last one is longer by what is left."""
        return max(1, math.floor(span_s / self.block_s))

    @property
    def windows(self) -> int:
        """Windows of a block."""
        return round(self.block_s / self.window_s)


@dataclass(frozen=True)
class Blocks:
    """What of each block is compared; frames have a column `block`, 0 <= block < count."""

    cut: Cut
    count: int
    span_s: float
    rows: int
    windows: pl.DataFrame  # block, window -> requests, input_tokens, output_tokens; empty ones absent
    mix: Mapping[str, pl.DataFrame]  # dimension -> block, name -> requests
    values: pl.DataFrame  # block, metric, bucket -> n, total; latencies in microseconds
    joint: pl.DataFrame  # block, in_bucket, out_bucket -> n
    counted: pl.DataFrame | None  # metric, value -> n: every value, where the rows fit in memory

    def window_count(self) -> F8:
        """Windows of each block, empty ones included."""
        found = np.full(self.count, self.cut.windows, float)
        found[-1] = max(1, math.floor(self.span_s / self.cut.window_s) + 1 - (self.count - 1) * self.cut.windows)
        return found


def blocks(trace: Trace, cut: Cut, names: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> Blocks:
    """One streaming pass over a trace. `names`: those told apart of each dimension; `metrics`: `metrics_of`."""
    scan, span_s = trace.scan(), trace.meta.span_s
    (first,) = scan.select(pl.col("arrival_s").min()).collect(engine="streaming").row(0)
    count = cut.count(span_s)
    window = ((pl.col("arrival_s") - first) / cut.window_s).floor().cast(pl.Int64)
    rows = scan.with_columns(window=window).with_columns(
        block=(pl.col("window") // cut.windows).clip(0, count - 1), status=pl.col("status").cast(pl.String)
    )
    frames = {
        "windows": rows.group_by("block", "window").agg(
            pl.len().cast(pl.Int64).alias("requests"), pl.col(ADDED[1:]).cast(pl.Int64).sum()
        ),
        "values": pl.concat([_histogram(rows, m) for m in metrics]),
        "joint": _joint(rows),
    }
    frames |= {f"mix {d}": _mix(rows, d, known) for d, known in names.items()}
    if trace.meta.rows_kept <= IN_MEMORY_ROWS:
        frames["counted"] = pl.concat([_counted(rows, m) for m in metrics])
    found = dict(zip(frames, pl.collect_all(list(frames.values()), engine="streaming"), strict=True))
    mix = {d: found[f"mix {d}"] for d in names}
    return Blocks(
        cut,
        count,
        span_s,
        trace.meta.rows_kept,
        found["windows"],
        mix,
        found["values"],
        found["joint"],
        found.get("counted"),
    )


def shared_names(traces: Sequence[Trace]) -> dict[str, list[str]]:
    """Of each dimension that tells the traces' requests apart: the names to look at, the largest of either trace."""
    found: dict[str, list[str]] = {}
    for dimension in MIX:
        tops = [totals(t.scan(), dimension).collect(engine="streaming")["name"] for t in traces]
        names = list(dict.fromkeys(name for top in tops for name in top.head(TOP)))
        if len(names) > 1:
            found[dimension] = names
    return found


def metrics_of(trace: Trace) -> tuple[str, ...]:
    """The lengths, and the latencies that a trace has."""
    return (*LENGTHS, *observed(set(trace.meta.columns)))


def matrix(frame: pl.DataFrame, count: int, key: str, keys: Sequence[object], value: str) -> F8:
    """f8[count, len(keys)]: `value` of each block and key, 0 where there is none."""
    place = pl.DataFrame({key: pl.Series(keys, dtype=frame.schema[key]), "at": np.arange(len(keys))})
    joined = frame.join(place, on=key, how="inner")
    found = np.zeros((count, len(keys)))
    np.add.at(found, (joined["block"].to_numpy(), joined["at"].to_numpy()), joined[value].to_numpy())
    return found


def _value(metric: str) -> pl.Expr:
    """A whole number: tokens, or microseconds."""
    if metric in LENGTHS:
        return pl.col(metric).cast(pl.Int64)
    seconds = tpot_s() if metric == "tpot_s" else pl.col(metric)
    return (seconds * 1e6).round().cast(pl.Int64, strict=False)


def _values(rows: pl.LazyFrame, metric: str) -> pl.LazyFrame:
    least = 1 if metric in LENGTHS else 0
    return rows.filter(answered()).select("block", value=_value(metric)).filter(pl.col("value") >= least)


def _histogram(rows: pl.LazyFrame, metric: str) -> pl.LazyFrame:
    return (
        _values(rows, metric)
        .group_by("block", bucket(pl.col("value"), FINE).alias("bucket"))
        .agg(n=pl.len().cast(pl.Int64), total=pl.col("value").sum())
        .with_columns(metric=pl.lit(metric))
        .select("block", "metric", "bucket", "n", "total")
    )


def _counted(rows: pl.LazyFrame, metric: str) -> pl.LazyFrame:
    counts = _values(rows, metric).group_by("value").agg(n=pl.len().cast(pl.Int64))
    return counts.select(pl.lit(metric).alias("metric"), "value", "n")


def _joint(rows: pl.LazyFrame) -> pl.LazyFrame:
    both = rows.filter(answered(), pl.col("input_tokens") > 0, pl.col("output_tokens") > 0)
    return both.group_by(
        "block",
        bucket(pl.col("input_tokens"), COARSE).alias("in_bucket"),
        bucket(pl.col("output_tokens"), COARSE).alias("out_bucket"),
    ).agg(n=pl.len().cast(pl.Int64))


def _mix(rows: pl.LazyFrame, dimension: str, known: Sequence[str]) -> pl.LazyFrame:
    name = named(dimension)
    told = pl.when(name.is_in(pl.Series(known, dtype=pl.String).implode())).then(name).otherwise(pl.lit(OTHERS))
    return rows.group_by("block", name=told).agg(requests=pl.len().cast(pl.Int64))

"""One replay block by block: what the paired bootstrap draws again, kept as histograms and sums."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.replay.outcome import Outcome
from lmaas.replay.scores import LATENCIES, PERCENTILES
from lmaas.replay.spending import mean_counts

F8 = npt.NDArray[np.float64]

MOST_BLOCKS = 50
GROWTH = math.log(1.01)  # buckets of 1 %; within one, values are taken to be spread evenly
LEAST_S = 1e-4
BUCKETS = 2600  # up to 190 days
MOST_GROUPS = 20  # services, and tiers, with attainment of their own: those with most requests
BY = {"tier": "scored_tier", "service": "service"}  # groups of requests -> their column
QUANTILES = {f"{name}_s": tuple(p / 100 for p in PERCENTILES) for name in LATENCIES}
ATTAINMENT = "slo_attainment"


def block_edges(cut_s: float, end_s: float, window_s: float) -> F8:
    """Edges of equal blocks, each at least a window and a fiftieth of the evaluated part."""
    span = end_s - cut_s
    count = max(1, min(MOST_BLOCKS, math.floor(span / window_s + 1e-9)))
    return np.linspace(cut_s, end_s, count + 1)


@dataclass(frozen=True)
class Blocks:
    """One replay, block by block; every array's first axis is the blocks. usd None: a price is missing.

    counts: by latency the requests of each block and bucket; the GPU-hours after the last edge are the last block's.
    tokens: output of requests that attain; groups: requests and attained of `tier=NAME` and `service=NAME`. What was
    stored before these were has none.
    """

    span_s: float
    requests: F8
    attained: F8
    counts: dict[str, F8]
    gpu_hours: F8
    usd: F8 | None
    tokens: F8 | None = None
    groups: Mapping[str, tuple[F8, F8]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pl.DataFrame, outcome: Outcome, edges_s: F8) -> "Blocks":
        """Of the evaluated requests (scores.request_rows) and the replicas' lives."""
        count = len(edges_s) - 1
        at = np.searchsorted(edges_s, rows["arrival_s"].to_numpy(), side="right") - 1
        at = np.clip(at, 0, count - 1)  # a session's turns may be sent earlier or later
        latencies = {name: _histogram(at, rows[name], count) for name in QUANTILES}
        attained = rows["attained"].to_numpy()
        hours, usd = _paid(outcome, edges_s)
        return cls(
            float(edges_s[-1] - edges_s[0]),
            np.bincount(at, minlength=count).astype(float),
            np.bincount(at, weights=attained, minlength=count).astype(float),
            latencies,
            hours,
            usd,
            np.bincount(at, weights=attained * rows["output_tokens"].to_numpy(), minlength=count).astype(float),
            _groups(at, rows, attained, count),
        )

    def table(self) -> pl.DataFrame:
        """Columns STORED: what `read` makes the same blocks of."""
        count = len(self.requests)
        plain = {"span_s": np.full(count, self.span_s / count), "requests": self.requests, "attained": self.attained}
        plain |= {"gpu_hours": self.gpu_hours} | ({} if self.usd is None else {"usd": self.usd})
        plain |= {} if self.tokens is None else {"tokens": self.tokens}
        for group, (requests, attained) in self.groups.items():
            plain |= {f"requests @ {group}": requests, f"attained @ {group}": attained}
        parts = [_stored(name, np.arange(count), None, values) for name, values in plain.items()]
        for name, counts in self.counts.items():
            block, bucket = np.nonzero(counts)
            parts.append(_stored(name, block, bucket, counts[block, bucket]))
        return pl.concat(parts)

    @classmethod
    def read(cls, rows: pl.DataFrame) -> "Blocks":
        """Of one policy's rows of a stored table; ValueError where it is none."""
        by = {str(name): of.sort("block") for (name,), of in rows.group_by("metric")}
        plain = {name: of["value"].to_numpy() for name, of in by.items() if name not in QUANTILES}
        count = len(plain.get("requests", ()))
        alike = all(len(values) == count for values in plain.values())
        if not count or not alike or not {"attained", "gpu_hours", "span_s"} <= set(plain):
            raise ValueError("these are no blocks")
        counts = {name: np.zeros((count, BUCKETS)) for name in QUANTILES if name in by}
        for name, into in counts.items():
            into[by[name]["block"].to_numpy(), by[name]["bucket"].to_numpy()] = by[name]["value"].to_numpy()
        of_groups = [name.removeprefix("requests @ ") for name in plain if name.startswith("requests @ ")]
        return cls(
            float(plain["span_s"].sum()),
            plain["requests"],
            plain["attained"],
            counts,
            plain["gpu_hours"],
            plain.get("usd"),
            plain.get("tokens"),
            {group: (plain[f"requests @ {group}"], plain[f"attained @ {group}"]) for group in sorted(of_groups)},
        )

    def drawn(self, weights: F8) -> dict[str, F8]:
        """Scores of draws: weights[draw, block] is how often a block is drawn."""
        requests, attained = weights @ self.requests, weights @ self.attained
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {ATTAINMENT: attained / requests, "goodput_rps": attained / self.span_s}
            for group, (asked, met) in self.groups.items():
                found[f"{ATTAINMENT} @ {group}"] = (weights @ met) / (weights @ asked)
        if self.tokens is not None:
            found["goodput_tok_s"] = weights @ self.tokens / self.span_s
        for name, counts in self.counts.items():
            used = np.flatnonzero(counts.any(axis=0))
            ranks = QUANTILES[name]
            for rank, value in zip(ranks, quantiles(weights @ counts[:, used], used, ranks), strict=True):
                found[f"{name.removesuffix('_s')}_p{100 * rank:g}_s"] = value
        found["gpu_hours_provisioned"] = weights @ self.gpu_hours
        if self.usd is not None:
            found["cost_usd"] = weights @ self.usd
        return found


STORED = {"metric": pl.String, "block": pl.Int16, "bucket": pl.Int16, "value": pl.Float64}  # bucket: of latencies


def _stored(name: str, block: npt.NDArray[np.int64], bucket: npt.NDArray[np.int64] | None, values: F8) -> pl.DataFrame:
    buckets = [None] * len(block) if bucket is None else bucket
    columns = {"metric": [name] * len(block), "block": block, "bucket": buckets, "value": values}
    return pl.DataFrame(columns).cast(STORED)  # type: ignore[arg-type]


def _histogram(block: npt.NDArray[np.int64], values: pl.Series, count: int) -> F8:
    known = values.is_not_null().to_numpy()
    seconds = values.drop_nulls().to_numpy()
    bucket = np.clip(np.log(np.maximum(seconds, LEAST_S) / LEAST_S) / GROWTH, 0, BUCKETS - 1).astype(np.int64)
    flat = np.bincount(block[known] * BUCKETS + bucket, minlength=count * BUCKETS)
    return flat.reshape(count, BUCKETS).astype(float)


def _paid(outcome: Outcome, edges_s: F8) -> tuple[F8, F8 | None]:
    """(GPU-hours, dollars) of each block, as scores.cost_scores counts them."""
    ends = np.append(edges_s, max(edges_s[-1], outcome.end_s) + 1e-9)
    hours, usd, priced = np.zeros(len(ends) - 1), np.zeros(len(ends) - 1), True
    kinds = outcome.replicas.select("record", "gpus", "profile")
    spans = outcome.spans.filter(pl.col("state") != "donated").join(kinds, on="record", how="left")
    spans = spans.filter(pl.col("to_s") > edges_s[0])
    for (gpus, profile), of in spans.group_by("gpus", "profile", maintain_order=True):
        mine = mean_counts(of, ends) * np.diff(ends) / 3600.0 * float(gpus)  # type: ignore[arg-type]
        price = outcome.profiles[int(profile)].usd_per_gpu_hour  # type: ignore[call-overload]
        hours += mine
        usd += mine * (price or 0.0)
        priced &= price is not None
    for found in (hours, usd):
        found[-2] += found[-1]
    return hours[:-1], usd[:-1] if priced else None


def _groups(
    block: npt.NDArray[np.int64], rows: pl.DataFrame, attained: npt.NDArray[np.bool_], count: int
) -> dict[str, tuple[F8, F8]]:
    """Blocks.groups of the evaluated requests, by name."""
    found: dict[str, tuple[F8, F8]] = {}
    for key, column in BY.items():
        values = rows[column].cast(pl.String)
        names = values.value_counts().sort("count", column, descending=[True, False])[column].drop_nulls()[:MOST_GROUPS]
        code = values.replace_strict(names, range(len(names)), default=len(names), return_dtype=pl.Int64).to_numpy()
        at, shape = block * (len(names) + 1) + code, (count, len(names) + 1)
        sums = [
            np.bincount(at, weights=weights, minlength=math.prod(shape)).reshape(shape).astype(float)
            for weights in (None, attained)
        ]
        found |= {f"{key}={name}": (sums[0][:, k], sums[1][:, k]) for k, name in enumerate(names)}
    return dict(sorted(found.items()))


def quantiles(counts: F8, bucket: npt.NDArray[np.int64], ranks: Sequence[float]) -> list[F8]:
    """A rank at a time: of each row of counts by bucket (rising), s, spread evenly within its bucket; NaN of none."""
    if not len(bucket):
        return [np.full(len(counts), np.nan) for _ in ranks]
    through = counts.cumsum(axis=1)
    row, total = np.arange(len(counts)), through[:, -1]
    found = []
    for rank in ranks:
        wanted = rank * total
        at = np.minimum((through < wanted[:, None]).sum(axis=1), len(bucket) - 1)
        here = counts[row, at]
        inside = np.where(here > 0, 1 - (through[row, at] - wanted) / np.maximum(here, 1e-300), 0.0)
        found.append(np.where(total > 0, LEAST_S * np.exp(GROWTH * (bucket[at] + inside)), np.nan))
    return found

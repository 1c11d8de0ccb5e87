"""Request types: clusters of (input, output) lengths, learnt on the first part of the trace, named by what they ask.

A type is a centre; a request belongs to the nearest one (`mixture.py`), so types learnt early say what comes later.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from lmaas.analysis.trace import TraceMeta

from . import demand
from .buckets import COARSE, edges
from .inequality import F8, quantile
from .mixture import MAX_CLUSTERS, Mixture, fit

FIRST_PART = 0.5  # of the trace's time, on which types are learnt
MIN_ROWS = 100  # answered requests to learn types from; a first part with fewer takes the whole trace
BLUR = 2  # buckets of `joint` to one when learning: half an octave, a quarter of the points
MULTIPLES = (1, 2, 3, 6, 12, 24)  # so that windows of ten seconds or an hour nest in minutes or days
WINDOWS = 100  # of the mix over time; windows of `joint` are put together to about so many
APART = 1.5  # a centre so many times the median is long, so many times below it short

COLUMNS: dict[str, dict[str, str]] = {
    "types": {
        "type": "number of the type, from 0 for the shortest (by the product of its centre's lengths)",
        "name": "its lengths beside the trace's medians: above 1.5 times is long, below 1/1.5 short, else medium; "
        "'typical' where both are medium; "
        "'one type' where the lengths form one cloud",
        "requests": "answered requests with both lengths, all of the trace, whose nearest centre is this type's",
        "request_share": "of them; likewise of their input and output tokens, prefill work and KV token-seconds",
        **dict.fromkeys(("input_share", "output_share", "prefill_share", "kv_share"), ""),
        "input_centre": "tokens (geometric)",
        "output_centre": "tokens (geometric)",
        "input_p10": "tokens, within 19 %; likewise input_p90, output_p10, output_p90: where 8 of 10 lie, each alone",
        **dict.fromkeys(("input_p90", "output_p10", "output_p90"), ""),
        "fitted_share": "share of the requests that the types were learnt on: those of the first half of the time",
    },
    "type_count": {
        "types": "number of clusters tried",
        "score": "integrated completed likelihood per request (BIC less the entropy of the assignment, nats) less "
        "0.05 a type; null where a cluster held under 1 %",
        "chosen": "the highest score",
    },
    "type_mix": {
        "start_s": "start of the window, seconds since the trace's epoch",
        "length_s": "length of the window: the trace in at most 100",
        "type": "as in types",
        "name": "as in types",
        "requests": "answered requests of the type that arrived in the window; windows without any are absent",
        "request_share": "of the window's requests",
    },
    "length_cells": {
        "input_from": "tokens: the cell holds lengths from here, and below input_to; likewise for outputs",
        **dict.fromkeys(("input_to", "output_from", "output_to"), ""),
        "requests": "answered requests",
        "type": "their type",
    },
}


@dataclass(frozen=True, eq=False)
class Types:
    """Request types in order; `mixture.centres` are log2 tokens of (input, output)."""

    names: tuple[str, ...]
    mixture: Mixture
    tried: tuple[Mixture, ...]
    fitted_share: float

    def assign(self, cells: pl.DataFrame) -> pl.DataFrame:
        """`cells` (with the columns input and output: tokens, at least 1) and the `type` of each."""
        if cells.is_empty():
            return cells.with_columns(type=pl.lit(0, pl.Int64))
        return cells.with_columns(type=pl.Series(self.mixture.nearest(_points(cells)), dtype=pl.Int64))


def learn(joint: pl.DataFrame, part: float = FIRST_PART, seed: int = 0) -> Types | None:
    """The types of the first `part` of the windows of `joint`; None where it holds no request."""
    if joint.is_empty():
        return None
    low, high = int(joint["window"].min()), int(joint["window"].max())  # type: ignore[arg-type]
    first = joint.filter(pl.col("window") < low + (high - low + 1) * part)
    if first["n"].sum() < MIN_ROWS:
        first = joint
    blurred = first.with_columns(pl.col("in_bucket", "out_bucket").floordiv(BLUR))
    cells = demand.cells(blurred)
    if cells.is_empty():
        return None
    points, n = _points(cells), cells["n"].cast(pl.Float64).to_numpy()
    # a handful of requests is one type: no statistic can tell more
    best, tried = fit(points, n, seed=seed, most=MAX_CLUSTERS if n.sum() >= MIN_ROWS else 1)
    order = np.argsort(best.centres.sum(axis=1), kind="stable")
    best = Mixture(best.centres[order], best.shares[order], best.covariance, best.score)
    medians = [quantile(points[:, axis], n, 0.5) or 0.0 for axis in (0, 1)]
    return Types(names(best.centres, medians), best, tuple(tried), float(n.sum()) / float(joint["n"].sum()))


def names(centres: F8, medians: Sequence[float]) -> tuple[str, ...]:
    """A name each, beside the medians (both log2 tokens); alike ones are told apart by their centres."""
    if len(centres) == 1:
        return ("one type",)
    sizes = [[_size(c[k] - medians[k]) for k in (0, 1)] for c in centres]
    said = ["typical" if i == o == "medium" else f"{i} in, {o} out" for i, o in sizes]
    about = [" → ".join(f"{float(f'{2**x:.2g}'):,.0f}" for x in c) for c in centres]
    return tuple(f"{s} ({a})" if said.count(s) > 1 else s for s, a in zip(said, about, strict=True))


def _size(octaves: float) -> str:
    return "long" if octaves > np.log2(APART) else "short" if octaves < -np.log2(APART) else "medium"


def _points(cells: pl.DataFrame) -> F8:
    return np.asarray(np.log2(cells.select("input", "output").to_numpy()))


def tables(
    joint: pl.DataFrame, joint_s: float, found: Types | None, per: demand.Coefficients | None = None
) -> dict[str, pl.DataFrame]:
    """The tables of COLUMNS; none where there is no type."""
    if found is None:
        return {}
    whole = found.assign(demand.cells(joint, per=per))
    count = pl.DataFrame(
        {
            "types": range(1, len(found.tried) + 1),
            "score": [m.score if np.isfinite(m.score) else None for m in found.tried],
            "chosen": [len(m.centres) == len(found.names) for m in found.tried],
        },
        schema={"types": pl.Int64, "score": pl.Float64, "chosen": pl.Boolean},
    )
    return {
        "types": _described(whole, found),
        "type_count": count,
        "type_mix": _mix(*wider(joint, joint_s), found),
        "length_cells": _cells(whole),
    }


def wider(joint: pl.DataFrame, joint_s: float) -> tuple[pl.DataFrame, float]:
    """`joint` in at most WINDOWS windows of a multiple of its own, and their length in seconds."""
    if joint.is_empty():
        return joint, joint_s
    windows = joint["window"].max() - joint["window"].min() + 1  # type: ignore[operator]
    each = next((m for m in MULTIPLES if windows <= WINDOWS * m), -(-int(windows) // WINDOWS))
    return joint.with_columns(pl.col("window").floordiv(each)), joint_s * each


def _cells(whole: pl.DataFrame) -> pl.DataFrame:
    sides: dict[str, F8] = {}
    for side, name in (("in", "input"), ("out", "output")):
        low, high = edges(whole[f"{side}_bucket"].to_numpy(), COARSE)
        sides |= {f"{name}_from": low, f"{name}_to": high}
    return pl.DataFrame(sides).with_columns(requests=whole["n"].cast(pl.Int64), type=whole["type"])


def _described(whole: pl.DataFrame, found: Types) -> pl.DataFrame:
    n, kind = whole["n"].cast(pl.Float64).to_numpy(), whole["type"].to_numpy()
    totals = {
        "request_share": n,
        "input_share": whole["input_tokens"].cast(pl.Float64).to_numpy(),
        "output_share": whole["output_tokens"].cast(pl.Float64).to_numpy(),
        "prefill_share": whole["prefill_work"].to_numpy() * n,
        "kv_share": whole["kv_token_s"].to_numpy() * n,
    }
    kinds = len(found.names)
    shares = {name: np.bincount(kind, each, minlength=kinds) / each.sum() for name, each in totals.items()}
    rows = []
    for k, centre in enumerate(2**found.mixture.centres):
        part = whole.filter(type=k)
        mine = part["n"].cast(pl.Float64).to_numpy()
        ranges = {
            f"{way}_p{round(100 * q)}": quantile(part[way].to_numpy(), mine, q)
            for way in ("input", "output")
            for q in (0.1, 0.9)
        }
        rows.append(
            {"type": k, "name": found.names[k], "requests": int(mine.sum()), "fitted_share": found.fitted_share}
            | {name: float(share[k]) for name, share in shares.items()}
            | {"input_centre": float(centre[0]), "output_centre": float(centre[1])}
            | ranges
        )
    schema = {"type": pl.Int64, "name": pl.String, "requests": pl.Int64}
    return pl.DataFrame(rows, schema={c: schema.get(c, pl.Float64) for c in COLUMNS["types"]})


def _mix(joint: pl.DataFrame, joint_s: float, found: Types) -> pl.DataFrame:
    named = pl.DataFrame({"name": found.names}).with_row_index("type").cast({"type": pl.Int64})
    cells = found.assign(demand.cells(joint, "window"))
    counted = cells.group_by("window", "type").agg(requests=pl.col("n").sum().cast(pl.Int64))
    return (
        counted.select(pl.col("window").unique())
        .join(named, how="cross")
        .join(counted, on=["window", "type"], how="left")
        .with_columns(pl.col("requests").fill_null(0))
        .sort("window", "type")
        .select(
            start_s=pl.col("window") * joint_s,
            length_s=pl.lit(joint_s, pl.Float64),
            type="type",
            name="name",
            requests="requests",
            request_share=pl.col("requests") / pl.col("requests").sum().over("window"),
        )
    )


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """How many types, and the one whose share of memory differs most from its share of requests."""
    found = tables.get("types", pl.DataFrame())
    if len(found) < 2 or found["requests"].sum() < MIN_ROWS:
        return
    # of more than half of the requests most of anything is no news
    rare = found.filter(pl.col("request_share") <= 0.5)
    r = rare.sort((pl.col("kv_share") - pl.col("request_share")).abs(), descending=True).row(0, named=True)
    yield (
        f"Requests fall into {len(found)} types: '{r['name']}' (about {r['input_centre']:,.0f} tokens in, "
        f"{r['output_centre']:,.0f} out) is {_part(r['request_share'])} of the requests and holds "
        f"{_part(r['kv_share'])} of the KV memory over time."
    )


def _part(share: float) -> str:
    return "over 99%" if 0.99 < share < 1 else "under 1%" if 0 < share < 0.01 else f"{share:.0%}"

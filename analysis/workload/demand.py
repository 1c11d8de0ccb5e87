"""What a request demands of a machine: prefill work, decode iterations, KV memory over time.

From the cells of `joint`: each of a cell's requests counts as its mean, which is exact for sums of tokens and, a cell
being 19 % wide, within 0.5 % for sums of their squares and products.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from lmaas.analysis.trace import TraceMeta

from .inequality import F8, cv, gini, quantile, top_share

DEMANDS = ("prefill_work", "decode_iterations", "kv_token_s")
WORDS = {"prefill_work": "prefill work", "decode_iterations": "decode iterations", "kv_token_s": "KV memory over time"}
MIN_ROWS = 100  # below this there is no 1 in 100
UNEQUAL = 0.05  # of the demand, made by 1 % of the requests; less is not worth a sentence
CURVE = tuple(float(p) for p in np.round(np.logspace(-3, 0, 31), 6))  # shares of requests of the curve

COLUMNS: dict[str, dict[str, str]] = {
    "demand": {
        "by": "all or service",
        "name": "which of them",
        "metric": "prefill_work: linear * input + quadratic * input^2, in tokens (defaults 1 and 2e-5: attention "
        "doubles the work of 50,000 tokens); decode_iterations: output tokens; kv_token_s: (input * output + "
        "output^2 / 2) * step_s, KV tokens held times seconds (default step 0.03 s)",
        "n": "answered requests with both lengths",
        "mean": "per request",
        "cv": "standard deviation / mean of the requests' demand",
        "p50": "within about 5 %: from cells 19 % wide; likewise p90, p99",
        "p90": "",
        "p99": "",
        "top1_share": "share of the total demand made by the most demanding 1 % of the requests; top10_share: 10 %",
        "top10_share": "",
        "gini": "of demand over requests: 0 all alike, towards 1 a few make it all",
        "exact": "false: from the histogram of both lengths",
    },
    "demand_curve": {
        "metric": "as in demand, all requests",
        "request_share": "the most demanding share of the requests",
        "demand_share": "the share of the total demand that they make",
    },
}


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What a token costs, in plain numbers: no machine is meant, and shares depend only on linear : quadratic."""

    linear: float = 1.0  # work of a prompt token
    quadratic: float = 2e-5  # work of a pair of prompt tokens, relative to it; right for dense models of about 8 B
    step_s: float = 0.03  # seconds an output token takes


def cells(joint: pl.DataFrame, *keys: str, per: Coefficients | None = None) -> pl.DataFrame:
    """`joint` summed to (keys, in_bucket, out_bucket), with the mean lengths and DEMANDS of one request."""
    per = per or Coefficients()
    i, o = pl.col("input"), pl.col("output")
    return (
        joint.group_by(*keys, "in_bucket", "out_bucket")
        .agg(pl.col("n", "input_tokens", "output_tokens").sum())
        .filter(pl.col("n") > 0)
        .sort(*keys, "in_bucket", "out_bucket")
        .with_columns(
            input=pl.col("input_tokens") / pl.col("n").cast(pl.Float64),
            output=pl.col("output_tokens") / pl.col("n").cast(pl.Float64),
        )
        .with_columns(
            prefill_work=per.linear * i + per.quadratic * i**2,
            decode_iterations=o,
            kv_token_s=(i * o + o**2 / 2) * per.step_s,
        )
    )


def tables(joint: pl.DataFrame, per: Coefficients | None = None) -> dict[str, pl.DataFrame]:
    """`demand` and `demand_curve`; columns as in COLUMNS."""
    whole = cells(joint, per=per)
    parts = [("all", "all", whole)]
    services = cells(joint, "service", per=per).partition_by("service", as_dict=True)
    if len(services) > 1:
        parts += [("service", str(name), part) for (name,), part in services.items()]
    rows = [_row(by, name, part, metric) for by, name, part in parts for metric in DEMANDS if len(part)]
    text = {"by": pl.String, "name": pl.String, "metric": pl.String, "n": pl.Int64, "exact": pl.Boolean}
    schema = {c: text.get(c, pl.Float64) for c in COLUMNS["demand"]}
    return {"demand": pl.DataFrame(rows, schema=schema), "demand_curve": _curve(whole)}


def arrays(part: pl.DataFrame, metric: str) -> tuple[F8, F8]:
    """A demand per request and how many requests have it."""
    return part[metric].to_numpy(), part["n"].cast(pl.Float64).to_numpy()


def _row(by: str, name: str, part: pl.DataFrame, metric: str) -> dict[str, object]:
    values, n = arrays(part, metric)
    return {
        "by": by,
        "name": name,
        "metric": metric,
        "n": int(part["n"].sum()),
        "mean": float((values * n).sum() / n.sum()),
        "cv": cv(values, n),
        **{f"p{round(100 * q)}": quantile(values, n, q) for q in (0.5, 0.9, 0.99)},
        "top1_share": top_share(values, n, 0.01),
        "top10_share": top_share(values, n, 0.1),
        "gini": gini(values, n),
        "exact": False,
    }


def _curve(whole: pl.DataFrame) -> pl.DataFrame:
    rows = [
        {"metric": m, "request_share": p, "demand_share": top_share(*arrays(whole, m), p)}
        for m in DEMANDS
        for p in CURVE
        if whole["n"].sum() >= MIN_ROWS
    ]
    schema = {"metric": pl.String, "request_share": pl.Float64, "demand_share": pl.Float64}
    return pl.DataFrame(rows, schema=schema)


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """Where the top 1 % make the most of a demand."""
    found = tables.get("demand", pl.DataFrame())
    if found.is_empty():
        return
    said = found.filter(pl.col("n") >= MIN_ROWS, pl.col("top1_share") >= UNEQUAL, by="all")
    for r in said.sort("top1_share", descending=True).head(1).iter_rows(named=True):
        yield (
            f"1 % of the requests make {r['top1_share']:.0%} of the {WORDS[r['metric']]}, 10 % make "
            f"{r['top10_share']:.0%} (from a histogram, n = {r['n']:,})."
        )

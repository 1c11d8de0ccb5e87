"""How the length distributions end, of all requests and of the largest services, from 1 % histograms (`tailfit.py`)."""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from lmaas.analysis.trace import TraceMeta

from .buckets import NONE, edges
from .inequality import F8
from .tailfit import Tail, fit, verdict

MIN_ROWS = 1000  # of a length; fewer have no tail to speak of
SERVICES = 5  # the largest, each by itself
POINTS = 100  # of a curve, along each axis

COLUMNS: dict[str, dict[str, str]] = {
    "tails": {
        "by": "all or service",
        "name": "which of them",
        "metric": "input_tokens or output_tokens",
        "n": "answered requests that have it; fewer than 1,000 have no row",
        "threshold": "tokens: the tail begins here, where a power law fits best",
        "tail_n": "requests in the tail",
        "verdict": "'power law', 'lognormal' (falls off faster), 'either' (too few, or too short a range, to tell) or "
        "'neither' (no fit within 0.04: several limits, or a mix)",
        "exponent": "alpha of P(length >= x) ~ x^-alpha above the threshold; below 2 the variance never settles",
        "exponent_se": "its standard error",
        "power_ks": "largest distance between the shares of the tail and of the power law, 0 to 1",
        "lognormal_from": "tokens: where the lognormal begins: the median if one from there foretells the tail, else "
        "the threshold",
        "lognormal_mu": "mean of ln(tokens) of the whole bell, of which this is the end; null where the fit ran off "
        "to a power law",
        "lognormal_sigma": "likewise its standard deviation",
        "lognormal_ks": "as power_ks, of the tail",
        "log_ratio": "log likelihood, from lognormal_from on, of the lognormal less that of a power law",
        "p_value": "of log_ratio under a power law (chi-square, one degree)",
        "at_limit": "share of the tail in its last bin (1 % wide): above 0.05 a limit cuts the lengths off",
    },
    "tail_curve": {
        "by": "as in tails; likewise name, metric",
        "name": "",
        "metric": "",
        "tokens": "length",
        "share": "of the requests that are at least so long",
        "power": "what the power law says, above the threshold",
        "lognormal": "what the lognormal says, above the threshold",
    },
}


def tables(lengths: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """`tails` and `tail_curve` of the state `lengths`; columns as in COLUMNS."""
    rows, curves = [], []
    for by, name, metric, part in _histograms(lengths):
        n = part["n"].cast(pl.Float64).to_numpy()
        if n.sum() < MIN_ROWS:
            continue
        low, high = edges(part["bucket"].to_numpy())
        found = fit(low, high, n)
        key = {"by": by, "name": name, "metric": metric}
        if found is not None:
            rows.append(key | {"n": int(n.sum())} | _described(found))
            curves.append(_curve(key, low, n, found))
    text: dict[str, pl.DataType] = dict.fromkeys(("by", "name", "metric", "verdict"), pl.String())
    kinds = text | {"n": pl.Int64(), "tail_n": pl.Int64()}
    schema = {name: {c: kinds.get(c, pl.Float64()) for c in COLUMNS[name]} for name in COLUMNS}
    curve = pl.concat([pl.DataFrame(schema=schema["tail_curve"]), *curves])
    return {"tails": pl.DataFrame(rows, schema=schema["tails"]), "tail_curve": curve}


def _histograms(lengths: pl.DataFrame) -> Iterator[tuple[str, str, str, pl.DataFrame]]:
    sizes = lengths.group_by("service").agg(pl.col("n").sum()).sort(["n", "service"], descending=[True, False])
    services = sizes["service"].head(SERVICES)
    parts = [("all", "all", lengths)]
    if len(services) > 1:
        parts += [("service", str(s), lengths.filter(service=s)) for s in services]
    for by, name, part in parts:
        for metric in ("input_tokens", "output_tokens"):
            known = part.filter(pl.col("bucket") != NONE, metric=metric)
            yield by, name, metric, known.group_by("bucket").agg(pl.col("n").sum()).sort("bucket")


def _described(tail: Tail) -> dict[str, object]:
    power, lognormal = tail.distance("power"), tail.distance("lognormal")
    return {
        "threshold": tail.threshold + 0.5,
        "tail_n": int(tail.n.sum()),
        "verdict": verdict(tail),
        "exponent": tail.exponent,
        "exponent_se": tail.standard_error,
        "power_ks": power,
        "lognormal_from": tail.bell.start + 0.5,
        "lognormal_mu": tail.bell.mu,
        "lognormal_sigma": tail.bell.sigma,
        "lognormal_ks": lognormal,
        "log_ratio": tail.bell.gain,
        "p_value": tail.bell.p,
        "at_limit": float(tail.n[-1] / tail.n.sum()),
    }


def _curve(key: dict[str, str], low: F8, n: F8, tail: Tail) -> pl.DataFrame:
    """Points of the histogram and of both fits, at most 200: even in length, and in share where it falls steeply."""
    share = np.cumsum(n[::-1])[::-1] / n.sum()
    x = np.maximum(np.ceil(low - 1e-6), 1.0)
    by_length = np.searchsorted(x, np.geomspace(x[0], x[-1], POINTS)).clip(0, len(x) - 1)
    by_share = np.searchsorted(-share, -np.geomspace(share[0], share[-1], POINTS)).clip(0, len(x) - 1)
    keep = np.union1d(by_length, by_share)
    inside = x[keep] >= tail.threshold
    part = tail.n.sum() / n.sum()
    at = np.maximum(x[keep] - 0.5, tail.threshold)
    power, lognormal = (np.where(inside, part * f(at), np.nan) for f in (tail.power, tail.lognormal))
    frame = pl.DataFrame({"tokens": x[keep], "share": share[keep], "power": power, "lognormal": lognormal})
    named = frame.with_columns(pl.col("power", "lognormal").fill_nan(None), **{c: pl.lit(v) for c, v in key.items()})
    return named.select(COLUMNS["tail_curve"].keys())


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """Lengths that end in a power law: means and maxima of a sample say little of the next."""
    found = tables.get("tails", pl.DataFrame())
    if found.is_empty():
        return
    for r in found.filter(pl.col("verdict") == "power law", by="all").iter_rows(named=True):
        what = {"input_tokens": "Prompts", "output_tokens": "Answers"}[r["metric"]]
        yield (
            f"{what} of {r['threshold']:,.0f} tokens and more end in a power law (exponent {r['exponent']:.2f} "
            f"± {r['exponent_se'] or 0:.2f}, n = {r['tail_n']:,}): expect longer ones than this trace has seen."
        )

"""The tables of a comparison: what their columns mean, and a row of the first."""

import polars as pl

from .contrast import Judged, size

Row = dict[str, object]

COLUMNS = {
    "compare": {
        "measure": "what is compared; a row each, largest effect first",
        "unit": "of before and after",
        "before": "in what is compared with: the rate, the median, the p99, ...; null for a mix",
        "after": "in what is analysed",
        "change": "after / before - 1; of shares and correlations after - before",
        "effect": "how far apart on a scale of -1 to 1, above 0 where after is more; of kind",
        "kind": "delta (Cliff's), ratio ((after - before) / (after + before)), share (total variation distance) or "
        "rho (difference)",
        "size": "negligible, small, medium or large: `contrast.SIZES`",
        "low": "95 % bootstrap interval of the effect over blocks of time; likewise high",
        "high": "",
        "p": "how often blocks of time dealt out at random to both sides are as far apart",
        "beyond_noise": "whether that is too rare for chance, over all rows together (Holm, 5 %); null: not known",
        "ks": "Kolmogorov-Smirnov distance, of distributions",
        "wasserstein": "Wasserstein distance in the unit, of distributions",
        "mover": "of a mix, the group whose share changed most",
    },
    "compare_mix": {
        "by": "service, region, tier, tenant or status",
        "name": "which of them, the 20 largest of either side; the rest is '(others)'",
        "before": "share of requests; likewise after",
        "after": "",
        "change": "after - before",
    },
    "compare_values": {
        "metric": "length or observed latency, of answered rows",
        "side": "before or after",
        "n": "rows that have it",
        "p50": "tokens or seconds; with 95 % bootstrap interval over blocks of time, likewise p99",
        **dict.fromkeys(("p50_low", "p50_high", "p99", "p99_low", "p99_high"), ""),
        "exact": "percentiles of the rows; false: within 1 %. The intervals are always from histograms of 1 %",
    },
    "compare_cdf": {
        "metric": "as in compare_values",
        "share": "0 to 1",
        "before": "the value that this share of the requests stays below; likewise after",
        "after": "",
    },
}


def line(
    measure: str,
    unit: str,
    kind: str,
    judged: Judged,
    before: float | None = None,
    after: float | None = None,
    change: float | None = None,
) -> Row:
    """A row of `compare`, but for beyond_noise."""
    row: Row = dict.fromkeys(COLUMNS["compare"]) | {"measure": measure, "unit": unit, "kind": kind}
    row |= {"before": before, "after": after, "change": change, "size": size(kind, judged.effect)}
    return row | {"effect": judged.effect, "low": judged.low, "high": judged.high, "p": judged.p}


def compared(before: float, after: float) -> Row:
    """before, after and their relative change."""
    return {"before": before, "after": after, "change": after / before - 1 if before else None}


def empty(name: str) -> pl.DataFrame:
    """The table of this name without rows."""
    text = ("by", "name", "metric", "side")
    return pl.DataFrame(schema={c: pl.String if c in text else pl.Float64 for c in COLUMNS[name]})

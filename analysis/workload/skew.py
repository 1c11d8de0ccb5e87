"""How unevenly services, regions, tiers and tenants share the load, and which of them make its peaks."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from lmaas.analysis.trace import TraceMeta

from .inequality import effective, gini
from .scales import whole
from .tables import NONE, OTHERS
from .words import duration

MEASURES = ("requests", "input_tokens", "output_tokens")
PEAK_SHARE = 0.01  # of the windows: the peaks
MIN_WINDOWS = 100  # fewer have no busiest 1 %
CLEAR = 4.0  # standard errors above its usual share
LARGE_PART = 0.2  # of the load above the mean; a smaller part is not worth a sentence

COLUMNS: dict[str, dict[str, str]] = {
    "skew": {
        "by": "service, region, tier or tenant",
        "measure": "requests, input_tokens or output_tokens",
        "groups": "groups with a name; '(others)' beyond the 20 largest (200 tenants) is no group",
        "top_share": "share of the largest group, of all",
        "gini": "over the groups: 0 all alike, towards 1 one has all",
        "effective": "as many equal groups would be as concentrated (1 / sum of squared shares)",
        "others_share": "share of '(others)', of all",
    },
    "peak_makers": {
        "by": "service or tenant",
        "name": "which of them, the 20 with the largest part",
        "measure": "requests or tokens (input + output)",
        "share": "of the measure, over the whole windows",
        "peak_share": "of the measure, in the busiest 1 % of the windows, which are ranked by it",
        "excess_share": "of what those windows have above the mean window; below 0 for who sends less than usual then",
        "lift": "peak_share / share",
        "chance": "standard error of peak_share were the requests of the peaks drawn from all; null for tokens",
        "peak_windows": "how many windows that is",
        "window_s": "their length",
    },
}
SHOWN = 20  # makers of peaks


def tables(
    cube: pl.DataFrame, window_s: float, tenant_load: pl.DataFrame, tenant_s: float, first_s: float, last_s: float
) -> dict[str, pl.DataFrame]:
    """`skew` and `peak_makers`; columns as in COLUMNS."""
    rows = [r for by in ("service", "region", "tier") for r in _skew(cube, by)] + _skew(tenant_load, "tenant")
    inside = (first_s, last_s)
    makers = [*_makers(tenant_load, "tenant", tenant_s, *inside), *_makers(cube, "service", window_s, *inside)]
    return {
        "skew": pl.DataFrame(rows, schema=_schema("skew")),
        "peak_makers": pl.DataFrame(makers, schema=_schema("peak_makers")),
    }


def _schema(name: str) -> dict[str, pl.DataType]:
    text = {c: pl.String() for c in ("by", "name", "measure")}
    kinds: dict[str, pl.DataType] = {**text, "groups": pl.Int64(), "peak_windows": pl.Int64()}
    return {c: kinds.get(c, pl.Float64()) for c in COLUMNS[name]}


def _skew(load: pl.DataFrame, by: str) -> list[dict[str, object]]:
    sums = load.group_by(by).agg(pl.col(MEASURES).sum().cast(pl.Float64)).sort(by)
    named = sums.filter(~pl.col(by).is_in([OTHERS, NONE]))
    if len(named) < 2:
        return []
    rows = []
    for measure in MEASURES:
        values, total = named[measure].to_numpy(), float(sums[measure].sum())
        if total > 0 and values.sum() > 0:
            others = float(sums.filter(pl.col(by) == OTHERS)[measure].sum()) / total
            rows.append(
                {
                    "by": by,
                    "measure": measure,
                    "groups": len(named),
                    "top_share": float(values.max()) / total,
                    "gini": gini(values, np.ones(len(values))),
                    "effective": effective(values),
                    "others_share": others,
                }
            )
    return rows


def _makers(load: pl.DataFrame, by: str, window_s: float, first_s: float, last_s: float) -> list[dict[str, object]]:
    a, b = whole(window_s, first_s, last_s)
    if b - a < MIN_WINDOWS:
        return []
    known = load.filter(pl.col("window").is_between(a, b, closed="left")).select(
        "window", by, "requests", tokens=pl.col("input_tokens") + pl.col("output_tokens")
    )
    if known[by].n_unique() < 2:
        return []
    return [r for measure in ("requests", "tokens") for r in _measure(known, by, measure, b - a, window_s)]


def _measure(known: pl.DataFrame, by: str, measure: str, windows: int, window_s: float) -> list[dict[str, object]]:
    each = pl.col(measure).sum().cast(pl.Float64)
    # equal loads are ranked by time, so that the same windows are the peaks every time
    busy = known.group_by("window").agg(each).sort([measure, "window"], descending=[True, False])
    count = max(1, math.ceil(windows * PEAK_SHARE))
    peaks = busy.head(count)
    overall = known.group_by(by).agg(all=each)
    inside = known.filter(pl.col("window").is_in(peaks["window"].implode())).group_by(by).agg(peak=each)
    total, top = float(busy[measure].sum()), float(peaks[measure].sum())
    usual = total * count / windows
    if top <= usual:
        return []  # constant: no peaks
    share = pl.col("all") / total
    rows = overall.join(inside, on=by, how="left").with_columns(pl.col("peak").fill_null(0.0))
    return (
        rows.filter(pl.col("all") > 0)
        .select(
            by=pl.lit(by),
            name=by,
            measure=pl.lit(measure),
            share=share,
            peak_share=pl.col("peak") / top,
            excess_share=(pl.col("peak") - pl.col("all") * count / windows) / (top - usual),
            lift=(pl.col("peak") / top) / share,
            chance=(share * (1 - share) / top).sqrt() if measure == "requests" else pl.lit(None, pl.Float64),
            peak_windows=pl.lit(count, pl.Int64),
            window_s=pl.lit(window_s, pl.Float64),
        )
        .sort(["excess_share", "name"], descending=[True, False])
        .head(SHOWN)
        .to_dicts()
    )


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """Who makes the peaks, where one tenant does."""
    found = tables.get("peak_makers", pl.DataFrame())
    if found.is_empty():
        return
    tenants = found.filter(~pl.col("name").is_in([OTHERS, NONE]), by="tenant", measure="requests")
    clear = pl.col("peak_share") - pl.col("share") > CLEAR * pl.col("chance")
    for r in tenants.filter(pl.col("excess_share") >= LARGE_PART, clear).head(1).iter_rows(named=True):
        yield (
            f"Tenant {r['name']} makes {r['share']:.0%} of all requests, but {r['peak_share']:.0%} of those of the "
            f"busiest 1 % of the time ({r['peak_windows']} windows of {duration(r['window_s'])}): "
            f"{r['excess_share']:.0%} of what these have above the mean."
        )

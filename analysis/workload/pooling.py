"""What sharing capacity between regions, tiers or services would save: the peak of the sum against the sum of peaks."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binom

from lmaas.analysis.trace import TraceMeta

from .scales import whole
from .skew import MEASURES
from .words import duration

KEYS = ("service", "region", "tier")
MIN_WINDOWS = 10  # whole windows; the peaks of fewer say little
WORTH = 0.05  # of the capacity for the peaks, beyond chance; less is not worth a sentence
LEVELS = 64  # of the load, windows of about the same together
SHARES = 40  # of the whole, between which the peak by chance is interpolated
WORDS = {"service": "services", "region": "regions", "tier": "tiers"}

COLUMNS: dict[str, dict[str, str]] = {
    "pooling": {
        "across": "what shares capacity: region, tier or service (within the same of the other two), or all",
        "measure": "requests, input_tokens or output_tokens",
        "pools": "pools without sharing, one a (service, region, tier) that asks at all",
        "shared_pools": "pools with it",
        "sum_of_peaks": "per second: each pool's busiest window, added up",
        "peak_of_sums": "per second: each shared pool's busiest window, added up",
        "saving": "1 - peak_of_sums / sum_of_peaks: capacity for the peaks that sharing would spare. Perfect sharing, "
        "no cost of distance; independent noise alone saves some in short windows",
        "saving_p99": "the same with each pool's 99th percentile window for its peak; null below 100 windows",
        "saving_by_chance": "saving of requests if every pool were a constant share of the whole and only chance set "
        "them apart (each request dealt to a pool by its share); null for tokens, which chance sets further apart",
        "windows": "whole windows, empty ones included",
        "window_s": "their length",
    },
    "load_correlation": {
        "by": "service, region or tier",
        "a": "one of its groups",
        "b": "another",
        "correlation": "of their requests per whole window; null where one is constant",
        "windows": "whole windows, empty ones included",
        "window_s": "their length",
    },
}


def tables(cube: pl.DataFrame, window_s: float, first_s: float, last_s: float) -> dict[str, pl.DataFrame]:
    """`pooling` and `load_correlation`; columns as in COLUMNS."""
    a, b = whole(window_s, first_s, last_s)
    inside = cube.filter(pl.col("window").is_between(a, b, closed="left"))
    enough = b - a >= MIN_WINDOWS and len(inside)
    saved = _pooling(inside, b - a, window_s) if enough else []
    alike = [r for by in KEYS for r in _correlation(inside, by, a, b - a, window_s)] if enough else []
    return {
        "pooling": pl.DataFrame(saved, schema=_schema("pooling")),
        "load_correlation": pl.DataFrame(alike, schema=_schema("load_correlation")),
    }


def _schema(name: str) -> dict[str, pl.DataType]:
    kinds: dict[str, pl.DataType] = dict.fromkeys(("across", "measure", "by", "a", "b"), pl.String())
    kinds |= dict.fromkeys(("pools", "shared_pools", "windows"), pl.Int64())
    return {c: kinds.get(c, pl.Float64()) for c in COLUMNS[name]}


def _pooling(inside: pl.DataFrame, windows: int, window_s: float) -> list[dict[str, object]]:
    pools = inside.select(KEYS).unique().height
    if pools < 2:
        return []
    apart = _peaks(inside, list(KEYS), windows)
    rows: list[dict[str, object]] = []
    for across in (*KEYS, "all"):
        keep = [k for k in KEYS if k != across] if across != "all" else []
        shared = inside.select(keep).unique().height if keep else 1
        if shared == pools:
            continue  # nothing to share between
        together = _peaks(inside, keep, windows)
        for measure in MEASURES:
            (top, tail), (low, low_tail) = apart[measure], together[measure]
            if top > 0:
                rows.append(
                    {
                        "across": across,
                        "measure": measure,
                        "pools": pools,
                        "shared_pools": shared,
                        "sum_of_peaks": top / window_s,
                        "peak_of_sums": low / window_s,
                        "saving": 1 - low / top,
                        "saving_p99": 1 - low_tail / tail if tail > 0 and windows >= 100 else None,
                        "saving_by_chance": _by_chance(inside, keep, windows) if measure == "requests" else None,
                        "windows": windows,
                        "window_s": window_s,
                    }
                )
    return rows


def _by_chance(inside: pl.DataFrame, keep: list[str], windows: int) -> float:
    """The saving of pools that are constant shares of the whole, sharing between those alike in `keep`."""
    busy = inside.group_by("window").agg(pl.col("requests").sum()).sort("requests")["requests"].to_numpy()
    load = np.concatenate((np.zeros(windows - len(busy)), busy))
    apart, together = (
        inside.group_by(keys).agg(pl.col("requests").sum())["requests"].to_numpy() if keys else load.sum()[None]
        for keys in (list(KEYS), keep)
    )
    peaks = peak_by_chance(load, np.concatenate((apart, together)) / load.sum())
    return float(1 - peaks[len(apart) :].sum() / peaks[: len(apart)].sum())


def peak_by_chance(load: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Requests of the busiest window of a pool to which each of load's requests goes by a share; its median."""
    parts = [p for p in np.array_split(np.sort(load), LEVELS) if len(p)]
    level, count = np.array([round(p.mean()) for p in parts]), np.array([len(p) for p in parts])
    at = np.unique(np.geomspace(shares.min(), shares.max(), SHARES).clip(0.0, 1.0))
    low, high = np.full(len(at), -1.0), np.full(len(at), float(level.max()))
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = binom.logcdf(middle[:, None], level, at[:, None]) @ count >= np.log(0.5)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    peaks = np.interp(np.log(shares), np.log(at), np.maximum(high, 1.0))
    return np.asarray(np.where(shares >= 1, load.max(), peaks))


def _peaks(inside: pl.DataFrame, keys: list[str], windows: int) -> dict[str, tuple[float, float]]:
    """Of each measure the sums over the groups of `keys` of the busiest window and of the 99th percentile one."""
    loads = inside.group_by(*keys, "window").agg(pl.col(MEASURES).sum())
    # the percentile lies `below` places under the busiest; windows without a request are absent, and 0
    place = (windows - 1) / 100
    below, part = int(place), place % 1

    def at(measure: str, k: int) -> pl.Expr:
        return pl.col(measure).sort(descending=True).slice(k, 1).first().fill_null(0).cast(pl.Float64)

    tops = [pl.col(m).max().alias(f"{m} top") for m in MEASURES]
    tails = [((1 - part) * at(m, below) + part * at(m, below + 1)).alias(f"{m} tail") for m in MEASURES]
    groups = loads.group_by(*keys).agg(*tops, *tails).sort(*keys) if keys else loads.select(*tops, *tails)
    return {m: (float(groups[f"{m} top"].sum()), float(groups[f"{m} tail"].sum())) for m in MEASURES}


def _correlation(inside: pl.DataFrame, by: str, a: int, windows: int, window_s: float) -> list[dict[str, object]]:
    loads = inside.group_by(by, "window").agg(pl.col("requests").sum()).sort(by, "window")
    parts = loads.partition_by(by, as_dict=True)
    if len(parts) < 2:
        return []
    grid = np.zeros((len(parts), windows))
    for row, part in zip(grid, parts.values(), strict=True):
        row[part["window"].to_numpy() - a] = part["requests"].to_numpy()
    away = grid - grid.mean(axis=1, keepdims=True)
    size = np.sqrt((away**2).sum(axis=1))
    names = [str(name) for (name,) in parts]
    rows: list[dict[str, object]] = []
    for i, j in combinations(range(len(names)), 2):
        both = size[i] * size[j]
        r = float(np.clip(away[i] @ away[j] / both, -1, 1)) if both > 0 else None
        rows.append(
            {"by": by, "a": names[i], "b": names[j], "correlation": r, "windows": windows, "window_s": window_s}
        )
    return rows


def best(found: pl.DataFrame) -> dict[str, Any] | None:
    """The sharing along one dimension that spares the most beyond chance; None where there is none to try.

    across, window_s, pools, shared_pools, saving (of requests, input and output tokens the least: whichever binds a
    fleet, at least so much is saved), saving_by_chance, beyond_chance (their difference, at least 0).
    """
    known = found.filter(pl.col("across") != "all", pl.col("pools") > pl.col("shared_pools"))
    if known.is_empty():
        return None
    chance = pl.col("saving_by_chance").max().fill_null(0.0)
    least = known.group_by("across", maintain_order=True).agg(
        pl.col("saving").min(), chance, pl.col("window_s", "pools", "shared_pools").first()
    )
    beyond = (pl.col("saving") - pl.col("saving_by_chance")).clip(lower_bound=0.0)
    return least.with_columns(beyond_chance=beyond).sort("beyond_chance", descending=True).row(0, named=True)


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """The sharing that would spare the most capacity, where it spares more than chance does."""
    found = tables.get("pooling", pl.DataFrame())
    r = best(found) if found.height else None
    if r is not None and r["beyond_chance"] >= WORTH:
        yield (
            f"Sharing capacity across {WORDS[r['across']]} would spare at least {r['saving']:.0%} of what their "
            f"separate peaks need, of requests as of tokens (windows of {duration(r['window_s'])}, {r['pools']} pools "
            f"made {r['shared_pools']}); chance alone would spare {r['saving_by_chance']:.0%}."
        )

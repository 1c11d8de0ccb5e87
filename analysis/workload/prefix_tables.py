"""Counts of `prefix.Reuse` as tables: shares of prompt tokens, with errors where blocks were drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .words import duration

if TYPE_CHECKING:
    from lmaas.analysis.trace import TraceMeta

    from .prefix import Reuse

KEPT_S = tuple(
    map(float, (1, 3, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800, 604_800))
)
QUANTILES = {"p50_s": 0.5, "p90_s": 0.9, "p95_s": 0.95, "p99_s": 0.99}
WORTH = 0.01  # share of prompt tokens; of less, how a cache would get it is not worth a sentence
MOST = 0.9  # of what repeats
LEAST_PLACES = 32  # of a cache within a sample: of a smaller one it says little
COLUMNS: dict[str, dict[str, str]] = {
    "prefix": {
        "by": "all or service; each service has a cache of its own",
        "name": "which of them, the largest 20 by requests, then '(others)'",
        "requests": "rows with block hashes looked at, in arrival order (at most the first 50 million rows of a trace)",
        "blocks": "their blocks",
        "hit_blocks": "those in the longest run of leading blocks that earlier requests of the service had",
        "block_reuse": "hit_blocks / blocks",
        "input_tokens": "their prompt tokens",
        "hit_tokens": "prompt tokens a cache of unlimited size would save: whole blocks short of the last token",
        "reuse": "hit_tokens / input_tokens",
        "reuse_se": "standard error of reuse where blocks were drawn, else null",
        "session_hit_tokens": "of hit_tokens, those that a cache of the request's own session alone would save; a "
        "request without a session has none; null where the trace has no sessions",
        "session_reuse": "session_hit_tokens / input_tokens",
        "across_reuse": "reuse - session_reuse: what only sharing between sessions saves",
        "distinct_tokens": "tokens of the distinct whole blocks: what a cache of unlimited size holds in the end",
        "looked_at": "share of the distinct blocks that was drawn, by their hashes, to stand for all; 1: all, exact",
        "read_share": "share of the trace's rows looked at, the first ones; below 1 beyond 50 million rows",
    },
    "prefix_sizes": {
        "by": "all or service",
        "name": "which of them",
        "cache_tokens": "size of each service's cache; for all, a ladder of sizes up to the one that saves everything",
        "cache_blocks": "whole blocks it holds, the least recently used going first, of a prompt the deepest",
        "hit_tokens": "prompt tokens it would save; counted in one pass for all sizes, not simulated size by size",
        "reuse": "hit_tokens / input_tokens",
        "reuse_se": "standard error of reuse where blocks were drawn, that of places included, else null",
        "of_unlimited": "reuse / that of a cache of unlimited size; null where that is 0",
    },
    "prefix_kept": {
        "by": "all or service",
        "name": "which of them",
        "kept_s": "how long blocks are kept after their last use, seconds, the cache's size being unlimited",
        "hit_tokens": "prompt tokens it would save",
        "reuse": "hit_tokens / input_tokens",
        "reuse_se": "standard error of reuse where blocks were drawn, else null",
        "of_unlimited": "reuse / that of a cache that keeps everything; null where that is 0",
    },
    "prefix_intervals": {
        "by": "all or service",
        "name": "which of them",
        "n": "blocks found by an unlimited cache that save tokens",
        "p50_s": "seconds since a block's last use, over these; likewise p90, p95, p99",
        **dict.fromkeys(("p90_s", "p95_s", "p99_s"), ""),
        "exact": "false: from a histogram, within 1 %",
    },
}
INTEGERS = ("requests", "blocks", "n", "cache_blocks", "cache_tokens", "input_tokens", "distinct_tokens")
TEXT = ("by", "name")


def tables(reuse: Reuse, quantum_s: float, read_share: float) -> dict[str, pl.DataFrame]:
    """Tables prefix, prefix_sizes, prefix_kept and prefix_intervals; columns as in COLUMNS."""
    groups = list(_groups(reuse))
    curves = groups if len(groups) > 2 else groups[:1]  # a single service would repeat `all`
    rows: dict[str, list[dict[str, Any]]] = {
        "prefix": [_whole(g) | {"read_share": read_share} for g in groups],
        "prefix_sizes": [r for g in curves for r in _sizes(g)],
        "prefix_kept": [r for g in curves for r in _kept(g, quantum_s)],
        "prefix_intervals": [r for g in curves for r in _intervals(g)],
    }
    return {name: pl.DataFrame(found, schema=_schema(name)) for name, found in rows.items()}


def _schema(name: str) -> dict[str, Any]:
    kinds: dict[str, Any] = dict.fromkeys(TEXT, pl.String) | dict.fromkeys(INTEGERS, pl.Int64) | {"exact": pl.Boolean}
    kinds |= dict.fromkeys(("hit_blocks", "hit_tokens", "session_hit_tokens"), pl.Int64)
    return {c: kinds.get(c, pl.Float64) for c in COLUMNS[name]}


@dataclass(frozen=True)
class _Group:
    """One service, those beyond the largest together, or all; counts of blocks are those of the sample."""

    by: str
    name: str
    counts: dict[str, int]  # requests, blocks, input_tokens, able, held
    missing: np.ndarray  # by sub-sample, as are the rest
    new: np.ndarray
    alone: np.ndarray | None
    within: np.ndarray
    aged: np.ndarray
    reuse: Reuse

    def saved(self, misses: np.ndarray) -> dict[str, Any]:
        """hit_tokens, reuse and reuse_se of the blocks that could hit without these (by sub-sample).

        By misses, since these are of many blocks: a few that all prompts share would make a sample's hits a lottery.
        """
        share, tokens = self.reuse.share, self.reuse.block_size
        hits = max(self.counts["able"] - misses.sum() / share, 0.0) * tokens
        all_tokens = self.counts["input_tokens"]
        error = None
        if share < 1:
            error = float(np.sqrt(len(misses) * misses.var(ddof=1) * (1 - share)) / share * tokens / all_tokens)
        return {"hit_tokens": round(hits), "reuse": hits / all_tokens, "reuse_se": error}


def _groups(reuse: Reuse) -> Iterator[_Group]:
    held = np.bincount(np.minimum(np.arange(len(reuse.held)), len(reuse.names) - 1), reuse.held, len(reuse.names))
    parts = [("all", "all", slice(None))]
    parts += [("service", name, slice(i, i + 1)) for i, name in enumerate(reuse.names) if reuse.requests[i]]
    for by, name, at in parts:
        counts = {
            "requests": reuse.requests[at].sum(),
            "blocks": reuse.blocks[at].sum(),
            "input_tokens": reuse.input_tokens[at].sum(),
            "able": reuse.able[at].sum(),
            "held": held[at].sum(),
        }
        blocks = (reuse.missing, reuse.new, reuse.alone, reuse.within, reuse.aged)
        missing, new, alone, within, aged = (count[at].sum(axis=0) for count in blocks)
        counts = {k: int(v) for k, v in counts.items()}
        yield _Group(by, name, counts, missing, new, alone if reuse.has_sessions else None, within, aged, reuse)


def _whole(g: _Group) -> dict[str, Any]:
    share, tokens = g.reuse.share, g.reuse.block_size
    hit_blocks = max(g.counts["blocks"] - g.missing.sum() / share, 0.0)
    saved = g.saved(g.new)
    own = None if g.alone is None else g.saved(g.alone)
    return {
        "by": g.by,
        "name": g.name,
        **{c: g.counts[c] for c in ("requests", "blocks", "input_tokens")},
        "hit_blocks": round(hit_blocks),
        "block_reuse": hit_blocks / g.counts["blocks"],
        **saved,
        "session_hit_tokens": own["hit_tokens"] if own else None,
        "session_reuse": own["reuse"] if own else None,
        # never below 0: a sample's hits and those within sessions are counted of the same blocks
        "across_reuse": saved["reuse"] - own["reuse"] if own else None,
        "distinct_tokens": round(g.counts["held"] / share * tokens),
        "looked_at": share,
    }


def _sizes(g: _Group) -> Iterator[dict[str, Any]]:
    reuse = g.reuse
    unlimited = g.saved(g.new)["reuse"]
    for k, tokens in enumerate(reuse.tokens):
        asked = int(tokens) in reuse.cache_tokens
        if (reuse.share < 1 and reuse.sizes[k] < LEAST_PLACES) or not (asked or g.by == "all"):
            continue
        left = g.within[:, k + 1 :].sum(axis=1)
        saved = g.saved(g.new + left)
        if saved["reuse_se"] is not None:
            saved["reuse_se"] = float(np.hypot(saved["reuse_se"], _place_error(g, int(tokens))))
        yield {
            "by": g.by,
            "name": g.name,
            "cache_tokens": int(tokens),
            "cache_blocks": int(tokens) // reuse.block_size,
            **saved,
            "of_unlimited": saved["reuse"] / unlimited if unlimited > 0 else None,
        }
        if not left.any() and tokens >= reuse.cache_tokens[-1]:
            return


def _place_error(g: _Group, tokens: int) -> float:
    """What not knowing the size that a place in the sample stands for adds to the error of `reuse`, at most.

    Of the blocks above, a share is drawn: a binomial count. Its error moves along the curve, as if at all times alike.
    """
    reuse = g.reuse
    known = reuse.tokens >= reuse.block_size
    hits = np.cumsum(g.within.sum(axis=0)[:-1])[known]
    curve = hits / reuse.share * reuse.block_size / g.counts["input_tokens"]
    at, here, half = np.log(reuse.tokens[known].astype(float)), np.log(tokens), np.log(2) / 2
    low, high = np.interp([here - half, here + half], at, curve)
    off = np.sqrt((1 - reuse.share) / (reuse.share * (tokens / reuse.block_size)))
    return float((high - low) / (2 * half) * off)


def _kept(g: _Group, quantum_s: float) -> Iterator[dict[str, Any]]:
    unlimited = g.saved(g.new)["reuse"]
    for kept_s in (s for s in KEPT_S if s >= quantum_s):
        k = int(np.searchsorted(g.reuse.ages, kept_s))
        left = g.aged[:, k + 1 :].sum(axis=1)
        saved = g.saved(g.new + left)
        of_unlimited = saved["reuse"] / unlimited if unlimited > 0 else None
        yield {"by": g.by, "name": g.name, "kept_s": kept_s, **saved, "of_unlimited": of_unlimited}
        if not left.any():
            return


def _intervals(g: _Group) -> Iterator[dict[str, Any]]:
    counts = g.aged.sum(axis=0)
    if not counts.any():
        return
    upper, below = g.reuse.ages[:-1], np.concatenate([[0.0], g.reuse.ages[:-2]])
    middle = np.append(np.sqrt(upper * below), np.inf)
    middle[1] = upper[1]
    through, last = np.cumsum(counts), counts.sum() - 1
    values = {p: float(middle[np.searchsorted(through, round(q * last), "right")]) for p, q in QUANTILES.items()}
    yield {"by": g.by, "name": g.name, "n": round((last + 1) / g.reuse.share), **values, "exact": False}


def findings(tables: Mapping[str, pl.DataFrame], meta: TraceMeta) -> Iterator[str]:
    """How much repeats, how large a cache it takes, for how long, and whether sessions share it."""
    if "prefix" not in tables:
        return
    whole = tables["prefix"].filter(by="all").row(0, named=True)
    read = f"{100 * whole['read_share']:.3g}%"
    first = "" if whole["read_share"] == 1 else f", in the first {read} of the requests"
    error = "" if whole["reuse_se"] is None else f", ± {100 * whole['reuse_se']:.2g} points, from a sample of blocks"
    yield (
        f"{whole['block_reuse']:.1%} of the prompt blocks repeat a prefix seen before: an unlimited prefix cache "
        f"would save {whole['reuse']:.1%} of the prompt tokens (n = {whole['requests']:,}{first}{error})."
    )
    if whole["reuse"] < WORTH:
        return
    enough = tables["prefix_sizes"].filter(pl.col("of_unlimited") >= MOST, by="all").head(1)
    several = len(tables["prefix"]) > 2
    for tokens in enough["cache_tokens"]:
        each = " for each service" if several else ""
        yield (
            f"{MOST:.0%} of that take a cache of {tokens / 1e6:.3g} million tokens{each} that drops the least recently "
            "used first."
        )
    for p50_s, p90_s in tables["prefix_intervals"].filter(by="all").select("p50_s", "p90_s").iter_rows():
        if p50_s >= meta.quantum_s:
            yield (
                f"Half of the repeated blocks were last used within {duration(p50_s)}, one in ten more than "
                f"{duration(p90_s)} before."
            )
    if whole["session_reuse"] is not None:
        yield (
            f"A cache of the request's own session alone would save {whole['session_reuse']:.1%} of the prompt tokens; "
            f"sharing between sessions adds {100 * whole['across_reuse']:.1f} points."
        )

"""Prepared rows as the arrays the replay takes, each column only where the fleet or the trace makes use of it."""

import numpy as np
import polars as pl

from lmaas.analysis.trace import TIERS
from lmaas.replay.fleet import PROMOTED, Fleet
from lmaas.replay.prefixes import Prefixes, hashed
from lmaas.replay.requests import Requests

from .sessions import Chains

_TIER = {name: number for number, name in enumerate(TIERS)}


def requests_of(
    rows: pl.DataFrame,
    predicted: np.ndarray,
    fleet: Fleet,
    chains: Chains | None = None,
    prefixes: Prefixes | None = None,
) -> Requests:
    """The replayed rows (Prepared.requests) as arrays; chains: of closed sessions; prefixes: packed, of these rows."""
    column = {f: rows[f].to_numpy().astype(np.int64) for f in ("pool", "input_tokens", "output_tokens", "kind")}
    return Requests(
        rows["arrival_s"].to_numpy(),
        column["pool"],
        column["input_tokens"],
        column["output_tokens"],
        predicted,
        column["kind"],
        tier=rows["scored_tier"].replace_strict(_TIER, return_dtype=pl.Int64).to_numpy(),
        rank=ranks(rows, fleet),
        held=rows["tier"].is_in(fleet.hold.tiers).fill_null(False).to_numpy() if fleet.hold else None,
        origin=_origins(rows, fleet),
        session=rows["session"].to_numpy() if "session" in rows.columns else None,
        follow=None if chains is None else chains.follow,
        think_s=None if chains is None else chains.think_s,
        deadline_s=rows["deadline_s"].fill_null(np.nan).to_numpy() if "deadline_s" in rows.columns else None,
        **hashed(prefixes),
    )


def ranks(rows: pl.DataFrame, fleet: Fleet) -> np.ndarray | None:
    """f8, lower first: priority, deadline (s of the trace), tier, or promotion; one without goes last. None: receipt.

    A deadline is the arrival plus deadline_s, else plus the tier's limit on completion, else plus that on the first
    token. promotion: when a request becomes urgent: interactive-fast at once, others at PROMOTED of the way to their
    deadline. Nothing here is known later than at the arrival.
    """
    if fleet.order == "fcfs" or (fleet.order == "priority" and "priority" not in rows.columns):
        return None
    if fleet.order == "priority":
        value = pl.col("priority")
    elif fleet.order == "tier":
        value = pl.col("scored_tier").replace_strict(_TIER, return_dtype=pl.Int64)
    else:
        limits = [pl.when(pl.col(f"limit_{m}_s").is_finite()).then(f"limit_{m}_s") for m in ("e2e", "ttft")]
        given = [pl.col("deadline_s").fill_nan(None)] if "deadline_s" in rows.columns else []
        value = pl.col("arrival_s") + pl.coalesce(*given, *limits)
        if fleet.order == "promotion":
            urgent = pl.col("arrival_s") + PROMOTED * (value - pl.col("arrival_s"))
            value = pl.when(pl.col("scored_tier") == TIERS[0]).then("arrival_s").otherwise(urgent)
    ranked = rows.select(rank=value.cast(pl.Float64).fill_nan(None).fill_null(np.inf))
    return ranked["rank"].to_numpy()


def _origins(rows: pl.DataFrame, fleet: Fleet) -> np.ndarray | None:
    """i8, row of the fleet's regions; None where there is no region to choose."""
    chooses = len(fleet.regions) > 1 and (
        fleet.region_choice.rule != "home"
        or any(any(row) for row in fleet.latency_s)
        or any(fault.region is not None for fault in fleet.faults)
        or any(fleet.pools[p].region != o for p, o in rows.select("pool", "origin").unique().iter_rows())
    )
    numbers = {region: k for k, region in enumerate(fleet.regions)}
    return rows["origin"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy() if chooses else None

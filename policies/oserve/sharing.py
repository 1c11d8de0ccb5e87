"""Tables of the routers that take shares: rows kinds of request, columns profiles of the replay."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lmaas.replay.routernames import find_router, short_name
from lmaas.replay.routers import Router

LEAST = "weighted-least"
WEIGHTED = ("weighted", LEAST)  # routers that have shares to be set


def by_profile(
    rows: Sequence[Sequence[float]] | np.ndarray, names: Sequence[str], profiles: Sequence[str]
) -> list[list[float]]:
    """Rows with the profiles of the replay for columns, of rows with `names` for columns; 0 for others."""
    at = [names.index(name) if name in names else -1 for name in profiles]
    return [[float(row[k]) if k >= 0 else 0.0 for k in at] for row in rows]


def shared(name: str, weights: list[list[float]] | None, rates: list[list[float]]) -> str | Router:
    """The router with these tables, as far as it has them: shares (None: yet to come), and what replicas serve."""
    given = {"weights": weights if weights is not None and any(map(any, weights)) else None}
    given["rates"] = rates if any(map(any, rates)) else None
    router = find_router(name)
    tables = {key: table for key, table in given.items() if table is not None and key in router.params}
    return replace(router, params={**router.params, **tables}) if tables else name


def takes_shares(name: str) -> bool:
    """Whether the router has shares to be set."""
    return short_name(name) in WEIGHTED

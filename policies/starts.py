"""What a policy begins with: its own size or the common one, within the GPUs of the regions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.fleet import Fleet, within_inventory
from lmaas.replay.fleetcheck import check_start

from .planning import common_start, own_counts, peak_actions
from .prepare import Prepared
from .registry import Named
from .static import MOST, Static


def starting_counts(policy: Any, state: Any, forecasts: pl.DataFrame | None, ready: Prepared) -> tuple[list[int], int]:
    """(replicas a pool to begin with, how many more were wanted than the regions' GPUs hold).

    ValueError where the policy answers with anything but a whole number from 0 a pool.
    """
    wanted = policy.initial(ready.fleet, ready.history, state)
    if wanted is None and policy.instant_start and forecasts is not None:
        wanted = _first_window(policy, state, forecasts, ready)
    if wanted is None:
        wanted = common_start(ready.fleet, ready.history)
    counts = _whole(wanted, ready.fleet)
    held = within_inventory(ready.fleet, counts)
    return list(held), sum(counts) - sum(held)


def check_starts(policies: Sequence[Named], ready: Prepared) -> None:
    """UserError (exit 5) before anything runs: a size asked for that the GPUs do not hold, no replica and never one."""
    for named in policies:
        policy = named.policy
        if any(hasattr(policy, name) for name in ("plan", "plan_all", "react")):
            continue
        try:
            counts, _ = starting_counts(policy, policy.start(ready.fleet, ready.history), None, ready)
            if isinstance(policy, Static):
                counts = [policy.replicas] * len(ready.fleet.pools)
            check_start(ready.fleet, counts, scales=False)
        except UserError as error:
            raise UserError(f"policy '{named.name}': {error}", Exit.CONFIG) from None
        except Exception:
            continue  # the policy's own fault: it ends that policy when its turn comes


def _first_window(policy: Any, state: Any, forecasts: pl.DataFrame, ready: Prepared) -> list[int]:
    """A policy whose replicas start at once begins at its own size: that of its first window."""
    plan = policy.plan_all(forecasts, state)
    counts = peak_actions(plan.filter(pl.col("start_s") == pl.col("start_s").min()), ready.fleet).replicas
    return own_counts(ready.fleet, [counts.get(p, pool.minimum) for p, pool in enumerate(ready.fleet.pools)])


def _whole(wanted: Any, fleet: Fleet) -> list[int]:
    """The counts, checked."""
    try:
        counts = np.asarray(wanted, np.float64)
    except (TypeError, ValueError):
        counts = np.full(1, np.nan)
    fine = np.isfinite(counts) & (counts >= 0) & (counts <= MOST) & (counts == np.floor(counts))
    if counts.shape != (len(fleet.pools),) or not fine.all():
        needs = f"needs a whole number from 0 to {MOST:,} for each of {len(fleet.pools)} pools"
        raise ValueError(f"begins with {str(wanted)[:60]}: {needs}")
    return [int(n) for n in counts]

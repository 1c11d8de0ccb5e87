"""Replays under other seeds: other start-up times, other random routing, arrivals a moment earlier or later."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.errors import UserError
from lmaas.replay.conservation import ConservationError

from ..differences import BETTER
from ..equal import Beside
from ..inputs import Inputs, Varied
from ..load import drawn_by_session
from ..paired import attainments
from ..prepare import Prepared
from ..registry import Named
from ..runner import Run, run_policy
from .bench import Bench
from .crew import Crew
from .kept import Found, known

SEEDS = 3  # of an evaluation in depth
MOST_SEEDS = 100
JITTER_S = 0.5  # either way: bursts of under a second are flattened, nothing longer
SCORES: dict[str, Any] = {
    "policy": pl.String,  # of static fleets the label of Beside.run
    "seed": pl.Int64,
    **dict.fromkeys(BETTER, pl.Float64),
    "why": pl.String,  # why it could not be replayed
}


@dataclass(frozen=True, eq=False)
class Seeded:
    """One policy under one other seed: its scores, or {"why": no replay}."""

    named: Named
    seed: int

    def __call__(self, bench: Bench) -> Found:
        """The replay, or what is kept of it."""
        return bench.once(self.asked, lambda: scored(self.named, *seeded(*bench.base, self.seed)))

    @property
    def asked(self) -> dict[str, Any] | None:
        """What determines it."""
        whose = known(self.named)
        return whose and {**whose, "seed": self.seed, "scored": "all"}


def scored(named: Named, ready: Prepared, inputs: Inputs) -> Found:
    """The scores of one replay, or why there are none."""
    try:
        run = run_policy(named, ready, inputs, lambda share: None)
    except (UserError, ConservationError):  # none of the policy's
        raise
    except Exception as error:
        return {"why": f"the replay failed: {error}"}
    return _scores(run)


def _scores(run: Run) -> Found:
    """Those of BETTER, and attainment by tier and service (differences.DIFFERENCES)."""
    found = {name: None if run.scores[name] is None else float(run.scores[name]) for name in BETTER}
    return found | (attainments(run.blocks) if run.blocks else {})


def seeded(ready: Prepared, inputs: Inputs, seed: int) -> tuple[Prepared, Inputs]:
    """What is replayed under a seed: what was learned and forecast from the trace as it is stays."""
    other = replace(ready, requests=jittered(ready.requests, ready.cut_s, ready.end_s, seed), seed=seed)
    return other, Varied(other, inputs)


def jittered(requests: pl.DataFrame, cut_s: float, end_s: float, seed: int) -> pl.DataFrame:
    """Arrivals of the evaluated part up to JITTER_S earlier or later, evenly drawn, a session's all alike.

    Reflected at the cut and at the end, so that none leaves the part it is in; sorted by arrival.
    """
    rng = np.random.default_rng([seed, 5])
    drawn = drawn_by_session(requests, rng.random(requests.height), [seed, 5, 0])
    arrival_s = requests["arrival_s"].to_numpy()
    moved = cut_s + np.abs(arrival_s + JITTER_S * (2 * drawn - 1) - cut_s)
    moved = np.clip(end_s - np.abs(end_s - moved), cut_s, end_s)
    moved = np.where(arrival_s >= cut_s, moved, arrival_s)
    other = requests.with_columns(
        arrival_s=pl.Series(moved), done_s=pl.col("done_s") + pl.Series(moved) - pl.col("arrival_s")
    )
    return other.sort("arrival_s", maintain_order=True)


def tasks_of(named: Sequence[Named], beside: Sequence[Beside], seed: int, seeds: int) -> list[Seeded]:
    """Every policy and static fleet under every seed but the evaluation's own."""
    fleets = {one.run.name: Named(one.run.name, one.held, one.held.router) for one in beside}
    return [Seeded(one, seed + k) for one in (*named, *fleets.values()) for k in range(1, seeds)]


def by_seed(
    tasks: Sequence[Seeded], runs: Sequence[Run], seed: int, crew: Crew, say: Callable[[float], None]
) -> pl.DataFrame:
    """Columns SCORES and attainment by tier and service: of every seed, the evaluation's own first."""
    rows = [{"policy": run.name, "seed": seed, **_scores(run)} for run in runs]
    for task, found in zip(tasks, crew.each(tasks, say), strict=True):
        rows.append({"policy": task.named.name, "seed": task.seed, **found})
    groups = dict.fromkeys(sorted({name for row in rows for name in row} - SCORES.keys()), pl.Float64)
    schema = {**SCORES, **groups}
    table = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema, orient="row")
    order = {run.name: k for k, run in enumerate(runs)}
    return table.sort(pl.col("policy").replace_strict(order, return_dtype=pl.Int64), "seed")

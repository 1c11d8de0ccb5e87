"""One policy on prepared requests: its start, its control ticks, its replay, its scores."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.windows import demand
from lmaas.replay.engine import NEVER, Controller, Replay
from lmaas.replay.protocol import Actions, Seen
from lmaas.replay.scores import group_scores, histogram, request_rows, request_scores
from lmaas.replay.spending import cost_scores, mean_gpus, timeline, within

from .blocks import Blocks, block_edges
from .brought import plain, said, suited
from .guard import both, checked_plan, guarded
from .handover import requests_of
from .inputs import Inputs
from .planning import counts_by_start
from .prepare import Prepared
from .reacting import Timetable, anticipation_of, reacts, told
from .registry import Named
from .restarts import restart_times, restarting, unbounded
from .starts import starting_counts
from .told import TRUE, errors_of
from .typed import widened
from .whatif import AS_IT_WAS, BALANCED, WhatIf


@dataclass(frozen=True)
class Run:
    """A policy's scores and tables (replay.scores, .spending); rows: the evaluated requests, without the warm-up.

    staying: requests of the warm-up that still ran or waited as the evaluated part began, with the columns of rows.
    They fill caches and queues of its first windows, and are in no score.
    """

    name: str
    foresight: bool
    scores: dict[str, Any]
    rows: pl.DataFrame
    groups: pl.DataFrame
    timeline: pl.DataFrame
    forecasts: pl.DataFrame
    histogram: pl.DataFrame
    sets: dict[str, Any] = field(default_factory=dict)  # of a fleet file's fields, by this policy
    notes: tuple[str, ...] = ()
    gpus: dict[tuple[str, str, str], float] = field(default_factory=dict)  # mean provisioned by pool (scores.mean_gpus)
    blocks: Blocks | None = None  # of time, to tell differences from chance; None: nothing was replayed
    spans: pl.DataFrame | None = None  # Outcome.spans
    staying: pl.DataFrame = field(default_factory=pl.DataFrame)


def _planner(policy: Any, state: Any, forecasts: pl.DataFrame, ready: Prepared) -> Controller:
    """Plans at the policy's decision times and at restarts; from `plan_all`, which equals `plan` (tested)."""
    windows_s, faults_s = np.unique(forecasts["start_s"].to_numpy()), restart_times(ready.fleet, ready.start_s)
    times = policy.decisions(windows_s, state)
    # a decision due as the replay begins is made right after: ticks come after the beginning
    first_s = np.nextafter(ready.start_s, np.inf)
    due = np.maximum(times[times >= ready.start_s], first_s)
    times = np.union1d(due, faults_s)
    fresh = set(np.maximum(windows_s, first_s).tolist()) | set(faults_s.tolist())
    table = checked_plan(policy.plan_all(forecasts, state))

    def after(t: float) -> float:
        at = np.searchsorted(times, t, side="right")
        return float(times[at]) if at < len(times) else np.inf

    @cache  # at the first tick: its mistakes are said with a time
    def timetable() -> Timetable:
        return Timetable(*counts_by_start(table, ready.fleet), state.lead_s, ready.window_s)

    def act(t: float, seen: Seen) -> Actions:
        return told(policy, state, timetable(), t, seen, fresh=t in fresh)

    return Controller(after, act)


def _stepper(policy: Any, state: Any, forecasts: pl.DataFrame, ready: Prepared) -> Controller:
    """Plans step by step on what it sees, at the policy's decision times and at restarts."""
    times = policy.decisions(np.unique(forecasts["start_s"].to_numpy()), state)
    times = np.union1d(times[times >= ready.start_s], restart_times(ready.fleet, ready.start_s))

    def after(t: float) -> float:
        at = np.searchsorted(times, t, side="right")
        return float(times[at]) if at < len(times) else np.inf

    def act(t: float, seen: Seen) -> Actions:
        known = forecasts.filter(pl.col("issued_s") <= t)  # what is issued later is not there yet
        actions: Actions = policy.plan(t, known, seen, state)
        return actions

    return Controller(after, act)


MOST_TICKS = 5_000_000  # about ten minutes of looking; a year has two million of 15 s


def _reactor(policy: Any, state: Any, ready: Prepared) -> Controller:
    """Reacts every control_s from the start of the replay."""
    if not policy.control_s > 0:
        raise ValueError(f"control_s is {policy.control_s}; a time above 0 s")
    if (ready.end_s - ready.start_s) / policy.control_s > MOST_TICKS:
        raise ValueError(
            f"{ready.end_s - ready.start_s:,.0f} s are over {MOST_TICKS:,} ticks of {policy.control_s:g} s"
        )

    def after(t: float) -> float:
        ticks = np.floor((t - ready.start_s) / policy.control_s + 1e-9)
        return float(ready.start_s + (ticks + 1) * policy.control_s)

    return Controller(after, lambda t, seen: policy.react(t, seen, state))


def _controller(policy: Any, state: Any, forecasts: pl.DataFrame | None, ready: Prepared) -> Controller:
    parts = []
    if hasattr(policy, "plan_all") and forecasts is not None:
        parts.append(_planner(policy, state, forecasts, ready))
    elif hasattr(policy, "plan") and forecasts is not None:
        parts.append(_stepper(policy, state, forecasts, ready))
    if reacts(policy):
        parts.append(_reactor(policy, state, ready))
    if len(parts) < 2:
        return parts[0] if parts else NEVER
    return both(*parts)


@dataclass(frozen=True)
class Played:
    """A replay that is over; denied: replicas wanted at the start beyond what the regions' GPUs hold.

    ready: what it was run on, with what the policy brings (`sets`, as in a fleet file); notes: what is to be said.
    """

    outcome: Any
    forecasts: pl.DataFrame | None
    predicted: np.ndarray
    denied: int
    ready: Prepared
    sets: dict[str, Any]
    notes: tuple[str, ...]


def play(
    named: Named,
    ready: Prepared,
    inputs: Inputs,
    progress: Callable[[float], None],
    check: bool = False,
    what_if: WhatIf = AS_IT_WAS,
) -> Played:
    """Replay one policy; check: conservation is checked (Replay.run); what_if: what is changed behind its back."""
    policy = named.policy
    ready, brought = suited(ready, policy, inputs)
    state = policy.start(ready.fleet, ready.history)
    forecasts = None
    demand_error, length_error = errors_of(policy)
    horizon = getattr(policy, "horizon", None)
    if policy.forecaster is not None and horizon is not None:
        forecasts = inputs.ahead(policy.forecaster, horizon, demand_error)
    elif policy.forecaster is not None:
        forecasts = inputs.demand(policy.forecaster, state.lead_s, demand_error)
    progress(0.2)
    predicted = inputs.lengths(policy.lengths, length_error)
    initial, denied = starting_counts(policy, state, forecasts, ready)
    replayed, fleet, controller = ready.replayed, ready.fleet, _controller(policy, state, forecasts, ready)
    scales = controller is not NEVER
    if not scales:  # a fixed size: what faults take comes back, nothing else changes
        fleet, controller = unbounded(fleet), restarting(fleet, initial, ready.start_s)
    fleet, scripted = what_if.fleet(fleet, replayed), what_if.controller(ready.start_s)
    if scripted is not None:
        (initial, controller), scales = scripted, True
    seen = inputs.lengths(TRUE) if what_if.balanced else predicted
    replay = Replay(
        requests_of(replayed, seen, fleet, inputs.chains(), inputs.prefixes()),
        fleet,
        initial,
        BALANCED if what_if.balanced else getattr(state, "router", None) or policy.router,
        guarded(controller, fleet),
        widened(inputs.extension(policy.lengths, length_error), ready),
        instant_start=policy.instant_start or what_if.instant_start or scripted is not None,
        scales=scales,
        seed=ready.seed,
        begin_s=ready.start_s,
        anticipation=anticipation_of(policy),
    )
    outcome = replay.run(check)
    notes = ((f"sets where the fleet file does not: {said(brought)}",) if brought else ()) + tuple(
        getattr(state, "notes", ())
    )
    windowed = None if horizon is not None else forecasts  # a horizon's windows and tiers are not the scored ones
    return Played(outcome, windowed, predicted, denied, ready, plain(brought, fleet), notes)


def run_policy(
    named: Named, ready: Prepared, inputs: Inputs, progress: Callable[[float], None], check: bool = False
) -> Run:
    """Replay one policy and score it; check: conservation is checked (Replay.run)."""
    played = play(named, ready, inputs, progress, check)
    progress(0.7)
    run = _scored(named, played.ready, played)
    run.scores["starts_denied"] += played.denied
    return run


def evaluated_rows(ready: Prepared, outcome: Any) -> pl.DataFrame:
    """The requests of the evaluated part (scores.request_rows), by the trace's times: the same for all policies."""
    return _split(ready, outcome)[0]


def _split(ready: Prepared, outcome: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(evaluated_rows, Run.staying)."""
    replayed = ready.replayed
    rows = request_rows(replayed, outcome, ready.fleet, caches=ready.prefixes is not None)
    evaluated = replayed["arrival_s"] >= ready.cut_s
    ends_s = (pl.col("arrival_s") + pl.col("e2e_s")).fill_null(np.inf)
    stays = pl.col("status").is_in(["ok", "incomplete"]) & (ends_s > ready.cut_s)
    return rows.filter(evaluated), rows.filter(~evaluated & stays)


def _scored(named: Named, ready: Prepared, played: Played) -> Run:
    outcome, forecasts, predicted = played.outcome, played.forecasts, played.predicted
    evaluated = ready.replayed["arrival_s"] >= ready.cut_s
    rows, staying = _split(ready, outcome)
    rows = rows.with_columns(predicted_tokens=pl.Series(predicted).filter(evaluated))
    duration = ready.horizon_s - ready.cut_s
    rates = {key: rate.requests_s for key, rate in ready.rates.items()}
    times = timeline(rows, outcome, ready.fleet, ready.edges_s, rates)
    beside = compared(forecasts, ready)
    pools = times.group_by("service", "region", "lane", maintain_order=True).agg(pl.col("provisioned").max())
    key = pools.sort("provisioned", descending=True, maintain_order=True).row(0)[:3]  # of equals the first
    span = times.filter((pl.col("service") == key[0]) & (pl.col("region") == key[1]) & (pl.col("lane") == key[2]))
    error = (rows["predicted_tokens"] - rows["output_tokens"].cast(pl.Float64)).abs().mean()
    scores = {
        **cost_scores(outcome, ready.cut_s, ready.end_s),
        **request_scores(rows, duration),
        "outside_windows": int((~within(rows, ready.edges_s)).sum()),
        "not_replayed": ready.not_replayed,
        "forecast_wape": wape(beside),
        "length_mae_tokens": error if named.policy.lengths is not None else None,
        "starts_denied": int(outcome.denied.sum()),
        "starts_denied_down": int(outcome.denied_down.sum()),
        "replicas_min": float(span["provisioned"].min()),  # type: ignore[arg-type]
        "replicas_max": float(span["provisioned"].max()),  # type: ignore[arg-type]
    }
    return Run(
        named.name,
        named.policy.foresight,
        scores,
        rows,
        group_scores(rows),
        times,
        beside,
        histogram(rows),
        played.sets,
        played.notes,
        mean_gpus(outcome, ready.fleet, ready.cut_s, ready.horizon_s),
        Blocks.of(rows, outcome, block_edges(ready.cut_s, ready.horizon_s, ready.window_s)),
        outcome.spans,
        staying,
    )


def compared(forecasts: pl.DataFrame | None, ready: Prepared) -> pl.DataFrame:
    """start_s, service, origin, metric, actual, forecast of every whole window of the evaluated part.

    The last window is left out where the trace ends within it; a window without forecast counts as forecast 0, a
    series that was forecast and did not come as 0 that came.
    """
    schema = {"start_s": pl.Float64, "service": pl.String, "origin": pl.String, "metric": pl.String}
    if forecasts is None:
        return pl.DataFrame(schema=schema | {"actual": pl.Float64, "forecast": pl.Float64})
    evaluated = ready.requests.filter(pl.col("arrival_s") >= ready.cut_s)
    actual = demand(evaluated, ready.window_s, ready.cut_s, ready.horizon_s).rename({"value": "actual"})
    actual = actual.filter(pl.col("length_s") >= ready.window_s * (1 - 1e-9))
    said = forecasts.filter(pl.col("quantile").is_null()).select(
        "start_s", pl.col("service").cast(pl.String), pl.col("origin").cast(pl.String), "metric", forecast="value"
    )
    keys = ["start_s", "service", "origin", "metric"]
    came = actual.with_columns(pl.col("service", "origin").cast(pl.String)).select(*keys, "actual")
    every = pl.concat([came.select(keys[1:]), said.select(keys[1:])]).unique()
    grid = came.select("start_s").unique().join(every, how="cross")
    joined = grid.join(came, on=keys, how="left").join(said, on=keys, how="left")
    return joined.with_columns(pl.col("actual", "forecast").fill_null(0.0)).sort(keys)


def wape(beside: pl.DataFrame) -> float | None:
    """Weighted absolute percentage error of total tokens over all windows and series."""
    tokens = beside.filter(pl.col("metric") == "total_tokens").drop_nulls()
    total = float(tokens["actual"].sum())
    return float((tokens["forecast"] - tokens["actual"]).abs().sum()) / total if total else None

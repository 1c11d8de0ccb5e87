"""Runs of all policies -> what an evaluation found: regret, gates, notes, the settings in effect."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import Trace
from lmaas.replay.fleettold import conditions, describe
from lmaas.replay.scores import MISSED

from .backtest import backtest
from .blocks import block_edges
from .bounds import perfect_said, perfect_system
from .commitment import commitments
from .differences import differences, drawn, own_intervals, settings
from .equal import Equals
from .gates import Gate, percentile_test
from .inputs import Inputs
from .misses import misses
from .prepare import Prepared
from .registry import Named
from .replays import Replays
from .results import Evaluation, why_denied
from .roomy import Roomy
from .rows import recorded_hits
from .runner import Run
from .spot import spots
from .worst import worst_windows


def collect(
    trace: Trace,
    ready: Prepared,
    inputs: Inputs,
    asked: list[Named],
    ended: Replays,
    conditions: Sequence[Gate],
    attain: float,
    train_fraction: float,
    load: float,
    equal: Equals,
) -> Evaluation:
    """The tables, notes and exit code of an evaluation; UserError (exit 7) where no policy ran to its end."""
    runs, failures = list(ended.runs.values()), ended.failures
    if not runs:
        reasons = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise UserError(f"every policy failed: {reasons}", Exit.PARTIAL)
    rows = _scores(runs, {named.name for named in asked})
    gates = _gates(runs, rows, ready, conditions)
    failed = gates.filter((pl.col("kind") == "gate") & ~pl.col("passed")).height > 0
    perfect = perfect_system(ready, inputs)
    tested, tested_said = backtest(trace, ready, runs, load)
    reserved, reserved_said = commitments(runs, ready.fleet)
    draws, roomy = drawn(runs, ready.seed), Roomy(ready)
    scored = own_intervals(pl.DataFrame(rows, infer_schema_length=None), draws)
    edges_s = block_edges(ready.cut_s, ready.horizon_s, ready.window_s)
    recorded = recorded_hits(trace, ready.cut_s, ready.end_s) if ready.prefixes is None else None
    return Evaluation(
        trace=trace.meta,
        settings={
            **_settings(ready, attain, train_fraction, load),
            "perfect_system_gpu_hours": perfect,
            **_brought(runs),
            **({"recorded_hit_share": recorded} if recorded else {}),
            **({"intervals": settings(draws, float(edges_s[1] - edges_s[0]))} if draws else {}),
        },
        notes=(
            *tested_said,
            *([cached_said(recorded)] if recorded else []),
            *ready.notes,
            *inputs.notes,
            *_notes(ready, runs),
            *equal.notes,
            *reserved_said,
            perfect_said(perfect, ready.window_s),
        ),
        failures=failures,
        scores=scored,
        groups=_stack(runs, "groups"),
        timeline=_stack(runs, "timeline"),
        forecasts=_stack([run for run in runs if run.forecasts.height], "forecasts"),
        histogram=_stack(runs, "histogram"),
        gates=gates,
        equal=equal.table,
        backtest=tested,
        commitment=reserved,
        spot=spots(runs, ready.fleet),
        misses=misses(runs),
        worst=pl.concat([worst_windows(run, ready, roomy) for run in runs]),
        differences=differences(scored, attain, draws, equal.fleets, ready.seed) if draws else pl.DataFrame(),
        blocks=_blocks(runs),
        requests={run.name: run.rows for run in runs if run.rows.width},
        exit_code=Exit.PARTIAL if failures else Exit.GATE if failed else Exit.OK,
    )


def cached_said(share: float) -> str:
    """What the replay does with prompts that the source had cached."""
    return (
        f"the trace says that {share:.1%} of the evaluated part's prompt tokens were served from a prefix cache; "
        "without block hashes that are in use the replay computes all of them"
    )


def _scores(runs: Sequence[Run], asked: Collection[str]) -> list[dict[str, Any]]:
    """A row of scores a run; regret: the share by which it spends more than the oracle."""
    oracle = next((run.scores["gpu_hours_provisioned"] for run in runs if run.name == "oracle"), None)
    rows = []
    for run in runs:
        role = "policy" if run.name in asked else ("bound" if run.foresight else "baseline")
        regret = run.scores["gpu_hours_provisioned"] / oracle - 1 if oracle else None
        rows.append({"policy": run.name, "role": role, "foresight": run.foresight, **run.scores, "regret": regret})
    return rows


GATES = {
    "gate": pl.String,
    "kind": pl.String,  # gate: decides the exit code; slo: a percentile test, reported only
    "policy": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "passed": pl.Boolean,
}


def _gates(
    runs: Sequence[Run], scores: Sequence[Mapping[str, Any]], ready: Prepared, conditions: Sequence[Gate]
) -> pl.DataFrame:
    """GATES: the percentile tests of every run, and the conditions of the policies asked for."""
    rows = []
    for run, score in zip(runs, scores, strict=True):
        for test in ready.slos:
            if test.percentile is not None and run.rows.width:  # windows have no requests to take one of
                value, met = percentile_test(test, run.rows)
                rows.append((str(test), "slo", run.name, value, test.limit_s, met))
        for gate in conditions if score["role"] == "policy" else ():
            value, met = gate.check(score, run.rows)
            rows.append((gate.text, "gate", run.name, value, gate.threshold, met))
    return pl.DataFrame(rows, schema=GATES, orient="row")


def _stack(runs: list[Run], table: str) -> pl.DataFrame:
    tables = [getattr(run, table).select(pl.lit(run.name).alias("policy"), pl.all()) for run in runs]
    return pl.concat(tables, how="vertical_relaxed") if tables else pl.DataFrame()


def _blocks(runs: list[Run]) -> pl.DataFrame:
    tables = [run.blocks.table().insert_column(0, pl.lit(run.name).alias("policy")) for run in runs if run.blocks]
    return pl.concat(tables) if tables else pl.DataFrame()


def _settings(ready: Prepared, attain: float, train_fraction: float, load: float) -> dict[str, Any]:
    return {
        "fidelity": "request",
        "train_fraction": train_fraction,
        "start_s": ready.start_s,
        "cut_s": ready.cut_s,
        "end_s": ready.end_s,
        "window_s": ready.window_s,
        "attain": attain,
        "load": load,
        "seed": ready.seed,
        "slos": [
            {"service": service, "tier": tier, "thresholds": said} for (service, tier), said in ready.limits.items()
        ],
        "pools": describe(ready.fleet),
        "fleet": conditions(ready.fleet),
        "prefix_cache": None
        if ready.prefixes is None
        else {
            "services": list(ready.cached),
            "block_tokens": ready.prefixes.tokens,
        },
        "rates": [{"service": s, "lane": lane, **asdict(rates)} for (s, lane), rates in ready.rates.items()],
    }


def _brought(runs: list[Run]) -> dict[str, Any]:
    """set_by_policy: what policies set of the fleet file's fields, where any did."""
    sets = {run.name: run.sets for run in runs if run.sets}
    return {"set_by_policy": sets} if sets else {}


def _notes(ready: Prepared, runs: list[Run]) -> list[str]:
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    if ready.not_replayed:
        notes.append(f"{ready.not_replayed:,} rows without input or output tokens are not replayed")
    foresight = [run.name for run in runs if run.foresight]
    if foresight:
        notes.append(f"foresight: {', '.join(foresight)} read the future and are bounds, not choices")
    if ready.fleet.clients is None:
        notes.append("open loop: clients neither abandon nor retry, so an overloaded fleet queues without limit")
    for run in runs:
        lost = [f"{run.scores[why]:,} {why.replace('_', ' ')}" for why in MISSED if run.scores.get(why)]
        if lost:
            due = run.scores["arrived"] + (run.scores.get("not_sent") or 0)
            notes.append(f"{run.name}: {' and '.join(lost)} of {due:,} requests, their SLO missed")
        if denied := run.scores.get("starts_denied"):
            notes.append(
                f"{run.name}: {denied:,} starts of replicas were denied, {why_denied(run.scores)} "
                "(asked for again, they count again)"
            )
        if away := run.scores.get("outside_windows"):
            notes.append(
                f"{run.name}: {away:,} turns of sessions were sent before or after the evaluated part; they are "
                "scored, and stand in no window of the charts"
            )
    return notes

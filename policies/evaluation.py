"""The evaluator: replay every policy on the same requests and score them side by side."""

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import Trace
from lmaas.replay.conservation import ConservationError
from lmaas.replay.fleet import SHARED, conditions, describe
from lmaas.replay.fleetfile import read_fleet
from lmaas.replay.profile import find_profile
from lmaas.replay.routers import check_router
from lmaas.replay.scores import MISSED
from lmaas.replay.slo import Slo, parse_slos

from .bounds import perfect_said, perfect_system
from .depth import check_depth, deepen
from .gates import Gate, parse_gates, percentile_test
from .inputs import Inputs
from .prepare import Prepared, prepare
from .registry import Named, parse_policy
from .results import Evaluation, why_denied
from .runner import Run, run_policy
from .starts import check_starts

FIDELITIES = ("request", "window")
BASELINES = ("static-peak", "static-mean", "last-value", "hpa", "oracle")


def _named(
    policies: Sequence[str], baselines: Sequence[str] | None, router: str | None, scaler: str | None
) -> tuple[list[Named], list[Named]]:
    """(policies, baselines), each once; `--scaler X --router Y` is one more policy."""
    asked = [parse_policy(text, router) for text in (*policies, *([scaler] if scaler else []))]
    if not asked and baselines is not None and list(baselines) == ["none"]:
        raise UserError("nothing to evaluate: name a policy (--policy preserve) or a baseline", Exit.USAGE)
    texts = BASELINES if baselines is None else [text for text in baselines if text != "none"]
    names = {named.name for named in asked}
    beside = [named for text in texts if (named := parse_policy(text)).name not in names]
    return list({n.name: n for n in asked}.values()), list({n.name: n for n in beside}.values())


def check_asked(
    policies: Sequence[str],
    *,
    baselines: Sequence[str] | None = None,
    router: str | None = None,
    scaler: str | None = None,
    profile: str | None = None,
    fleet: Path | None = None,
    slo: Sequence[str] = (),
    gates: Sequence[str] = (),
    attain: float = 0.99,
    train_fraction: float = 0.5,
    fidelity: str = "request",
    depth: str = "default",
) -> tuple[list[Named], list[Named], tuple[Slo, ...], tuple[Gate, ...]]:
    """What can be said of a question before any trace is read: policies, baselines, SLOs and gates, or a UserError."""
    asked, beside = _named(policies, baselines, router, scaler)
    slos, conditions = parse_slos(slo), parse_gates(gates)
    if conditions and not asked:
        raise UserError("--gate has nothing to judge: gates hold for the policies named with --policy", Exit.USAGE)
    if router is not None and not asked:
        raise UserError("--router has no policy to route for: name one with --policy", Exit.USAGE)
    if not 0 <= train_fraction < 1:
        raise UserError(f"--train-fraction {train_fraction:g} leaves nothing to evaluate; use 0 to below 1", Exit.USAGE)
    if not 0 < attain <= 1:
        raise UserError(f"--attain {attain:g} is no share; use above 0 to 1", Exit.USAGE)
    for named in (*asked, *beside):
        check_router(named.router)
    if fidelity not in FIDELITIES:
        raise UserError(f"no fidelity '{fidelity}'; there are {', '.join(FIDELITIES)}", Exit.USAGE)
    check_depth(depth, fidelity)
    if fidelity == "window":
        from .window_run import check_gates

        check_gates(conditions)
        if fleet is not None and any(pool.lane != SHARED for pool in read_fleet(fleet).pools):
            why = "--fidelity window does not estimate prefill and decode lanes; use --fidelity request"
            raise UserError(f"fleet: pools.lane: {why}", Exit.CONFIG)
    if profile is not None:
        find_profile(profile)
    if fleet is not None:
        read_fleet(fleet)
    return asked, beside, slos, conditions


def evaluate(
    trace: Trace,
    policies: Sequence[str],
    *,
    baselines: Sequence[str] | None = None,
    router: str | None = None,
    scaler: str | None = None,
    profile: str | None = None,
    fleet: Path | None = None,
    slo: Sequence[str] = (),
    attain: float = 0.99,
    gates: Sequence[str] = (),
    train_fraction: float = 0.5,
    warmup_s: float = 600.0,
    window_s: float | None = None,
    load: float = 1.0,
    seed: int = 0,
    jobs: int = 1,
    fidelity: str = "request",
    depth: str = "default",
    check: bool = False,
    progress: Callable[[str, float], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Evaluation:
    """Replay `policies` and their baselines on the part of the trace after `train_fraction` of its span.

    Everything learned (μ, forecasts, lengths) comes from before, except for policies marked foresight. Times in
    seconds. Raises UserError: 2 for a name or value that is wrong, 4 for a trace with nothing to replay, 5 for an
    impossible fleet. A policy that fails while it runs is named in `failures`; the others still report.
    fidelity: request (the replay) or window (docs/policies.md), which says how far it is from the replay.
    depth: full searches every policy's headroom and judges predictors by it, many replays (docs/policies.md); announce
    is told beforehand how many. check: conservation is checked while policies are replayed, at about twice the time
    (docs/replay.md).
    """
    asked, beside, slos, conditions = check_asked(
        policies, baselines=baselines, router=router, scaler=scaler, profile=profile, fleet=fleet, slo=slo,
        gates=gates, attain=attain, train_fraction=train_fraction, fidelity=fidelity, depth=depth,
    )  # fmt: skip
    ready = prepare(
        trace, slos=slos, attain=attain, profile=profile, fleet=fleet, train_fraction=train_fraction,
        warmup_s=warmup_s, window_s=window_s, load=load, seed=seed, caches=fidelity == "request",
    )  # fmt: skip
    check_starts([*asked, *beside], ready)
    inputs = Inputs(ready)
    say = progress or (lambda name, share: None)

    run_one = partial(run_policy, check=check)
    if fidelity == "window":
        from .window import Windows
        from .window_run import run_windows, with_agreement  # deferred: scipy, which a replay does without

        windows = Windows.of(trace, ready, inputs, attain, load)
        run_one = partial(run_windows, windows)

    seconds: dict[str, float] = {}

    def one(named: Named) -> Run | str:
        began = perf_counter()
        ended = _ended(named, lambda: run_one(named, ready, inputs, partial(say, named.name)), say)
        if isinstance(ended, Run):
            seconds[named.name] = perf_counter() - began
        return ended

    everyone = [*asked, *beside]
    if jobs == 1:
        ended = [one(named) for named in everyone]
    else:
        with ThreadPoolExecutor(max_workers=jobs) as pool:  # the kernel holds no interpreter lock
            ended = list(pool.map(one, everyone))
    runs = [run for run in ended if isinstance(run, Run)]
    failures = {n.name: run for n, run in zip(everyone, ended, strict=True) if isinstance(run, str)}
    result = _collect(trace, ready, inputs, asked, runs, failures, conditions, attain, train_fraction, load)
    if fidelity == "window":
        return with_agreement(result, windows, everyone, say)
    if depth == "full":
        tell = announce or (lambda text: None)
        return deepen(result, everyone, seconds, ready, inputs, attain, jobs, tell, say)
    return result


def _ended(named: Named, run: Callable[[], Run], say: Callable[[str, float], None]) -> Run | str:
    """The policy's run, or why it failed: its own fault must not cost the others their results."""
    say(named.name, 0.0)
    try:
        return run()
    except (UserError, ConservationError):  # none of the policy's
        raise
    except Exception as error:
        where = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
        what = str(error) if error.__cause__ else f"{type(error).__name__}: {error}"  # the cause is named in it
        return f"{what} ({Path(where.filename).name}:{where.lineno})"
    finally:
        say(named.name, 1.0)


def _collect(
    trace: Trace,
    ready: Prepared,
    inputs: Inputs,
    asked: list[Named],
    runs: list[Run],
    failures: dict[str, str],
    conditions: Sequence[Any],
    attain: float,
    train_fraction: float,
    load: float,
) -> Evaluation:
    names = {named.name for named in asked}
    oracle = next((run.scores["gpu_hours_provisioned"] for run in runs if run.name == "oracle"), None)
    rows, gate_rows = [], []
    for run in runs:
        role = "policy" if run.name in names else ("bound" if run.foresight else "baseline")
        hours = run.scores["gpu_hours_provisioned"]
        regret = hours / oracle - 1 if oracle else None
        scores = {"policy": run.name, "role": role, "foresight": run.foresight, **run.scores, "regret": regret}
        rows.append(scores)
        for test in ready.slos:
            if test.percentile is not None and run.rows.width:  # windows have no requests to take one of
                value, met = percentile_test(test, run.rows)
                gate_rows.append((str(test), "slo", run.name, value, test.limit_s, met))
        if role == "policy":
            gate_rows += [(g.text, "gate", run.name, *_checked(g, scores)) for g in conditions]
    gates = pl.DataFrame(gate_rows, schema=GATES, orient="row")
    failed = gates.filter((pl.col("kind") == "gate") & ~pl.col("passed")).height > 0
    if not runs:
        reasons = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise UserError(f"every policy failed: {reasons}", Exit.PARTIAL)
    perfect = perfect_system(ready, inputs)
    return Evaluation(
        trace=trace.meta,
        settings={
            **_settings(ready, attain, train_fraction, load),
            "perfect_system_gpu_hours": perfect,
            **_brought(runs),
        },
        notes=(*ready.notes, *inputs.notes, *_notes(ready, runs), perfect_said(perfect, ready.window_s)),
        failures=failures,
        scores=pl.DataFrame(rows, infer_schema_length=None),
        groups=_stack(runs, "groups"),
        timeline=_stack(runs, "timeline"),
        forecasts=_stack([run for run in runs if run.forecasts.height], "forecasts"),
        histogram=_stack(runs, "histogram"),
        gates=gates,
        requests={run.name: run.rows for run in runs if run.rows.width},
        exit_code=Exit.PARTIAL if failures else Exit.GATE if failed else Exit.OK,
    )


GATES = {
    "gate": pl.String,
    "kind": pl.String,  # gate: decides the exit code; slo: a percentile test, reported only
    "policy": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "passed": pl.Boolean,
}


def _checked(gate: Any, scores: dict[str, Any]) -> tuple[float | None, float, bool]:
    value, passed = gate.check(scores)
    return value, gate.threshold, passed


def _stack(runs: list[Run], table: str) -> pl.DataFrame:
    tables = [getattr(run, table).select(pl.lit(run.name).alias("policy"), pl.all()) for run in runs]
    return pl.concat(tables, how="vertical_relaxed") if tables else pl.DataFrame()


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

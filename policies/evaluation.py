"""The evaluator: replay every policy on the same requests and score them side by side."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.progress import Share
from lmaas.analysis.trace import Trace
from lmaas.replay.fleet import SHARED
from lmaas.replay.fleetfile import FleetSpec, read_fleet
from lmaas.replay.profile import find_profile
from lmaas.replay.routernames import check_router
from lmaas.replay.slo import Slo, parse_slos

from .collect import collect
from .depth import Deep, check_depth, deepen
from .equal import Equals, beside_policies
from .full.bench import Bench
from .full.crew import cores
from .full.kept import Kept, pruned, question_of
from .gates import Gate, check_services, parse_gates
from .inputs import Inputs
from .prepare import prepare
from .registry import Named, parse_policy
from .replays import run_all
from .results import Evaluation
from .runner import run_policy
from .spare import with_spare
from .starts import check_starts
from .static import described

FIDELITIES = ("request", "window")
BASELINES = ("static-peak", "static-mean", "last-value", "hpa", "oracle")


def _named(
    policies: Sequence[str],
    baselines: Sequence[str] | None,
    router: str | None,
    scaler: str | None,
    spec: FleetSpec | None,
) -> tuple[list[Named], list[Named]]:
    """(policies, baselines), each once; `--scaler X --router Y` is one more policy, `current` where the file has it."""
    asked = [parse_policy(text, router) for text in (*policies, *([scaler] if scaler else []))]
    if not asked and baselines is not None and list(baselines) == ["none"]:
        raise UserError("nothing to evaluate: name a policy (--policy preserve) or a baseline", Exit.USAGE)
    default = (*(("current",) if spec is not None and described(spec) else ()), *BASELINES)
    texts = default if baselines is None else [text for text in baselines if text != "none"]
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
    fleet: Path | str | None = None,
    slo: Sequence[str] = (),
    gates: Sequence[str] = (),
    attain: float = 0.99,
    train_fraction: float = 0.5,
    fidelity: str = "request",
    depth: str = "default",
    seeds: int | None = None,
) -> tuple[list[Named], list[Named], tuple[Slo, ...], tuple[Gate, ...]]:
    """What can be said of a question before any trace is read: policies, baselines, SLOs and gates, or a UserError."""
    spec = read_fleet(fleet) if fleet is not None else None
    asked, beside = _named(policies, baselines, router, scaler, spec)
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
    check_depth(depth, fidelity, seeds)
    if fidelity == "window":
        from .window_run import check_gates

        check_gates(conditions)
        if spec is not None and any(pool.lane != SHARED for pool in spec.pools):
            why = "--fidelity window does not estimate prefill and decode lanes; use --fidelity request"
            raise UserError(f"fleet: pools.lane: {why}", Exit.CONFIG)
    if profile is not None:
        find_profile(profile)
    return asked, beside, slos, conditions


def evaluate(
    trace: Trace,
    policies: Sequence[str],
    *,
    baselines: Sequence[str] | None = None,
    router: str | None = None,
    scaler: str | None = None,
    profile: str | None = None,
    fleet: Path | str | None = None,
    slo: Sequence[str] = (),
    attain: float = 0.99,
    gates: Sequence[str] = (),
    train_fraction: float = 0.5,
    warmup_s: float = 600.0,
    window_s: float | None = None,
    load: float = 1.0,
    seed: int = 0,
    jobs: int | None = None,
    fidelity: str = "request",
    depth: str = "default",
    seeds: int | None = None,
    kept: Path | None = None,
    check: bool = False,
    progress: Callable[[str, float], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Evaluation:
    """Replay `policies` and their baselines on the part of the trace after `train_fraction` of its span.

    Everything learned (μ, forecasts, lengths) comes from before, except for policies marked foresight. Times in
    seconds. Raises UserError: 2 for a name or value that is wrong, 4 for a trace with nothing to replay, 5 for an
    impossible fleet. A policy that fails while it runs is named in `failures`; the others still report.
    fidelity: request (the replay) or window (docs/policies.md), which says how far it is from the replay.
    depth: full takes many replays (docs/depth.md), in `jobs` processes (default: as many as there are cores; else
    policies replayed at once, 1), under `seeds` seeds (default 3); announce is told beforehand how many. kept: a folder
    where finished ones are kept, so that an evaluation that was stopped goes on from there. check: conservation
    is checked while policies are replayed, at about twice the time (docs/replay.md).
    """
    asked, beside, slos, conditions = check_asked(
        policies, baselines=baselines, router=router, scaler=scaler, profile=profile, fleet=fleet, slo=slo,
        gates=gates, attain=attain, train_fraction=train_fraction, fidelity=fidelity, depth=depth, seeds=seeds,
    )  # fmt: skip
    jobs = jobs or (cores() if depth == "full" else 1)
    began_s = perf_counter()
    world: dict[str, Any] = {
        "slos": slos, "attain": attain, "profile": profile, "fleet": fleet, "train_fraction": train_fraction,
        "warmup_s": warmup_s, "window_s": window_s, "load": load, "seed": seed, "caches": fidelity == "request",
    }  # fmt: skip
    tell = progress or (lambda name, share: None)
    tell("preparation", 0.0)
    ready = prepare(trace, **world)
    tell("preparation", 1.0)
    prepare_s = perf_counter() - began_s
    check_services(conditions, {pool.service for pool in ready.fleet.pools})
    check_starts([*asked, *beside], ready)
    inputs = Inputs(ready)
    replayed = ready.replayed.height

    def say(name: str, share: float) -> None:
        tell(name, Share(share, replayed, "requests"))

    everyone = [*asked, *beside]
    compared = list(baselines or ()) != ["none"]
    run_one = partial(run_policy, ready=ready, inputs=inputs, check=check)
    if fidelity == "window":
        from .window import Windows
        from .window_run import run_windows, with_agreement  # deferred: scipy, which a replay does without

        windows = Windows.of(trace, ready, inputs, attain, load)
        run_one = partial(run_windows, windows, ready=ready, inputs=inputs)
    ended = run_all(everyone, lambda named, tell: run_one(named, progress=tell), jobs, say)
    equal = Equals()
    if fidelity == "request" and compared:
        judged = asked or [named for named in beside if not named.policy.foresight]
        equal = beside_policies(judged, ended.runs, ready, inputs, jobs, say)
    result = collect(trace, ready, inputs, asked, ended, conditions, attain, train_fraction, load, equal)
    if fidelity == "window":
        return with_agreement(result, windows, everyone, say)
    if compared:
        result = with_spare(result, everyone, ended.runs, ready, inputs, say)
    if depth == "full":
        pruned(kept)
        bench = Bench(trace, world, Kept(kept, question_of(trace, ready, train_fraction)), ready, inputs)
        ran = [named for named in everyone if named.name in ended.runs]
        number = check_depth(depth, fidelity, seeds)
        deep = Deep(result, ran, ended.runs, equal, ended.seconds, prepare_s, bench, attain, jobs, number)
        return deepen(deep, announce or (lambda text: None), tell)
    return result

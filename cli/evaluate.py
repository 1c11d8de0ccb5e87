"""`lmaas evaluate`: a trace and policies -> what each would have cost, and whether users would have waited."""

from typing import Any

import typer

from . import evaluate_options as opt
from .options import DecideBy, Format, Json, Label, Map, Out, TimeUnit, TracePath, Window
from .reading import read_trace
from .screen import Screen


def command(
    ctx: typer.Context,
    trace: TracePath = None,
    policy: opt.Policies = None,
    router: opt.Router = None,
    scaler: opt.Scaler = None,
    profile: opt.Profile = None,
    fleet: opt.Fleet = None,
    slo: opt.Slos = None,
    attain: opt.Attain = 0.99,
    gate: opt.Gates = None,
    gate_mode: opt.GateMode = "fail",
    baseline: opt.Baselines = None,
    train_fraction: opt.TrainFraction = 0.5,
    warmup: opt.Warmup = 600.0,
    window: Window = None,
    load: opt.Load = 1.0,
    fidelity: opt.Fidelity = "request",
    depth: opt.Depth = "default",
    seeds: opt.Seeds = None,
    requests_out: opt.RequestsOut = None,
    seed: opt.Seed = 0,
    jobs: opt.Jobs = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    label: Label = None,
    decide_by: DecideBy = None,
    as_json: Json = False,
    out: Out = None,
) -> int:
    """Replay a trace through policies and their baselines; report cost, SLO attainment and latencies.

    \b
      lmaas evaluate --policy preserve
      lmaas evaluate trace.parquet --policy hpa --slo 'ttft<500ms, tpot<50ms'
      lmaas evaluate --policy 'static(replicas=3)' --baseline none
      lmaas evaluate --policy hpa --gate 'slo_attainment>=0.99' --json

    Every value that has a unit needs one: 500ms, 10m, 2x. `lmaas policies list` names the policies.
    """
    from lmaas.analysis.quality import assess
    from lmaas.analysis.workspace import Workspace
    from lmaas.policies.evaluation import check_asked, evaluate
    from lmaas.replay.engine import compiled
    from lmaas.reports.marks import Marks
    from lmaas.reports.write import check_requests_out, recording, write_evaluation

    screen: Screen = ctx.obj
    check_requests_out(requests_out, trace, fidelity)
    question: dict[str, Any] = {
        "policies": policy or [],
        "baselines": baseline,
        "router": router,
        "scaler": scaler,
        "profile": profile,
        "fleet": fleet,
        "slo": slo or [],
        "attain": attain,
        "gates": gate or [],
        "train_fraction": train_fraction,
        "fidelity": fidelity,
        "depth": depth,
        "seeds": seeds,
    }
    check_asked(**question)  # before a large file is read
    asked = {**question, "warmup_s": warmup, "window_s": window, "load": load, "seed": seed}
    workspace = Workspace.open()
    opened = read_trace(screen, trace, workspace, format=format, map=map, time_unit=time_unit)
    called, marks = "-".join(policy or ["baselines"]), Marks(label, decide_by)
    if not compiled():
        screen.say("compiling the replay kernel for this machine, once: about a quarter of a minute")
    with recording(workspace, "evaluate", called, screen.argv, asked, out, marks) as recorded:
        with screen.progress("replay") as progress:
            kept = workspace.root / "replays"
            result = evaluate(opened, **asked, jobs=jobs, kept=kept, progress=progress, announce=screen.say)
        written = write_evaluation(
            result, recorded, gate_mode=gate_mode, requests_out=requests_out, quality=assess(opened)
        )
    screen.present(written, "lmaas policies list, to compare with another policy", as_json=as_json)
    return written.exit_code

"""`lmaas evaluate`: a trace and policies -> what each would have cost, and whether users would have waited."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import Format, Json, Map, Out, TimeUnit, TracePath, Window, duration_s, factor, mapping, share
from .screen import Screen, emit


def command(
    ctx: typer.Context,
    trace: TracePath = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="P", help="Policy, such as preserve or 'hpa(target=8)'. Repeatable."),
    ] = None,
    router: Annotated[
        str | None, typer.Option("--router", metavar="R", help="Router in place of the policies' own.")
    ] = None,
    scaler: Annotated[
        str | None, typer.Option("--scaler", metavar="S", help="Policy that scales, beside --router.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME|FILE", help="GPU profile of every service.")
    ] = None,
    fleet: Annotated[Path | None, typer.Option("--fleet", metavar="FILE", help="Fleet file, YAML or TOML.")] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option("--slo", metavar="SLO", help="Such as 'ttft_p95<500ms @ tier=interactive-fast'. Repeatable."),
    ] = None,
    attain: Annotated[
        float,
        typer.Option("--attain", metavar="SHARE", parser=share, help="Share of requests that must meet their SLOs."),
    ] = 0.99,
    gate: Annotated[
        list[str] | None,
        typer.Option("--gate", metavar="EXPR", help="Condition on a score; exit 3 if it fails. Repeatable."),
    ] = None,
    gate_mode: Annotated[
        Literal["fail", "warn"], typer.Option("--gate-mode", help="What a failed gate does to the exit code.")
    ] = "fail",
    baseline: Annotated[
        list[str] | None,
        typer.Option("--baseline", metavar="none|P", help="Baselines in place of the default ones. Repeatable."),
    ] = None,
    train_fraction: Annotated[
        float,
        typer.Option("--train-fraction", metavar="SHARE", parser=share, help="First part of the trace, to learn from."),
    ] = 0.5,
    warmup: Annotated[
        float,
        typer.Option(
            "--warmup",
            metavar="TIME",
            parser=duration_s,
            show_default=False,
            help="Replayed unscored before the evaluated part; default 600s.",
        ),
    ] = 600.0,
    window: Window = None,
    load: Annotated[
        float,
        typer.Option("--load", metavar="FACTOR", parser=factor, show_default=False, help="Scale arrivals, such as 2x."),
    ] = 1.0,
    requests_out: Annotated[
        Path | None,
        typer.Option("--requests-out", metavar="FILE", help="One row per request: .parquet, .csv or .jsonl."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of everything that is drawn.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Policies replayed at once.")] = 1,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
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
    from lmaas.analysis.ingest import open_trace
    from lmaas.analysis.workspace import Workspace
    from lmaas.policies.evaluate import evaluate
    from lmaas.reports.terminal import show
    from lmaas.reports.write import check_requests_out, recording, write_evaluation

    screen: Screen = ctx.obj
    check_requests_out(requests_out)
    workspace = Workspace.open()
    opened = open_trace(trace, workspace, format=format, mapping=mapping(map), time_unit=time_unit, say=screen.say)
    asked: dict[str, Any] = {
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
        "warmup_s": warmup,
        "window_s": window,
        "load": load,
        "seed": seed,
    }
    label = "-".join(policy or ["baselines"])
    with recording(workspace, "evaluate", label, screen.argv, asked, out) as recorded:
        with screen.progress("replay") as progress:
            result = evaluate(opened, **asked, jobs=jobs, progress=progress)
        written = write_evaluation(result, recorded, gate_mode=gate_mode, requests_out=requests_out)
    if as_json:
        emit(written.exit_code, **written.facts(), **written.metrics)
    else:
        show(written.report, screen.out(), everything=screen.verbose)
        screen.say(f"\nReport: {written.html}\nData:   {written.run}\nNext:   lmaas policies list")
    return written.exit_code

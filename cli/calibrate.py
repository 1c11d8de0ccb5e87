"""`lmaas calibrate`: a log with observed latencies -> a profile of the engine that wrote it, and how far off it is."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import Format, Json, Map, TimeUnit, TracePath
from .reading import read_trace
from .screen import Screen, emit

Fit = Annotated[
    int | None, typer.Option("--fit-requests", metavar="N", min=1, help="Fit the first N; default: the first half.")
]
Service = Annotated[str | None, typer.Option("--service", metavar="NAME", help="Which of the log's services.")]
Replicas = Annotated[int | None, typer.Option("--replicas", metavar="N", min=1, help="Engines that served the log.")]
MaxSeqs = Annotated[int | None, typer.Option("--max-seqs", metavar="N", min=1, help="Most requests that ran at once.")]
MaxBatch = Annotated[
    int | None, typer.Option("--max-batch-tokens", metavar="N", min=1, help="Most tokens of an iteration.")
]
KvTokens = Annotated[
    int | None, typer.Option("--kv-tokens", metavar="N", min=1, help="KV cache size: the engine's log says it.")
]
Block = Annotated[int, typer.Option("--block", metavar="N", min=1, help="Tokens of a KV block.")]
Dealt = Annotated[
    Literal["least-requests", "round-robin"], typer.Option("--router", help="How requests went to several replicas.")
]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="What it served, for the profile.")]
Gpu = Annotated[str | None, typer.Option("--gpu", metavar="NAME", help="What it ran on, for price and KV.")]
Tp = Annotated[int, typer.Option("--tp", metavar="N", min=1, help="GPUs of one replica.")]
Called = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of the profile; default: the log's.")]
ProfileOut = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write the profile here; default: in the workspace.")
]


def command(
    ctx: typer.Context,
    log: TracePath = None,
    fit_requests: Fit = None,
    service: Service = None,
    replicas: Replicas = None,
    max_seqs: MaxSeqs = None,
    max_batch_tokens: MaxBatch = None,
    kv_tokens: KvTokens = None,
    block: Block = 16,
    router: Dealt = "least-requests",
    model: Model = None,
    gpu: Gpu = None,
    tp: Tp = 1,
    name: Called = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    as_json: Json = False,
    out: ProfileOut = None,
) -> int:
    """Fit a GPU profile to the first part of a log with observed TTFT and latencies; judge it by the rest.

    \b
      lmaas calibrate requests.jsonl --max-seqs 128 --max-batch-tokens 2048
      lmaas calibrate log.csv --map ttft_s=first --map e2e_s=total --map arrival_s=at --time-unit s
      lmaas evaluate trace.parquet --policy hpa --profile profile.json

    What is not given of the engine is inferred where the log tells it; what it does not tell is said.
    """
    from lmaas.analysis.workspace import Workspace
    from lmaas.replay.calibration.calibrate import calibrate, labelled
    from lmaas.replay.calibration.engine import Given
    from lmaas.replay.calibration.log import read_log
    from lmaas.replay.engine import compiled
    from lmaas.replay.profilefile import write_profile
    from lmaas.reports.calibration import calibration_facts, calibration_told
    from lmaas.reports.terminal import show_sections
    from lmaas.reports.write import check_model_out

    screen: Screen = ctx.obj
    check_model_out(out)
    workspace = Workspace.open()
    opened = read_trace(screen, log, workspace, format=format, map=map, time_unit=time_unit)
    if not compiled():
        screen.say("compiling the replay kernel for this machine, once: about a quarter of a minute")
    given = Given(max_seqs, max_batch_tokens, kv_tokens, replicas, block, router)
    with screen.progress("calibrate") as progress:
        asked = (read_log(opened, service), given, name or opened.meta.name, fit_requests)
        found = labelled(calibrate(*asked, partial(progress, "fit")), model, gpu, tp)
    path = out or workspace.root / "profiles" / f"{opened.meta.trace_id[:12]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_profile(found.profile, path)
    if as_json:
        emit(0, file=str(path), **calibration_facts(found))
        return 0
    show_sections(calibration_told(found), screen.out())
    screen.say(f"\nProfile: {path}\nNext:    lmaas evaluate --policy preserve --profile {path}")
    return 0

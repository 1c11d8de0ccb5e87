"""`lmaas train`: a trace -> a stored predictor of output lengths, and how far off it is."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from . import evaluate_options as opt
from .options import Format, Json, Map, TimeUnit, TracePath, Until
from .reading import read_trace
from .screen import Screen

Kind = Annotated[str, typer.Option("--kind", metavar="NAME", help="Predictor: trees, buckets, input-bin or median.")]
Model = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write the model here, too; it is in the run's folder."),
]


def command(
    ctx: typer.Context,
    trace: TracePath = None,
    kind: Kind = "trees",
    train_fraction: opt.TrainFraction = 0.5,
    until: Until = None,
    seed: opt.Seed = 0,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    as_json: Json = False,
    out: Model = None,
) -> int:
    """Learn to predict output lengths at arrival from the first part of a trace; score it on the rest.

    \b
      lmaas train trace.parquet
      lmaas train --kind buckets --train-fraction 0.7
      lmaas train --until 7d --train-fraction 1 --out model.json

    Predictions go by what a router would know: never by what was not done when a request arrived.
    """
    from lmaas.analysis.lengths.kinds import PREDICTORS
    from lmaas.analysis.lengths.training import train
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.write import check_model_out, recording
    from lmaas.reports.write_lengths import write_training

    screen: Screen = ctx.obj
    PREDICTORS.load(kind)
    check_model_out(out)
    workspace = Workspace.open()
    opened = read_trace(screen, trace, workspace, format=format, map=map, time_unit=time_unit)
    asked = {"kind": kind, "train_fraction": train_fraction, "until": until, "seed": seed}
    with recording(workspace, "train", opened.meta.name, screen.argv, asked, None) as recorded:
        with screen.progress("train") as progress:
            result = train(opened, **asked, progress=partial(progress, opened.meta.name))  # type: ignore[arg-type]
        written, model = write_training(result, recorded, out)
    screen.say(f"Model:  {model}")
    screen.present(written, f"lmaas predict --model {model}", as_json=as_json)
    return written.exit_code

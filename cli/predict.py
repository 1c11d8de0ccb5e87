"""`lmaas predict`: a trace and a stored predictor -> the output length of every request, as of its arrival."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .options import Format, Json, Map, TimeUnit, TracePath
from .reading import read_trace
from .screen import Screen

Model = Annotated[Path, typer.Option("--model", metavar="FILE", help="What `lmaas train` wrote.")]
Rows = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write a row a request here: .parquet, .csv or .jsonl."),
]
Generated = Annotated[
    int | None,
    typer.Option(
        "--generated", metavar="TOKENS", min=1, help="Predict again what has generated so many tokens and goes on."
    ),
]


def command(
    ctx: typer.Context,
    model: Model,
    trace: TracePath = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    as_json: Json = False,
    out: Rows = None,
    generated: Generated = None,
) -> int:
    """Predict the output length of every request of a trace with a stored model; score it where outputs are known.

    \b
      lmaas predict --model model.json
      lmaas predict next_week.parquet --model model.json --out predictions.parquet
      lmaas predict running.parquet --model model.json --generated 500

    Requests that the model was trained on are predicted, but never scored.
    """
    from lmaas.analysis.lengths.modelfile import load
    from lmaas.analysis.lengths.predicting import predict
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.write import check_rows_out, recording
    from lmaas.reports.write_lengths import write_predictions

    screen: Screen = ctx.obj
    check_rows_out(out, trace, "--out")
    predictor, facts = load(model)
    workspace = Workspace.open()
    opened = read_trace(screen, trace, workspace, format=format, map=map, time_unit=time_unit)
    asked = {"model": str(model), "out": out, "generated": generated}
    with recording(workspace, "predict", opened.meta.name, screen.argv, asked, None) as recorded:
        with screen.progress("predict") as progress:
            tell = partial(progress, opened.meta.name)
            found = predict(opened, predictor, facts, generated=generated, progress=tell)
        written = write_predictions(found, recorded, out)
    screen.present(written, "lmaas evaluate --policy preserve", as_json=as_json)
    return written.exit_code

"""`lmaas forecast`: a trace -> how well its demand can be foretold, with intervals."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from .evaluate_options import TrainFraction
from .options import Format, Json, Label, Map, Out, TimeUnit, TracePath, Window, duration_s
from .reading import read_trace
from .screen import Screen

Models = Annotated[
    list[str] | None, Option("--model", metavar="M", help="Forecaster, such as auto, mstl or trees. Repeatable.")
]
Horizons = Annotated[
    list[float] | None,
    Option(
        "--horizon", metavar="TIME", parser=duration_s, help="From issue to the window's end, such as 1h. Repeatable."
    ),
]
ByTier = Annotated[bool, Option("--by-tier", help="Also by tier: the forecasts times trailing shares.")]
ByType = Annotated[bool, Option("--by-type", help="Also by request type: the forecasts times trailing shares.")]
ForecastsOut = Annotated[
    Path | None, Option("--forecasts-out", metavar="FILE", help="One row per forecast: .parquet, .csv or .jsonl.")
]


def command(
    ctx: typer.Context,
    trace: TracePath = None,
    model: Models = None,
    window: Window = None,
    horizon: Horizons = None,
    train_fraction: TrainFraction = 0.5,
    by_tier: ByTier = False,
    by_type: ByType = False,
    forecasts_out: ForecastsOut = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    label: Label = None,
    as_json: Json = False,
    out: Out = None,
) -> int:
    """Forecast demand per window with 80 and 95 % intervals, each forecast from what was known before it.

    \b
      lmaas forecast trace.parquet
      lmaas forecast --model auto --model mstl --horizon 10m --horizon 1d
      lmaas forecast --by-tier --forecasts-out forecasts.parquet

    docs/forecasts.md says what each model does; last-value, the floor, always stands beside them.
    """
    from lmaas.analysis import forecast
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.marks import Marks
    from lmaas.reports.write import check_rows_out, recording, write_forecasts

    screen: Screen = ctx.obj
    check_rows_out(forecasts_out, trace, "--forecasts-out")
    asked: dict[str, Any] = {
        "models": model or ["auto"],
        "window_s": window,
        "horizons_s": horizon or [],
        "train_fraction": train_fraction,
        "by_tier": by_tier,
        "by_type": by_type,
    }
    workspace = Workspace.open()
    opened = read_trace(screen, trace, workspace, format=format, map=map, time_unit=time_unit)
    with recording(workspace, "forecast", "-".join(asked["models"]), screen.argv, asked, out, Marks(label)) as recorded:
        with screen.progress("forecast") as progress:
            found = forecast(opened, **asked, progress=progress)
        written = write_forecasts(found, recorded, forecasts_out=forecasts_out)
    screen.present(written, "lmaas evaluate --policy preserve", as_json=as_json)
    return written.exit_code

"""`lmaas ingest`: a file of any format -> a trace of the workspace."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Format, Json, Map, TimeUnit, mapping
from .screen import Screen, emit


def command(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SRC", show_default=False, help="CSV, JSONL or Parquet file.")],
    name: Annotated[
        str | None, typer.Option("--name", "-o", metavar="NAME", help="Name of the trace; default: the file's.")
    ] = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    as_json: Json = False,
) -> int:
    """Read a trace into the workspace and make it the current one.

    \b
      lmaas ingest AzureLLMInferenceTrace_conv.csv
      lmaas ingest log.csv --time-unit ms --map arrival_s=ts \\
                           --map input_tokens=prompt --map output_tokens=gen

    Rows that cannot be used are set aside with the reason, never dropped silently.
    """
    from lmaas.analysis.ingest import ingest
    from lmaas.analysis.workspace import Workspace

    screen: Screen = ctx.obj
    trace = ingest(
        source,
        Workspace.open(),
        format=format,
        mapping=mapping(map),
        time_unit=time_unit,
        name=name,
        say=screen.say,
    )
    if as_json:
        emit(0, trace=trace.meta.model_dump(mode="json"))
        return 0
    from lmaas.reports.listing import ingested
    from lmaas.reports.terminal import show

    show(ingested(trace.meta), screen.out())
    screen.say(f"Next: lmaas analyze {trace.meta.name}")
    return 0

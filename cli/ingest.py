"""`lmaas ingest`: files of any format -> a trace of the workspace."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .options import Format, Json, Map, TimeUnit, mapping
from .reading import first_of
from .screen import Screen, emit


def command(
    ctx: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", show_default=False, help="CSV, JSON or Parquet files, folders, 'patterns'."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", "-o", metavar="NAME", help="Name of the trace; default: the file's.")
    ] = None,
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    service_per_file: Annotated[
        bool, typer.Option("--service-per-file", help="Where the format has no service: the file's name.")
    ] = False,
    anonymize: Annotated[
        bool, typer.Option("--anonymize", help="Hash tenants, sessions and ids; keep no text and no path.")
    ] = False,
    anonymize_names: Annotated[
        bool, typer.Option("--anonymize-names", help="The same, and hash services and regions.")
    ] = False,
    anonymize_key: Annotated[
        Path | None,
        typer.Option("--anonymize-key-file", metavar="FILE", help="The same hashes every time; default: a random key."),
    ] = None,
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Rows set aside keep prompts and answers, too.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Read a trace into the workspace and make it the current one.

    \b
      lmaas ingest AzureLLMInferenceTrace_conv.csv
      lmaas ingest log.csv --time-unit ms --map arrival_s=ts \\
                           --map input_tokens=prompt --map output_tokens=gen
      lmaas ingest code.csv conv.csv --service-per-file

    Several files make one trace, in order of arrival; they have to be of one format.
    Rows that cannot be used are set aside with the reason, never dropped silently.
    """
    from lmaas.analysis.anonymise import Anonymiser
    from lmaas.analysis.ingest import ingest
    from lmaas.analysis.workspace import Workspace

    screen: Screen = ctx.obj
    wanted = anonymize or anonymize_names or anonymize_key is not None
    with screen.progress("ingest") as progress:
        trace = ingest(
            sources,
            Workspace.open(),
            format=format,
            mapping=mapping(map),
            time_unit=time_unit,
            name=name,
            service_per_file=service_per_file,
            anonymiser=Anonymiser.of(anonymize_key, names=anonymize_names) if wanted else None,
            keep_text=keep_text,
            say=screen.say,
            progress=partial(progress, first_of(sources)),
        )
    if as_json:
        emit(0, trace=trace.meta.model_dump(mode="json"))
        return 0
    from lmaas.reports.listing import ingested
    from lmaas.reports.terminal import show

    show(ingested(trace.meta), screen.out())
    plain = trace.meta.name.isprintable() and not trace.meta.name.startswith("-")
    screen.say(f"Next: lmaas analyze {shlex.quote(trace.meta.name) if plain else trace.meta.trace_id}")
    return 0

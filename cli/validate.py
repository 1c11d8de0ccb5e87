"""`lmaas validate`: can this trace be trusted, and what would make it better?"""

from functools import partial
from typing import Annotated, Any

import typer

from lmaas.analysis.errors import Exit

from .options import Format, Json, Map, TimeUnit, mapping
from .reading import first_of
from .screen import Screen, emit


def command(
    ctx: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", show_default=False, help="Files, folders, 'patterns'; or a stored trace."),
    ],
    format: Format = None,
    map: Map = None,
    time_unit: TimeUnit = None,
    as_json: Json = False,
) -> int:
    """Judge a trace without storing it: GOOD, FAIR or POOR, every oddity, and what to do about each.

    \b
      lmaas validate log.csv --time-unit ms --map arrival_s=ts \\
                             --map input_tokens=prompt --map output_tokens=gen

    Exit code 4 for POOR, and for what is no trace at all; else 0.
    """
    from lmaas.analysis.validate import validate
    from lmaas.analysis.workspace import Workspace

    screen: Screen = ctx.obj
    how: dict[str, Any] = {"format": format, "mapping": mapping(map), "time_unit": time_unit}
    with screen.progress("validate") as progress:
        found = validate(
            sources, Workspace.open(), **how, say=screen.say, progress=partial(progress, first_of(sources))
        )
    code = Exit.OK if found.usable else Exit.INPUT
    if as_json:
        details = [{"verdict": f.verdict, "text": f.text, "hint": f.hint} for f in found.quality.details]
        emit(code, verdict=found.quality.verdict, findings=details, trace=found.trace.model_dump(mode="json"))
        return code
    from lmaas.reports.listing import validated
    from lmaas.reports.terminal import show

    show(validated(found), screen.out())
    return code

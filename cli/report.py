"""`lmaas report`: stored runs -> their report again, as one file to share."""

from pathlib import Path
from typing import Annotated

import typer

from . import complete
from .options import DecideBy, Json, Label
from .screen import Screen, emit

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        show_default=False,
        help="Names, their last four signs, `last`, or folders.",
        autocompletion=complete.runs,
    ),
]
ReportOut = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="Page to write (.html), or document (.json).")
]
Redact = Annotated[
    str | None, typer.Option("--redact", metavar="tenants", help="Labels in place of tenants, sessions and requests.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over a file that is there.")]


def command(
    ctx: typer.Context,
    runs: Runs,
    out: ReportOut = Path("report.html"),
    redact: Redact = None,
    label: Label = None,
    decide_by: DecideBy = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> int:
    """Render the report of stored runs again, several as one page; nothing is computed anew.

    \b
      lmaas report last
      lmaas report 7f3a 4e84 -o both.html
      lmaas report last --redact tenants --label 'For customers' -o to_share.html
    """
    from lmaas.analysis.stored import find_run
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.format import many
    from lmaas.reports.marks import Marks
    from lmaas.reports.render import render, write_rendered

    screen: Screen = ctx.obj
    workspace = Workspace.open()
    marks = Marks(label, decide_by)
    marks.check()
    content = marks.over(render([find_run(run, workspace) for run in runs], workspace, redact))
    written = write_rendered(content, out, overwrite=overwrite)
    if as_json:
        emit(0, report=str(written), title=content["title"])
    else:
        print(written)
        screen.say(f"{many(len(runs), 'run')}, {written.stat().st_size / 1e6:.1f} MB")
    return 0

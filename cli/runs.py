"""`lmaas runs`: the runs of the workspace listed, shown and removed."""

import sys
from typing import Annotated

import typer

from . import complete
from .lists import catalogue
from .options import Json
from .screen import Screen, emit

app = catalogue("the runs of the workspace", "runs", "run_listing")

Name = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's name, its last four signs, `last`, or folder.", autocompletion=complete.runs
    ),
]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", show_default=False, help="Likewise, in the workspace.", autocompletion=complete.runs
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")]


@app.command("show")
def show(ctx: typer.Context, name: Name, as_json: Json = False) -> int:
    """Show one run: what was asked, how it ended, what it left.

    \b
      lmaas runs show last
    """
    from lmaas.analysis.stored import find_run
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.run_listing import run_facts, run_told

    run = find_run(name, Workspace.open())
    if as_json:
        emit(0, **run_facts(run))
    else:
        ctx.obj.sections(run_told(run))
    return 0


@app.command("rm")
def rm(ctx: typer.Context, names: Names, yes: Yes = False, as_json: Json = False) -> int:
    """Remove runs with everything in their folders; asks first.

    \b
      lmaas runs rm 7f3a 4e84 --yes
    """
    from lmaas.analysis.errors import Exit, UserError
    from lmaas.analysis.stored import find_run, removable, remove_run
    from lmaas.analysis.workspace import Workspace

    screen: Screen = ctx.obj
    workspace = Workspace.open()
    runs = {run.path: run for run in (find_run(name, workspace) for name in names)}
    for run in runs.values():
        removable(run, workspace)
    if not yes and not sys.stdin.isatty():
        raise UserError("nobody is there to ask: add --yes to remove", Exit.USAGE)
    if not yes and not typer.confirm(f"Remove {', '.join(run.name for run in runs.values())}?", err=True):
        return 0
    for run in runs.values():
        remove_run(run, workspace)
        screen.say(f"removed {run.name}")
    if as_json:
        emit(0, removed=[run.name for run in runs.values()])
    return 0

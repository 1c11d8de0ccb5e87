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
OlderThan = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="What began, and replays last asked for, so long ago: 30d.", show_default=False),
]
ToSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="The oldest, until runs and replays take so much: 2GB.", show_default=False),
]
Named = Annotated[bool, typer.Option("--named", help="Runs with a label or a chosen name, too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")]
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
    from lmaas.analysis.stored import find_run, removable, remove_run
    from lmaas.analysis.workspace import Workspace

    screen: Screen = ctx.obj
    workspace = Workspace.open()
    runs = {run.path: run for run in (find_run(name, workspace) for name in names)}
    for run in runs.values():
        removable(run, workspace)
    if not confirmed(f"Remove {', '.join(run.name for run in runs.values())}?", yes):
        return 0
    for run in runs.values():
        remove_run(run, workspace)
        screen.say(f"removed {run.name}")
    if as_json:
        emit(0, removed=[run.name for run in runs.values()])
    return 0


@app.command("prune")
def prune(
    ctx: typer.Context,
    older_than: OlderThan = None,
    to_size: ToSize = None,
    named: Named = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Remove runs and kept replays that are old, or the oldest until the
    rest is small enough; asks first.

    \b
      lmaas runs prune --older-than 30d --dry-run
      lmaas runs prune --to-size 2GB --yes

    Runs with --out elsewhere are never removed; those with a --label or a
    --decide-by only with --named. Traces stay.
    """
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports import pruning

    workspace = Workspace.open()
    found = pruning.plan(workspace, older_than, to_size, named)
    if found.gone and not dry_run:
        if not confirmed(f"Remove {pruning.named(found)}?", yes):
            return 0
        pruning.remove(found, workspace)
    if as_json:
        emit(0, **pruning.facts(found, dry_run))
    else:
        ctx.obj.sections(pruning.told(found, dry_run))
    return 0


def confirmed(question: str, yes: bool) -> bool:
    """Whether to remove; UserError (exit 2) where nobody can be asked."""
    from lmaas.analysis.errors import Exit, UserError

    if not yes and not sys.stdin.isatty():
        raise UserError("nobody is there to ask: add --yes to remove", Exit.USAGE)
    return yes or typer.confirm(question, err=True)

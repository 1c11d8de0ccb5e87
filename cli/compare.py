"""`lmaas compare`: two stored evaluations -> what changed, and whether that is too much."""

from typing import Annotated

import typer

from . import complete
from .options import Json
from .screen import Screen, emit

Before = Annotated[
    str,
    typer.Argument(
        metavar="BEFORE", help="A run's name, its last four signs, `last`, or folder.", autocompletion=complete.runs
    ),
]
After = Annotated[str, typer.Argument(metavar="AFTER", help="Likewise.", autocompletion=complete.runs)]
FailIf = Annotated[
    list[str] | None,
    typer.Option("--fail-if", metavar="CHANGE", help="Such as 'gpu_hours>+2%'; exit 3 where it is so. Repeatable."),
]
Md = Annotated[bool, typer.Option("--md", help="Print Markdown, for a pull request.")]


def command(
    ctx: typer.Context, before: Before, after: After, fail_if: FailIf = None, md: Md = False, as_json: Json = False
) -> int:
    """Compare two runs of `lmaas evaluate`, policy by policy; of one trace with intervals and verdicts.

    \b
      lmaas compare runs/main runs/branch
      lmaas compare 7f3a last --md --fail-if 'gpu_hours>+2%, attain<-0.5pp'
      lmaas compare 7f3a last --fail-if 'ttft_p99>+50ms' --fail-if 'overall worse'
      lmaas compare 7f3a last --fail-if 'attain<-1pp @ tier=batch, tpot_p95 worse'

    Exit code 3 where a condition failed. What cannot be compared is said, and has no verdict.
    """
    from lmaas.analysis.stored import find_run
    from lmaas.analysis.workspace import Workspace
    from lmaas.policies.compare_runs import compare
    from lmaas.reports.runs_compared import comparison_facts, runs_compared

    screen: Screen = ctx.obj
    workspace = Workspace.open()
    found = compare(find_run(before, workspace), find_run(after, workspace), fail_if or [])
    if as_json:
        emit(found.exit_code, **comparison_facts(found))
    else:
        screen.sections(runs_compared(found), md=md)
    return found.exit_code

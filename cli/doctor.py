"""`lmaas doctor`: can this machine do the work, and what would help?"""

import typer

from .options import Json
from .screen import Screen, emit, printable


def command(ctx: typer.Context, as_json: Json = False) -> int:
    """Check Python, packages, workspace, disk, cores and the replay kernel; say what would help.

    \b
      lmaas doctor

    Exit code 8 where something is broken.
    """
    from lmaas.analysis.workspace import Workspace
    from lmaas.reports.doctor import MARKS, doctor, ending

    screen: Screen = ctx.obj
    checks = doctor(Workspace.open())
    code = ending(checks)
    if as_json:
        emit(code, checks=[check._asdict() for check in checks])
        return code
    for check in checks:
        print(printable(f"{MARKS[check.state]} {check.name:<13} {check.found}"))
        if check.helps:
            print(printable(f"{'':<16}→ {check.helps}"))
    screen.say("Nothing is broken." if code == 0 else "Something is broken: see ✗ above.")
    return code

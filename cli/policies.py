"""`lmaas policies`: policies and routers listed, and one of them shown."""

from typing import Annotated

import typer

from .lists import catalogue
from .options import Json
from .screen import emit

app = catalogue("policies and routers", "policies")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A policy's or router's, as `lmaas policies list` has it.")]


@app.command("show")
def show(ctx: typer.Context, name: Name, as_json: Json = False) -> int:
    """Show one policy or router: what it does, its source, its parameters with units and defaults.

    \b
      lmaas policies show preserve
      lmaas policies show scored --json
    """
    from lmaas.reports.policy_shown import policy_facts, policy_told

    if as_json:
        emit(0, **policy_facts(name))
    else:
        ctx.obj.sections(policy_told(name))
    return 0

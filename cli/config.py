"""`lmaas config`: the options that are set without being typed, and where each comes from."""

from typing import Annotated, Any

import typer

from .options import Json
from .screen import emit, printable
from .settings import OFF, PROJECT, defaults, settings, user_file

app = typer.Typer(rich_markup_mode=None, help="Show options that are set without being typed.")
Origin = Annotated[bool, typer.Option("--origin", help="Also where each comes from, and defaults.")]


@app.callback()
def _group() -> None:
    """Keeps `show` a word of its own."""


@app.command("show")
def show(ctx: typer.Context, origin: Origin = False, as_json: Json = False) -> int:
    """Show what environment and files set; a typed option comes before all of them.

    \b
      lmaas config show --origin
      lmaas config show --config night.toml

    Order: option, LMAAS_<COMMAND>_<OPTION>, --config FILE, ./lmaas.toml, ~/.config/lmaas/config.toml, default.
    """
    root: Any = ctx.find_root().command
    found = settings(root, ctx.obj.config)
    told = [(one.path, one.option) for one in found]
    found += [one for one in defaults(root) if origin and (one.path, one.option) not in told]
    if as_json:
        rows = [
            {"command": " ".join(one.path), "option": one.option, "values": list(one.values), "origin": one.origin}
            for one in found
        ]
        emit(0, settings=rows, files=[str(PROJECT.absolute()), str(user_file())])
        return 0
    for one in found:
        said = " ".join([f"--{one.option}", *(value for value in one.values if value != OFF)])
        print(printable(f"{' '.join(one.path)} {said}" + (f"   from {one.origin}" if origin else "")))
    if not found:
        ctx.obj.say(f"Nothing is set: neither LMAAS_<COMMAND>_<OPTION>, nor {PROJECT}, nor {user_file()}.")
    return 0

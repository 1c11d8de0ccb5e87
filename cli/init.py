"""`lmaas init`: a commented lmaas.toml, and a fleet file to fill in."""

from pathlib import Path
from typing import Annotated

import typer

from lmaas.analysis.errors import Exit, UserError

from .screen import Screen
from .settings import PROJECT

SETTINGS = """\
# Options of lmaas for this folder: [COMMAND], then options as on the command line without dashes, with their units.
# Typed options come first, then LMAAS_<COMMAND>_<OPTION>, this file, and ~/.config/lmaas/config.toml.
# `lmaas config show --origin` says what is in effect. Take the # away from what you want.

[evaluate]
# policy = ["preserve", "hpa(target=8)"]
# profile = "llama-3.1-8b/h100/tp1"
# fleet = "fleet.yaml"
# slo = ["ttft<1s, tpot<100ms @ tier=interactive-fast"]
# attain = "99%"
# gate = ["attain>=0.99", "ttft_p95<500ms @ tier=interactive-fast"]

[analyze]
# by = "service,tenant"
# window = "10m"
"""
FLEET = """\
# The fleet for `lmaas evaluate --fleet fleet.yaml` (docs/fleet.md). Everything is optional; times carry a unit.
# services:
#   chat:                                # as in the trace
#     profile: llama-3.1-8b/h100/tp1     # `lmaas profile list`, or a JSON file
#     usd_per_gpu_hour: 2.10
#     startup_s: {cold: 2m, warm: 60s}
# pools:                                 # those that differ from the defaults
#   - {service: chat, replicas: 6, min: 2, max: 24}
# regions:
#   default:
#     gpus: {H100-SXM-80GB: 64}
order: fcfs
"""
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if it is not there.")]
Fleet = Annotated[bool, typer.Option("--fleet", help="A fleet.yaml, too.")]


def command(ctx: typer.Context, folder: Folder = Path(), fleet: Fleet = False) -> int:
    """Write a commented lmaas.toml, and with --fleet a fleet file to fill in; nothing is overwritten.

    \b
      lmaas init --fleet
    """
    screen: Screen = ctx.obj
    files = {folder / PROJECT: SETTINGS} | ({folder / "fleet.yaml": FLEET} if fleet else {})
    for path in files:
        if path.exists() or path.is_symlink():
            raise UserError(f"{path}: is there already, and stays as it is", Exit.USAGE)
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        path.write_text(content)
        print(path)
    screen.say("Next: lmaas config show --origin")
    return 0

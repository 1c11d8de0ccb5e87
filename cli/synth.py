"""`lmaas synth`: a spec -> a synthetic trace."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .screen import Screen, emit


def command(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", show_default=False, help="Parquet file to write.")
    ],
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="TOML; default: the bundled sample's.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="In place of the spec's.")] = None,
    days: Annotated[float | None, typer.Option("--days", metavar="N", min=0.01, help="In place of the spec's.")] = None,
    as_json: Json = False,
) -> int:
    """Draw a synthetic trace from a small, documented model: same spec and seed, same bytes.

    \b
      lmaas synth -o trace.parquet --days 7 --seed 1
    """
    from importlib.resources import as_file, files

    from lmaas.analysis.synth import SynthSpec, synth

    screen: Screen = ctx.obj
    with as_file(files("lmaas.sample_traces") / "sample.toml") as bundled:
        loaded = SynthSpec.load(spec or bundled)
    changes = {k: v for k, v in (("seed", seed), ("days", days)) if v is not None}
    written = synth(SynthSpec.check(loaded.model_dump() | changes, str(spec or "the bundled spec")), out)
    if as_json:
        emit(0, trace=str(written))
    else:
        print(written)
        screen.say(f"Next: lmaas analyze {written}")
    return 0

"""`lmaas synth`: a spec, or statistics of clients -> a synthetic trace."""

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
    servegen: Annotated[
        Path | None, typer.Option("--servegen", metavar="FOLDER", help="Draw ServeGen's client statistics instead.")
    ] = None,
    requests_per_s: Annotated[
        float | None, typer.Option("--requests-per-s", metavar="N", min=1e-6, help="Mean of all, with --servegen.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Draw a synthetic trace from a small, documented model: same spec and seed, same bytes.

    \b
      lmaas synth -o trace.parquet --days 7 --seed 1
      lmaas synth -o trace.parquet --servegen m-large --requests-per-s 20
    """
    screen: Screen = ctx.obj
    if servegen is not None and spec is None:
        for note in _of_clients(servegen, out, seed or 0, days, requests_per_s):
            screen.say(note)
    elif servegen is not None or requests_per_s is not None:
        raise typer.BadParameter("--servegen stands in place of --spec, and --requests-per-s goes with it")
    else:
        _of_spec(spec, out, {k: v for k, v in (("seed", seed), ("days", days)) if v is not None})
    if as_json:
        emit(0, trace=str(out))
    else:
        print(out)
        screen.say(f"Next: lmaas analyze {out}")
    return 0


def _of_clients(folder: Path, out: Path, seed: int, days: float | None, requests_per_s: float | None) -> list[str]:
    from lmaas.analysis.synth import synth_clients

    return synth_clients(folder, out, seed, days, requests_per_s)


def _of_spec(spec: Path | None, out: Path, changes: dict[str, float]) -> None:
    from importlib.resources import as_file, files

    from lmaas.analysis.synth import SynthSpec, synth

    with as_file(files("lmaas.sample_traces") / "sample.toml") as bundled:
        loaded = SynthSpec.load(spec or bundled)
    synth(SynthSpec.check(loaded.model_dump() | changes, str(spec or "the bundled spec")), out)

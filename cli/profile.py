"""`lmaas profile`: GPU profiles listed, shown, fitted to measured step times, estimated from data sheets."""

from pathlib import Path
from typing import Annotated

import typer

from .lists import catalogue
from .options import Json
from .screen import Screen, emit

app = catalogue("GPU profiles", "profiles")

Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped profile, or a JSON file.")]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Such as llama-3.1-70b, or its repository.")]
Gpu = Annotated[str, typer.Option("--gpu", metavar="NAME", help="Such as h100, a40, mi300x.")]
Tp = Annotated[int, typer.Option("--tp", metavar="N", help="GPUs that share every layer.")]
Pp = Annotated[int, typer.Option("--pp", metavar="N", help="Pipeline stages.")]
Dtype = Annotated[str | None, typer.Option("--dtype", metavar="NAME", help="Of the weights: bf16, fp8, mxfp4, ...")]
ProfileOut = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the profile here (JSON).")]


@app.command("show")
def show(ctx: typer.Context, name: Name, as_json: Json = False) -> int:
    """Show one profile: coefficients with units, what they come to, its error and when to believe it.

    \b
      lmaas profile show llama-3.1-70b/h100/tp4/fp8
      lmaas profile show my_profile.json --json
    """
    from lmaas.replay.profile import find_profile

    return present(ctx.obj, find_profile(name), as_json)


@app.command("estimate")
def estimate(
    ctx: typer.Context,
    model: Model,
    gpu: Gpu,
    tp: Tp = 1,
    pp: Pp = 1,
    dtype: Dtype = None,
    as_json: Json = False,
    out: ProfileOut = None,
) -> int:
    """Estimate a profile that nobody has measured, from data sheets; its error is that of such estimates elsewhere.

    \b
      lmaas profile estimate --model llama-2-70b --gpu a40 --tp 8 --out a40.json
      lmaas evaluate --policy hpa --profile a40.json
    """
    from lmaas.replay.estimating.estimate import estimate as estimated
    from lmaas.replay.profilefile import write_profile
    from lmaas.reports.write import check_model_out

    check_model_out(out)
    profile = estimated(model, gpu, tp, pp, dtype)
    if out is not None:
        write_profile(profile, out)
        ctx.obj.say(f"Profile: {out}")
    return present(ctx.obj, profile, as_json)


def present(screen: Screen, profile: object, as_json: bool) -> int:
    """The profile on stdout."""
    from lmaas.replay.profile import Profile
    from lmaas.reports.profiles import facts, told
    from lmaas.reports.terminal import show_sections

    assert isinstance(profile, Profile)
    if as_json:
        emit(0, **facts(profile))
    else:
        show_sections(told(profile), screen.out())
    return 0

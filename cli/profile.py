"""`lmaas profile`: GPU profiles listed, shown, fitted to measured step times, estimated from data sheets."""

from functools import partial
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


Table = Annotated[Path, typer.Argument(metavar="TABLE", help="Measured step times: CSV or Parquet.")]
OfModel = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Rows of this model.")]
OfGpu = Annotated[str | None, typer.Option("--gpu", metavar="NAME", help="Rows of this hardware.")]
OfTp = Annotated[int | None, typer.Option("--tp", metavar="N", min=1, help="Rows of this tensor parallelism.")]
KvTokens = Annotated[
    int, typer.Option("--kv-tokens", metavar="N", min=1, help="KV cache size: the engine's log says it.")
]
MaxSeqs = Annotated[int, typer.Option("--max-seqs", metavar="N", min=1, help="Most requests that run at once.")]
MaxBatch = Annotated[int, typer.Option("--max-batch-tokens", metavar="N", min=1, help="Most tokens of an iteration.")]
Called = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of the profile; default: the file's.")]


@app.command("fit")
def fit(
    ctx: typer.Context,
    table: Table,
    kv_tokens: KvTokens,
    model: OfModel = None,
    gpu: OfGpu = None,
    tp: OfTp = None,
    max_seqs: MaxSeqs = 256,
    max_batch_tokens: MaxBatch = 8192,
    name: Called = None,
    as_json: Json = False,
    out: ProfileOut = None,
) -> int:
    """Fit a profile to measured step times; its error is of measurements that the fit has not seen.

    \b
      lmaas profile fit step_times.csv --model llama2-70b --gpu a100-80gb --tp 8 --kv-tokens 1395812 --out mine.json

    Columns: prompt_size, batch_size, token_size, prompt_time, token_time (ms); or time_s with prefill_tokens,
    decode_seqs, decode_context (docs/profiles.md).
    """
    from lmaas.replay.calibration.stepfit import fitted_profile
    from lmaas.replay.calibration.steptable import read_steps
    from lmaas.replay.profilefile import write_profile
    from lmaas.reports.profiles import steps_said
    from lmaas.reports.write import check_model_out

    check_model_out(out)
    engine = {"kv_tokens": kv_tokens, "max_seqs": max_seqs, "max_batch_tokens": max_batch_tokens}
    whose = {"model": model, "gpu": gpu, "tp": tp}
    with ctx.obj.progress("profile") as progress:
        steps = read_steps(table, model, gpu, tp)
        profile, found = fitted_profile(steps, name or table.stem, engine, whose, partial(progress, "fit"))
    for line in steps_said(steps, found):
        ctx.obj.say(line)
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

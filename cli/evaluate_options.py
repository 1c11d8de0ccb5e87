"""The options of `lmaas evaluate`, one name each."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from . import complete
from .options import duration_s, factor, share

Policies = Annotated[
    list[str] | None,
    Option(
        "--policy",
        metavar="P",
        help="Policy, such as preserve or 'hpa(target=8)'. Repeatable.",
        autocompletion=complete.policies,
    ),
]
ROUTER = "Router in place of the policies' own: a name, 'scored(kv=2)' or my_router.py:ROUTER."
Router = Annotated[str | None, Option("--router", metavar="R", help=ROUTER)]
Scaler = Annotated[str | None, Option("--scaler", metavar="S", help="Policy that scales, beside --router.")]
Profile = Annotated[
    str | None,
    Option("--profile", metavar="NAME|FILE", help="GPU profile of every service.", autocompletion=complete.profiles),
]
Fleet = Annotated[Path | None, Option("--fleet", metavar="FILE", help="Fleet file, YAML or TOML.")]
Slos = Annotated[
    list[str] | None,
    Option("--slo", metavar="SLO", help="Such as 'ttft_p95<500ms @ tier=interactive-fast'. Repeatable."),
]
Attain = Annotated[
    float, Option("--attain", metavar="SHARE", parser=share, help="Share of requests that must meet their SLOs.")
]
Gates = Annotated[
    list[str] | None,
    Option("--gate", metavar="EXPR", help="Such as 'ttft_p95<500ms @ service=chat'; exit 3 if it fails. Repeatable."),
]
GateMode = Annotated[Literal["fail", "warn"], Option("--gate-mode", help="What a failed gate does to the exit code.")]
Baselines = Annotated[
    list[str] | None, Option("--baseline", metavar="none|P", help="In place of the default baselines. Repeatable.")
]
TrainFraction = Annotated[
    float, Option("--train-fraction", metavar="SHARE", parser=share, help="First part of the trace, to learn from.")
]
WARMUP = "Replayed unscored before the evaluated part; default 600s."
Warmup = Annotated[float, Option("--warmup", metavar="TIME", parser=duration_s, show_default=False, help=WARMUP)]
LOAD = "Scale arrivals, such as 2x."
Load = Annotated[float, Option("--load", metavar="FACTOR", parser=factor, show_default=False, help=LOAD)]
RequestsOut = Annotated[
    Path | None, Option("--requests-out", metavar="FILE", help="One row per request: .parquet, .csv or .jsonl.")
]
Fidelity = Annotated[
    Literal["request", "window"],
    Option("--fidelity", help="Replay every request, or estimate from windows of demand and say how far off."),
]
Depth = Annotated[
    Literal["default", "full"],
    Option("--depth", help="full: also causes, sensitivity and cost at equal attainment, by many replays."),
]
SEEDS = "With --depth full: replays of everything, other start-up times and arrivals in each; default 3."
Seeds = Annotated[int | None, Option("--seeds", metavar="N", min=1, show_default=False, help=SEEDS)]
Seed = Annotated[int, Option("--seed", metavar="N", min=0, help="Of everything that is drawn.")]
JOBS = "Policies replayed at once, default 1; with --depth full processes, default all cores."
Jobs = Annotated[int | None, Option("--jobs", "-j", metavar="N", min=1, show_default=False, help=JOBS)]

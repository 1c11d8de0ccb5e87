"""Options shared by commands, and the units their values carry: a bare number is refused."""

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from lmaas.analysis.errors import UserError
from lmaas.analysis.units import parse_duration

from . import complete

NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"


def duration_s(value: str | float) -> float:
    """'10m' -> 600.0; usage error without a unit. Defaults come as numbers and stay what they are."""
    if not isinstance(value, str):
        return value
    try:
        seconds = parse_duration(value, "time")
    except UserError as error:
        raise typer.BadParameter(str(error)) from None
    if seconds < 0:
        raise typer.BadParameter(f"'{value}' is below 0")
    return seconds


def factor(value: str | float) -> float:
    """'2x' -> 2.0; usage error without the x, or not above 0."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(NUMBER + r"\s*x", value.strip())
    if not found:
        raise typer.BadParameter(f"'{value}' is no factor; write it with an x, such as 2x or 0.5x")
    if float(found[1]) == 0:
        raise typer.BadParameter(f"'{value}' leaves no load; write a factor above 0x")
    return float(found[1])


def share(value: str | float) -> float:
    """A number in [0, 1]; '99%' is one too."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(NUMBER + r"\s*(%?)", value.strip())
    number = float(found[1]) / (100 if found[2] else 1) if found else math.nan
    if not 0 <= number <= 1:
        raise typer.BadParameter(f"'{value}' is no share; write a number from 0 to 1, or a percentage such as 99%")
    return number


def pair(value: str) -> tuple[str, str]:
    """'field=column' -> (field, column); the column may itself hold '='."""
    field, equals, column = value.partition("=")
    if not (equals and field.strip() and column.strip()):
        raise typer.BadParameter(f"'{value}' maps nothing; write field=column, such as input_tokens=prompt_len")
    return field.strip(), column.strip()


TracePath = Annotated[
    str | None,
    typer.Argument(
        metavar="TRACE", show_default=False, help="File, folder or 'pattern', or an ingested trace's name.",
        autocompletion=complete.traces,
    ),
]  # fmt: skip
Format = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Trace format; default: found from the content.")
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Which column holds a field of the trace table. Repeatable."),
]
TimeUnit = Annotated[
    str | None,
    typer.Option(
        "--time-unit",
        metavar="UNIT",
        help="Unit of the time column, with --map: s, ms, ..., epoch-s, ..., datetime.",
    ),
]
Window = Annotated[
    float | None, typer.Option("--window", metavar="TIME", parser=duration_s, help="Length of a window, such as 10m.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="Only requests from then on: 2024-05-10, 2024-05-10T12:00Z, or 2h after the trace's start.",
    ),
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Only requests before then.")]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="EXPR", help="Only requests of which a DuckDB expression over the columns holds."),
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME,...", help="Break down by these: of service, region, tier, tenant."),
]
Compare = Annotated[
    str | None,
    typer.Option(
        "--compare",
        metavar="OTHER",
        help="Say what changed: against another trace, a period A..B of this one, or 1d before --since.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "--output-dir", metavar="DIR", help="Put the run directory here; default: in the workspace."),
]

Label = Annotated[
    str | None, typer.Option("--label", metavar="TEXT", help="Who may read the report, on its head: Internal.")
]
DecideBy = Annotated[
    str | None, typer.Option("--decide-by", metavar="DATE", help="By when it is to be decided, on the report's head.")
]


def mapping(pairs: list[str] | None) -> dict[str, str] | None:
    """The `--map` options together; usage error where a field is mapped twice."""
    if not pairs:
        return None
    found: dict[str, str] = {}
    for field, column in map(pair, pairs):
        if field in found:
            raise typer.BadParameter(f"'{field}' is mapped twice, to {found[field]} and {column}", param_hint="'--map'")
        found[field] = column
    return found

"""A router by what its user writes: a name or a file's, with parameters; and made ready to replay with."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmaas.analysis.calls import check_parameters, parse_call
from lmaas.analysis.errors import Exit, UserError

from .routers import REPLAY_SEED, ROUTERS, SEED, SEEDS, Router, Table

LARGEST = sys.float_info.max  # whole numbers may be larger


def find_router(text: str) -> Router:
    """The router a user names: NAME or FILE.py:NAME, either with (PARAMETER=VALUE, ...).

    UserError: 2 for a name or parameter that is not there or cannot be, 5 for a file that holds no such router.
    """
    from .routerfile import as_router, load_router

    name, given = parse_call(text, "router")
    path, colon, attribute = name.rpartition(":")
    if name.endswith(".py") or path.endswith(".py"):
        router = load_router(Path(path if colon else name), attribute if colon else "")
    else:
        router = as_router(ROUTERS.load(name), f"router '{name}'")
    check_parameters(given, list(router.params), f"router '{name}'")
    values = {p: _value(f"router '{text}': {p}", value, router.params[p]) for p, value in given.items()}
    if given.get("seed") == REPLAY_SEED:
        raise UserError(f"router '{text}': seed is {REPLAY_SEED:g}; it must be {SEED}", Exit.USAGE)
    try:
        return replace(router, params={**router.params, **values}) if given else router
    except ValueError as error:
        raise UserError(f"router '{text}': {error}", Exit.USAGE) from None


def check_router(text: str) -> None:
    """UserError where `find_router` would raise one; a built-in's plain name costs no import of numba."""
    if text not in ROUTERS.builtin:
        find_router(text)


def ready(router: str | Router, seed: int) -> Router:
    """The router to replay with: compiled, its seed set."""
    from .jit import compile_route

    found = find_router(router) if isinstance(router, str) else router
    compile_route(found.route)
    own = found.params.get("seed")
    if not isinstance(own, int | float):
        return found
    return replace(found, params={**found.params, "seed": float(int(seed if own < 0 else own) % SEEDS)})


def short_name(text: str) -> str:
    """A router's name beside a policy's: a file without its folders."""
    name, colon, rest = text.strip().partition(".py:")
    return f"{Path(name).name}{colon}{rest}" if colon else name


def _value(what: str, value: Any, default: float | Table) -> float | Table:
    """The value, which must be of the default's kind."""
    if isinstance(default, int | float):
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
            return float(value)
        raise UserError(f"{what}={value!r} is no number", Exit.USAGE)
    rows = value if isinstance(value, list | tuple) else []
    widths = {len(row) if isinstance(row, list | tuple) else 0 for row in rows}
    if len(widths) != 1 or widths == {0}:
        raise UserError(
            f"{what}={value!r} is no table; write rows of equal length, such as [[3, 1], [1, 2]]", Exit.USAGE
        )
    return [[float(_value(what, x, 0.0)) for x in row] for row in rows]  # type: ignore[arg-type]

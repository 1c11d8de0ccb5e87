"""Routers of a user's own file: `my_router.py:ROUTER` (docs/routers.md says how to write one)."""

import inspect
import sys
from functools import lru_cache
from hashlib import blake2b
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from numba import config
from numba.core.dispatcher import Dispatcher

from lmaas.analysis.errors import Exit, UserError

from .jit import ROUTE, compile_route
from .routers import Router

INTERPRETED = bool(getattr(config, "DISABLE_JIT", False))
ARGUMENTS = "request, replicas, ahead, flight, flight_start, params, memory, scores"
EXAMPLE = f"@lmaas.replay.jit.router over a function of ({ARGUMENTS}), or lmaas.replay.routers.Router of one"


def load_router(path: Path, name: str) -> Router:
    """The router under `name` in a Python file, compiled; UserError (exit 5) that says what was found instead."""
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        there = f"; that folder has {', '.join(beside[:10])}" if beside else ""
        raise UserError(
            f"{path}: no such file{there}. Write FILE.py:NAME, or a name of lmaas policies list", Exit.CONFIG
        )
    module = _module(path.resolve(), blake2b(path.read_bytes(), digest_size=6).hexdigest())
    if not hasattr(module, name):
        found = _routers_of(module)
        what = f"; it has {', '.join(found)}" if found else f"; it needs {EXAMPLE}"
        raise UserError(
            f"{path} has no router named '{name}'{what}: write {path.name}:{(found or ['NAME'])[0]}", Exit.CONFIG
        )
    return as_router(getattr(module, name), f"{path}:{name}")


def _routers_of(module: ModuleType) -> list[str]:
    """Names to write after FILE.py: Routers first, then bare functions, which come without parameters."""
    things = vars(module).items()
    bare = [n for n, thing in things if isinstance(thing, Dispatcher) and len(_arguments(thing)) == len(ROUTE.args)]
    return [n for n, thing in things if isinstance(thing, Router)] + bare


def _arguments(route: Any) -> list[str]:
    return list(inspect.signature(getattr(route, "py_func", route)).parameters)


@lru_cache
def _module(path: Path, digest: str) -> ModuleType:
    """The file, executed once for each of its versions; numba's cache knows a module by name and a file by content."""
    spec = spec_from_file_location(f"lmaas_router_{path.stem}_{digest}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may fail in any way
        del sys.modules[module.__name__]
        raise UserError(f"{path} cannot be loaded: {_said(error)}", Exit.CONFIG) from None
    return module


def as_router(thing: Any, where: str) -> Router:
    """A Router, or one made of a compiled function; UserError (exit 5) for what is neither."""
    if isinstance(thing, Router):
        check_route(thing.route, where)
        return thing
    check_route(thing, where)
    return Router(thing)


def check_route(route: Any, where: str) -> None:
    """UserError (exit 5) unless `route` is a compiled function of a router's arguments and answer."""
    if not isinstance(route, Dispatcher) and not (INTERPRETED and inspect.isfunction(route)):
        what = "a plain function" if inspect.isfunction(route) else f"of type {type(route).__name__}"
        raise UserError(f"{where} is {what}; it needs {EXAMPLE}", Exit.CONFIG)
    given = _arguments(route)
    if len(given) != len(ROUTE.args):
        raise UserError(
            f"{where} takes {len(given)} arguments ({', '.join(given)}); a router takes ({ARGUMENTS})", Exit.CONFIG
        )
    try:
        compile_route(route)
    except Exception as error:
        raise UserError(f"{where} cannot be compiled for {ROUTE}: {_said(error)}", Exit.CONFIG) from None


def _said(error: Exception) -> str:
    """An error in a line; numba's come with frames of underlining and advice."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("^", "<source", "During:", "Failed in"))]
    return f"{type(error).__name__}: {' '.join(lines)[:400]}"

"""How kernels are compiled: the router's fixed signature, and a cache key that sees every file.

Importing this module imports numba; only what replays may do so.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import f8, i8, njit, types

from lmaas.analysis.compiled import kept

from .linked import inner, unliteral

# route(request, replicas, ahead, flight, flight_start, params, memory, scores) -> row, SCORES, HOLD or OPEN
ROUTE = i8(f8[::1], f8[:, ::1], f8[:, ::1], f8[:, ::1], i8[::1], f8[::1], f8[::1], f8[::1])
ROUTE_TYPE = types.FunctionType(ROUTE)
Route = Any  # a function compiled for ROUTE

# no reference counts (nothing here allocates) and no way in from Python but the entry
_INNER = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, **inner}


def jit(function: Callable[..., Any]) -> Any:
    """A function of the kernel's."""
    return unliteral(njit(**_INNER)(function))  # type: ignore[call-overload]


def router(function: Callable[..., Any]) -> Any:
    """A router, compiled for ROUTE when first used: listing routers compiles none."""
    return kept(function)


def compile_route(route: Route) -> None:
    """Compile it for ROUTE, or load it from the cache; numba's error if it cannot be. Interpreted: nothing to do."""
    if hasattr(route, "compile"):
        route.compile(ROUTE)


def source_digest() -> int:
    """A number that changes with any kernel source.

    numba's cache watches the entry's own file only; the entry closes over this number, part of its key.
    """
    digest = hashlib.blake2b(digest_size=6)
    here = Path(__file__).parent
    compiling = [here / name for name in ("columns.py", "jit.py", "linked.py", "shortcuts.py")]
    for path in [*compiling, *sorted((here / "kernel").glob("*.py"))]:
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest(), "little")

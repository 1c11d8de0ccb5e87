"""How kernels are compiled: the router's fixed signature, and a cache key that sees every file.

Importing this module imports numba; only what replays may do so.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import f8, i8, njit, types

# route(request, replicas, ahead, flight, flight_start, params, memory, scores) -> index or SCORES
ROUTE = i8(f8[::1], f8[:, ::1], f8[:, ::1], f8[:, ::1], i8[::1], f8[::1], f8[::1], f8[::1])
ROUTE_TYPE = types.FunctionType(ROUTE)
Route = Any  # a function compiled for ROUTE

# Helpers are compiled into the cached entry. Inlined and without reference counts: a State is passed by value, and
# counting its arrays at every call made the kernel twenty times slower (nothing here allocates).
jit: Callable[[Callable[..., Any]], Any] = njit(forceinline=True, _nrt=False)  # type: ignore[call-overload]
# For what happens now and then (preemption, replicas coming and going): a call is cheaper than another copy to compile.
seldom: Callable[[Callable[..., Any]], Any] = njit(_nrt=False)  # type: ignore[call-overload]
router: Callable[[Callable[..., Any]], Any] = njit(ROUTE, cache=True, _nrt=False)  # type: ignore[call-overload]


KERNEL_FILES = (
    "columns.py", "jit.py", "heap.py", "state.py", "runs.py", "outlive.py", "replica.py", "fleetops.py", "kernel.py"
)  # fmt: skip


def source_digest() -> int:
    """A number that changes with any kernel source.

    numba's cache watches the entry's own file only; the entry closes over this number, part of its key.
    """
    digest = hashlib.blake2b(digest_size=6)
    for name in KERNEL_FILES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return int.from_bytes(digest.digest(), "little")

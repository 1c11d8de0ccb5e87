"""Functions that numba compiles. Importing this module imports numba (half a second): only what runs them may."""

from collections.abc import Callable
from typing import Any

from numba import njit


def kept(function: Callable[..., Any], *signature: Any, **options: Any) -> Any:
    """Jitted, its machine code kept in numba's cache: beside its file, else under the home directory.

    Where neither can be written (a read-only install without a home) it is compiled in every process.
    Without reference counts: nothing in it may allocate.
    """
    try:
        return njit(*signature, cache=True, _nrt=False, **options)(function)  # type: ignore[call-overload]
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(*signature, _nrt=False, **options)(function)  # type: ignore[call-overload]

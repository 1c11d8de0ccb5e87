"""Compiled solvers that print: what they say must not get into the one JSON object that standard output is."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_ONE_AT_A_TIME = Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """What is written to the process's standard output meanwhile is lost: for calls of a moment.

    HiGHS (in scipy 1.17) has a stray printf where a solution needs repair, which no option of scipy's switches off.
    """
    with _ONE_AT_A_TIME:
        try:
            kept = os.dup(1)
        except OSError:  # closed: there is nothing to keep clean
            yield
            return
        _flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nowhere)


def _flush() -> None:
    """Python's buffer, and C's, which a printf fills where standard output is no terminal."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()
    try:
        ctypes.CDLL(None).fflush(None)
    except (OSError, TypeError, AttributeError):  # no C library to ask (Windows)
        return

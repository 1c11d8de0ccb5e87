"""Folders of one process for as long as it needs them: a process that is killed leaves none for long."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

STALE_S = 86_400.0  # left by other machines: removed after a day; by this one: when their process is gone


@contextmanager
def own_folder(parent: Path, kind: str) -> Iterator[Path]:
    """A new folder in `parent`, hidden, whose name tells its kind and whose it is; gone at the end.

    Those of the same kind that killed processes left go first. OSError where it cannot be made.
    """
    remove_stale(parent, kind)
    folder = parent / f".{kind}-{_host_mark()}-{os.getpid()}-{uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(parent: Path, kind: str) -> None:
    """Remove what killed processes left behind."""
    for folder in parent.glob(f".{kind}-*"):
        host, _, rest = folder.name.removeprefix(f".{kind}-").partition("-")
        pid = rest.partition("-")[0]
        gone = host == _host_mark() and pid.isdecimal() and not _alive(int(pid))
        try:
            old = time.time() - folder.stat().st_mtime > STALE_S
        except FileNotFoundError:  # its process just finished
            continue
        if gone or old:
            shutil.rmtree(folder, ignore_errors=True)


def _host_mark() -> str:
    """Tells machines (and containers) that share the folder apart."""
    return blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no process id at all
        return True
    return True

"""Writing to the disk: whole or not at all, kept, and what it refuses told to the user."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from .errors import Exit, UserError
from .formats.source import shown

HOME = "LMAAS_HOME"


@contextmanager
def environment_errors(root: Path, *, out: bool = False) -> Iterator[None]:
    """What the disk or the permissions refuse, as a UserError (exit 8); out: at a place that the user named."""
    try:
        yield
    except OSError as error:
        why = error.strerror or shown(str(error))
        told = f"workspace {root}: cannot be written ({why}); set {HOME} to a folder that can"
        if out:
            told = f"{shown(str(root))}: cannot be written ({why}); name another place for it"
        raise UserError(told, Exit.ENVIRONMENT) from error


def write_atomically(path: Path, content: bytes) -> Path:
    """Write `path` whole or not at all: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}-{uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def sync(path: Path) -> None:
    """Ask the disk to keep `path` (a file, or a folder's list of names)."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders, and needs no sync of them
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

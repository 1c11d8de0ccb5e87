"""A profile written as the file that `--profile` takes: whole or not at all."""

import json
import os
from pathlib import Path

from .profile import Profile


def write_profile(profile: Profile, path: Path) -> None:
    """JSON of the fields that are known; OSError where it cannot be written."""
    content = profile.model_dump(mode="json", exclude_none=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)

"""A trained length predictor as a file: JSON with what it was trained on, checked in every part before it is used."""

import math
from collections.abc import Mapping
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from pydantic import ValidationError

from ..disk import environment_errors, write_atomically
from ..errors import Exit, UserError
from ..formats.shown import shown
from .boosters import Unfit, library_version
from .intervals import LEVELS
from .modelform import Facts, FileForm
from .modelparts import features_json, part_json, plain, predictor_of
from .predictor import LengthPredictor

SCHEMA_VERSION = "1.2"
WHAT = "output lengths"  # what the file says that it predicts
MAX_BYTES = 256 << 20


def save(predictor: LengthPredictor, facts: Facts, path: Path) -> None:
    """Write `predictor`; UserError (exit 2) for a kind from outside, which has no form here, 8 where it cannot be."""
    content: dict[str, Any] = {
        "lmaas_model": WHAT,
        "schema_version": SCHEMA_VERSION,
        "lmaas_version": metadata.version("lmaas"),
        "xgboost_version": library_version(),
        "levels": list(LEVELS),
        "trained": facts.model_dump(),
        "services": list(predictor.services),
        "edges": list(predictor.edges),
        "longest": predictor.longest if math.isfinite(predictor.longest) else None,
        "features": features_json(predictor.features) if predictor.features else None,
        "model": part_json(predictor.model),
        "spread": part_json(predictor.spread),
        "shift": None if predictor.shift is None else plain(predictor.shift),
        "rest": None if predictor.rest is None else plain(predictor.rest),
    }
    content = {"digest": _digest(content)} | content
    with environment_errors(path):
        write_atomically(path, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def load(path: Path) -> tuple[LengthPredictor, Facts]:
    """The predictor of a file; UserError (exit 5) where it is none, of another schema version, or changed since."""
    content = _read(path)
    if not isinstance(content, dict) or content.get("lmaas_model") != WHAT:
        raise _refused(path, "is no model of output lengths; `lmaas train` writes one")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise _refused(
            path,
            f"has schema version {shown(str(version), 20)}, lmaas {metadata.version('lmaas')} reads {SCHEMA_VERSION}; "
            "train it again",
        )
    told = content.pop("digest", None)
    if told != _digest(content):
        raise _refused(path, "was cut off or changed since it was written; train it again")
    try:
        read = FileForm.model_validate(content)
        return predictor_of(read), read.trained
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _refused(path, f"does not hold a predictor: {shown(where, 80)}: {first['msg']}") from None
    except (Unfit, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise _refused(path, f"does not hold a predictor: {shown(str(error), 200)}") from None


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, f"is larger than {MAX_BYTES >> 20} MiB, which no model is")
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise _refused(path, "is no file; `lmaas train` writes one") from None
    except orjson.JSONDecodeError as error:
        raise _refused(path, f"is no JSON ({shown(str(error), 100)}); `lmaas train` writes models") from None


def _digest(content: Mapping[str, Any]) -> str:
    """Of everything else in the file: finds damage and careless edits, and is no signature."""
    text = orjson.dumps(dict(content), option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return blake2b(text, digest_size=16).hexdigest()


def _refused(path: Path, why: str) -> UserError:
    return UserError(f"{shown(str(path), 200)} {why}", Exit.CONFIG)

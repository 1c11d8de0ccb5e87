"""A trained length predictor as a file: JSON with what it was trained on, checked in every part before it is used."""

import math
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import Exit, UserError
from ..formats.shown import shown
from ..workspace import environment_errors, write_atomically
from .boosters import Unfit, as_json, from_json, library_version
from .buckets import MIN_CLASSES, Buckets
from .features import CATEGORIES, NUMBERS, Features
from .floors import InputBin, Median
from .history import SCHEMA
from .intervals import LEVELS, Shift
from .overlap import KEPT
from .predictor import LengthPredictor
from .residual import Rest
from .trees import QuantileTrees, Trees

SCHEMA_VERSION = "1.2"
WHAT = "output lengths"  # what the file says that it predicts
MAX_BYTES = 256 << 20
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rows = list[list[Positive]]

TYPES: dict[type, str] = {
    Trees: "trees",
    QuantileTrees: "quantile-trees",
    Buckets: "buckets",
    InputBin: "input-bin",
    Median: "median",
}


class _Part(BaseModel):
    """Nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Facts(_Part):
    """What a predictor was trained on."""

    trace_id: str
    trace_name: str
    epoch: str | None  # ISO 8601; null where the trace's times are relative
    from_s: Finite  # first and last arrival of what was trained on
    to_s: Finite
    cut_s: Finite
    rows: int = Field(ge=0)
    kind: str
    seed: int
    note: str | None
    sketch: list[int] = Field(max_length=KEPT)  # overlap.sketch of these rows

    def told(self) -> dict[str, Any]:
        """As metrics.json has it."""
        return self.model_dump(exclude={"sketch"})


class _Past(_Part):
    service: list[str | None]
    tenant: list[str | None]
    session: list[str | None]
    arrival_s: list[Finite]
    done_s: list[Finite]
    input_tokens: list[Finite | None]
    output_tokens: list[Finite]


class _Features(_Part):
    levels: dict[Literal[CATEGORIES], list[str]]  # type: ignore[valid-type]
    numbers: list[Literal[tuple(NUMBERS)]]  # type: ignore[valid-type]
    history: _Past


class _Trees(_Part):
    type: Literal["trees"]
    booster: dict[str, Any]
    services: list[str]
    scale: list[Positive]


class _QuantileTrees(_Part):
    type: Literal["quantile-trees"]
    booster: dict[str, Any]


class _Buckets(_Part):
    type: Literal["buckets"]
    booster: dict[str, Any]
    edges: list[Positive]
    means: list[Positive]
    ends: list[Positive] = Field(min_length=2, max_length=2)


class _InputBin(_Part):
    type: Literal["input-bin"]
    services: list[str]
    mean: Rows
    quantile: list[Rows]


class _Median(_Part):
    type: Literal["median"]
    quantile: list[Positive] = Field(min_length=len(LEVELS), max_length=len(LEVELS))


class _Shift(_Part):
    services: list[str]
    factor: Rows


class _Rest(_Part):
    services: list[str]
    grid: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(min_length=1)
    tokens: list[Rows]


class _File(_Part):
    lmaas_model: Literal["output lengths"]
    schema_version: Literal["1.2"]
    lmaas_version: str
    xgboost_version: str
    levels: list[Finite]
    trained: Facts
    services: list[str]
    edges: list[Positive]
    longest: Positive | None
    features: _Features | None
    model: Annotated[_Trees | _Buckets | _InputBin | _Median, Field(discriminator="type")] | None
    spread: Annotated[_QuantileTrees | _Buckets | _InputBin | _Median, Field(discriminator="type")] | None
    shift: _Shift | None
    rest: _Rest | None


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
        "features": _features_json(predictor.features) if predictor.features else None,
        "model": _part_json(predictor.model),
        "spread": _part_json(predictor.spread),
        "shift": None if predictor.shift is None else _plain(predictor.shift),
        "rest": None if predictor.rest is None else _plain(predictor.rest),
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
        read = _File.model_validate(content)
        return _predictor(read), read.trained
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


def _predictor(read: _File) -> LengthPredictor:
    _require(read.levels == list(LEVELS), f"its quantiles are not {LEVELS}")
    _require(read.edges == sorted(set(read.edges)), "its edges do not rise")
    features = _features(read.features) if read.features else None
    model, spread = (_part(part, features) for part in (read.model, read.spread))
    shift = None
    if read.shift:
        shift = Shift(_names(read.shift.services), _matrix(read.shift.factor, len(read.shift.services) + 1))
        _require(shift.factor.shape[1] == len(LEVELS), "its shift has another number of quantiles")
    _require(spread is not None or shift is None, "it shifts quantiles that it has not")
    trained = read.trained
    rising = all(0 <= a < b < 1 << 64 for a, b in pairwise([0, *trained.sketch]))
    _require(rising, "its sketch of what it was trained on does not rise")
    zone = datetime.fromisoformat(trained.epoch).tzinfo if trained.epoch is not None else True
    _require(zone is not None, "its epoch has no zone")
    return LengthPredictor(
        trained.cut_s, trained.kind, trained.note, trained.rows, features, model, spread, shift, tuple(read.edges),
        math.inf if read.longest is None else read.longest, _names(read.services),
        _rest(read.rest, len(read.edges) + 1) if read.rest else None,
    )  # fmt: skip


def _features_json(features: Features) -> dict[str, Any]:
    history = {name: features.history[name].to_list() for name in SCHEMA}
    levels = {name: list(of) for name, of in features.levels.items()}
    return {"levels": levels, "numbers": list(features.numbers), "history": history}


def _features(part: _Features) -> Features:
    _require(len(set(part.numbers)) == len(part.numbers), "its features are named twice")
    columns = part.history.model_dump()
    _require(len({len(column) for column in columns.values()}) == 1, "its history's columns differ in length")
    order = [name for name in CATEGORIES if name in part.levels]
    _require(list(part.levels) == order, "its categories are in another order")
    levels = {name: _names(of) for name, of in part.levels.items()}
    return Features(levels, tuple(part.numbers), pl.DataFrame(columns, schema=SCHEMA))


def _part_json(part: Any) -> dict[str, Any] | None:
    if part is None:
        return None
    if type(part) not in TYPES:
        raise UserError(f"a predictor of {type(part).__name__} cannot be stored, only lmaas's own kinds", Exit.USAGE)
    return {"type": TYPES[type(part)], **_plain(part)}


def _plain(part: Any) -> dict[str, Any]:
    """A part's fields in JSON's types."""
    found = {}
    for name in part.__dataclass_fields__:
        value = getattr(part, name)
        if name == "booster":
            found[name] = as_json(value)
        else:
            found[name] = value.tolist() if isinstance(value, np.ndarray) else list(value)
    return found


def _part(part: Any, features: Features | None) -> Any:
    if part is None:
        return None
    if isinstance(part, _Median):
        return Median(np.array(part.quantile))
    if isinstance(part, _InputBin):
        services = _names(part.services)
        mean, quantile = _matrix(part.mean, len(services) + 1), np.array(part.quantile)
        _require(mean.shape[1] >= 1 and quantile.shape == (*mean.shape, len(LEVELS)), "its bins differ in number")
        return InputBin(services, mean, quantile)
    _require(features is not None, "it has trees and no features")
    types = features.types  # type: ignore[union-attr]
    if isinstance(part, _Trees):
        services = _names(part.services)
        _require(len(part.scale) == len(services) + 1, "its scale has another number of services")
        booster = from_json(part.booster, types=types, outputs=1, objective="reg:squarederror")
        return Trees(booster, services, np.array(part.scale))
    if isinstance(part, _QuantileTrees):
        return QuantileTrees(from_json(part.booster, types=types, outputs=len(LEVELS), objective="reg:quantileerror"))
    _require(len(part.means) == len(part.edges) + 1, "its buckets differ in number")
    _require(part.edges == sorted(part.edges) and part.ends[0] <= part.ends[1], "its buckets do not rise")
    outputs = max(len(part.means), MIN_CLASSES)
    booster = from_json(part.booster, types=types, outputs=outputs, objective="multi:softprob")
    return Buckets(booster, np.array(part.edges), np.array(part.means), (part.ends[0], part.ends[1]))


def _rest(part: _Rest, buckets: int) -> Rest:
    services, grid = _names(part.services), np.array(part.grid)
    _require(grid[0] == 0 and bool((np.diff(grid) > 0).all()), "its grid of tokens generated does not rise from 0")
    sizes = {(len(rows), *{len(row) for row in rows}) for rows in part.tokens}
    _require(
        len(part.tokens) == len(services) + 1 and sizes == {(buckets, len(grid))}, "its expected rests differ in size"
    )
    return Rest(services, grid, np.array(part.tokens))


def _matrix(rows: Rows, height: int) -> np.ndarray:
    _require(len(rows) == height and len({len(row) for row in rows}) == 1, "its tables differ in size")
    return np.array(rows, dtype=np.float64)


def _names(names: list[str]) -> tuple[str, ...]:
    _require(len(set(names)) == len(names), "it names something twice")
    return tuple(names)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unfit(otherwise)


def _digest(content: Mapping[str, Any]) -> str:
    """Of everything else in the file: finds damage and careless edits, and is no signature."""
    text = orjson.dumps(dict(content), option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return blake2b(text, digest_size=16).hexdigest()


def _refused(path: Path, why: str) -> UserError:
    return UserError(f"{shown(str(path), 200)} {why}", Exit.CONFIG)

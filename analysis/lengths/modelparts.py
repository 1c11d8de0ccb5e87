"""The parts of a length predictor to the form that is stored, and back: checked to go together."""

import math
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from ..errors import Exit, UserError
from .boosters import Unfit, as_json, from_json
from .buckets import MIN_CLASSES, Buckets
from .features import CATEGORIES, Features
from .floors import InputBin, Median
from .history import SCHEMA
from .intervals import LEVELS, Shift
from .modelform import (
    FeaturesForm,
    FileForm,
    InputBinForm,
    MedianForm,
    QuantileTreesForm,
    RestForm,
    Rows,
    TreesForm,
)
from .predictor import LengthPredictor
from .residual import Rest
from .trees import QuantileTrees, Trees

TYPES: dict[type, str] = {
    Trees: "trees",
    QuantileTrees: "quantile-trees",
    Buckets: "buckets",
    InputBin: "input-bin",
    Median: "median",
}


def predictor_of(read: FileForm) -> LengthPredictor:
    """The predictor that a file holds; Unfit where its parts do not go together."""
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


def features_json(features: Features) -> dict[str, Any]:
    """What trees look at, in JSON's types."""
    history = {name: features.history[name].to_list() for name in SCHEMA}
    levels = {name: list(of) for name, of in features.levels.items()}
    return {"levels": levels, "numbers": list(features.numbers), "history": history}


def _features(part: FeaturesForm) -> Features:
    _require(len(set(part.numbers)) == len(part.numbers), "its features are named twice")
    columns = part.history.model_dump()
    _require(len({len(column) for column in columns.values()}) == 1, "its history's columns differ in length")
    order = [name for name in CATEGORIES if name in part.levels]
    _require(list(part.levels) == order, "its categories are in another order")
    levels = {name: _names(of) for name, of in part.levels.items()}
    return Features(levels, tuple(part.numbers), pl.DataFrame(columns, schema=SCHEMA))


def part_json(part: Any) -> dict[str, Any] | None:
    """A kind in JSON's types; UserError (exit 2) for one from outside."""
    if part is None:
        return None
    if type(part) not in TYPES:
        raise UserError(f"a predictor of {type(part).__name__} cannot be stored, only lmaas's own kinds", Exit.USAGE)
    return {"type": TYPES[type(part)], **plain(part)}


def plain(part: Any) -> dict[str, Any]:
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
    if isinstance(part, MedianForm):
        return Median(np.array(part.quantile))
    if isinstance(part, InputBinForm):
        services = _names(part.services)
        mean, quantile = _matrix(part.mean, len(services) + 1), np.array(part.quantile)
        _require(mean.shape[1] >= 1 and quantile.shape == (*mean.shape, len(LEVELS)), "its bins differ in number")
        return InputBin(services, mean, quantile)
    _require(features is not None, "it has trees and no features")
    types = features.types  # type: ignore[union-attr]
    if isinstance(part, TreesForm):
        services = _names(part.services)
        _require(len(part.scale) == len(services) + 1, "its scale has another number of services")
        booster = from_json(part.booster, types=types, outputs=1, objective="reg:squarederror")
        return Trees(booster, services, np.array(part.scale))
    if isinstance(part, QuantileTreesForm):
        return QuantileTrees(from_json(part.booster, types=types, outputs=len(LEVELS), objective="reg:quantileerror"))
    _require(len(part.means) == len(part.edges) + 1, "its buckets differ in number")
    _require(part.edges == sorted(part.edges) and part.ends[0] <= part.ends[1], "its buckets do not rise")
    outputs = max(len(part.means), MIN_CLASSES)
    booster = from_json(part.booster, types=types, outputs=outputs, objective="multi:softprob")
    return Buckets(booster, np.array(part.edges), np.array(part.means), (part.ends[0], part.ends[1]))


def _rest(part: RestForm, buckets: int) -> Rest:
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

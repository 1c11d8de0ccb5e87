"""ServeGen's client statistics (Apache-2.0, alibaba/ServeGen): rates and lengths of each client, read and checked.

A folder holds two files a client: `chunk-N-trace.csv`, rows `t_s,rate_rps,cv,Gamma|Weibull,shape,scale` without a
header, and `chunk-N-dataset.json`, probabilities of lengths per window as the text of a Python dict, `"{39: 0.0003}"`.
"""

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from .errors import UserError
from .formats.source import DOCUMENT_LIMIT, shown
from .synth_spec import MAX_TOKENS

NAME = re.compile(r"chunk-(\d{1,9})-trace\.csv")
RATES = {
    "t_s": pl.Float64,
    "rate": pl.Float64,
    "cv": pl.Float64,
    "gaps": pl.String,
    "shape": pl.Float64,
    "scale": pl.Float64,
}
GAPS = ("Gamma", "Weibull")
LAST_WINDOW_S = 600.0  # of a client with a single window
LENGTHS = ("input_tokens", "output_tokens")
TEXT_LIMIT = 1 << 24  # characters of one distribution; real ones have some 100,000

F8 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts: `tokens` ascending, `up_to` the probability of at most as many."""

    tokens: npt.NDArray[np.uint32]
    up_to: F8

    def draw(self, chances: F8) -> npt.NDArray[np.uint32]:
        """A length for each of `chances`, uniform in [0, 1)."""
        return self.tokens[np.searchsorted(self.up_to, chances, side="right")]


@dataclass(frozen=True)
class Client:
    """One client of a service: arrays over its windows in which it asks; lengths as text, by their window's start."""

    service: str
    name: str
    start_s: F8
    window_s: F8
    rate: F8  # requests a second
    weibull: npt.NDArray[np.bool_]  # else Gamma
    shape: F8
    end_s: float  # of its last window, in which it may not ask
    lengths: dict[float, Mapping[str, str]]
    source: str  # the file of the lengths, as it may be printed

    @property
    def place(self) -> tuple[str, str]:
        """Its service and name: what tells it from the others."""
        return self.service, self.name

    def at(self, start_s: float) -> tuple[Lengths, Lengths]:
        """Distributions of input and output tokens that hold in the window that starts at a key of `lengths`."""
        first, second = (
            _pmf(self.lengths[start_s][name], f"{self.source}: {name} at {start_s:g} s") for name in LENGTHS
        )
        return first, second


def read_clients(folder: Path) -> list[Client]:
    """The clients of `folder`, a service, or of the folders in it; UserError (exit 4) where there are none."""
    if not folder.is_dir():
        raise UserError(f"{shown(str(folder))}: is no folder; give one of ServeGen's, with chunk-N-trace.csv files")
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
        services = {path: _numbers(path) for path in (folder, *inner)}
    except OSError as error:
        raise UserError(f"{shown(folder.name)}: cannot be read: {error.strerror}") from None
    clients = [_client(path, number) for path, numbers in services.items() for number in numbers]
    if not clients:
        raise UserError(
            f"{shown(folder.name)}: no chunk-N-trace.csv in it; give a folder of ServeGen's client statistics"
        )
    return clients


def _numbers(folder: Path) -> list[int]:
    return sorted(int(match[1]) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)))


def _client(folder: Path, number: int) -> Client:
    service = shown(folder.resolve().name) or "default"
    rates = _rates(folder / f"chunk-{number}-trace.csv")
    dataset = folder / f"chunk-{number}-dataset.json"
    start = rates["t_s"].to_numpy()
    ends = np.append(start[1:], start[-1] + (start[-1] - start[-2] if len(start) > 1 else LAST_WINDOW_S))
    asks = (rates["gaps"].is_not_null() & (rates["rate"] > 0)).to_numpy()
    return Client(
        service=service,
        name=f"client-{number}",
        start_s=start[asks],
        window_s=(ends - start)[asks],
        rate=rates["rate"].to_numpy()[asks],
        weibull=(rates["gaps"] == "Weibull").fill_null(False).to_numpy()[asks],
        shape=rates["shape"].to_numpy()[asks],
        end_s=float(ends[-1]),
        lengths=_lengths(dataset),
        source=shown(dataset.name),
    )


def _rates(path: Path) -> pl.DataFrame:
    expected = "expected rows t_s,rate,cv,Gamma|Weibull,shape,scale, ascending in t_s"
    try:
        rates = pl.read_csv(path, has_header=False, schema=RATES, glob=False)
    except OSError as error:
        raise UserError(f"{shown(path.name)}: cannot be read: {error.strerror}") from None
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{shown(path.name)}: {shown(str(error).splitlines()[0], 120)}; {expected}") from None
    asks = pl.col("gaps").is_not_null() & (pl.col("rate") > 0)
    fits = {
        "t_s": pl.col("t_s").is_finite() & (pl.col("t_s") >= 0) & (pl.col("t_s").diff() > 0).fill_null(True),
        "rate": pl.col("rate").is_finite() & (pl.col("rate") >= 0),
        "distribution": ~asks | pl.col("gaps").is_in(GAPS),
        "shape": ~asks | (pl.col("shape").is_finite() & (pl.col("shape") > 0)),
    }
    for name, fit in fits.items():
        bad = rates.with_row_index("line", offset=1).filter(~fit.fill_null(False))
        if not bad.is_empty():
            raise UserError(f"{shown(path.name)}: line {bad.item(0, 'line')}: no usable {name}; {expected}")
    if rates.is_empty():
        raise UserError(f"{shown(path.name)}: is empty; {expected}")
    return rates


def _lengths(path: Path) -> dict[float, Mapping[str, str]]:
    """Windows with lengths, by their start, ascending; those in which the client did not ask have none."""
    name, expected = shown(path.name), 'expected {"0": {"input_tokens": "{39: 0.0003, ...}", "output_tokens": ...}}'
    try:
        if path.stat().st_size > DOCUMENT_LIMIT:
            raise ValueError(f"more than {DOCUMENT_LIMIT >> 20} MB")
        windows = json.loads(path.read_bytes())
        found = {_start(start): fields for start, fields in windows.items()}
        empty = {start for start, fields in found.items() if any(not fields[key].strip("{} ") for key in LENGTHS)}
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from None
    except KeyError as error:
        fields = next(fields for fields in found.values() if not set(LENGTHS) <= set(fields))
        there = ", ".join(shown(str(key), 40) for key in list(fields)[:8])
        raise UserError(f"{name}: no {error.args[0]} in it, found {there}; only text requests can be drawn") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{name}: {shown(str(error), 120)}; {expected}") from None
    return {start: found[start] for start in sorted(found.keys() - empty)}


def _start(text: str) -> float:
    start = float(text)
    if not 0 <= start < math.inf:
        raise ValueError(f"window at {text}")
    return start


def _pmf(text: str, where: str) -> Lengths:
    """The dict that `text` writes down, never evaluated; its probabilities are scaled to sum to 1."""
    try:
        if len(text) > TEXT_LIMIT:
            raise ValueError(f"longer than {TEXT_LIMIT:,} characters")
        pairs = ast.literal_eval(text).items()
        tokens = np.array([_count(token) for token, _ in pairs], np.uint32)
        weights = np.array([_weight(weight) for _, weight in pairs], np.float64)
        total = weights.sum()
        if not 0 < total < math.inf:
            raise ValueError("probabilities that sum to nothing")
    except (ValueError, TypeError, SyntaxError, AttributeError, MemoryError, RecursionError) as error:
        why = shown(str(error).splitlines()[0] if str(error) else type(error).__name__, 80)
        raise UserError(f"{where}: no distribution of lengths ({why}); expected {{tokens: probability, ...}}") from None
    order = np.argsort(tokens, kind="stable")[weights[np.argsort(tokens, kind="stable")] > 0]
    up_to = np.cumsum(weights[order]) / total
    up_to[-1] = 1.0
    return Lengths(tokens[order], up_to)


def _count(value: Any) -> int:
    if type(value) not in (int, float) or not 0 <= value <= MAX_TOKENS or value != int(value):
        raise ValueError(f"{value!r:.40} tokens")
    return int(value)


def _weight(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e300:
        raise ValueError(f"probability {value!r:.40}")
    return float(value)

"""Request types of a policy: learned on lengths before the cut; of each request from its input and predicted output."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lmaas.analysis.trace import TIERS
from lmaas.replay.rates import Mix
from lmaas.replay.requests import Extension

from .oserve.kinds import TYPES, Kinds
from .prepare import Prepared
from .told import MEDIAN, TRUE, off

if TYPE_CHECKING:
    from .inputs import Inputs

MOST_TYPES = 16  # of a service: k-means on two lengths tells hardly more apart


@dataclass(frozen=True)
class Types:
    """How a policy tells types apart: how many of a service, and by whose word on output lengths (told.LENGTHS)."""

    count: int = TYPES
    lengths: str = MEDIAN
    length_error: float = 0.0


@dataclass(frozen=True)
class Typed:
    """requests: Prepared.requests with `type` (i8, 0 to count - 1, of the service); kinds: by service."""

    requests: pl.DataFrame
    kinds: dict[str, Kinds]


def typed(ready: Prepared, inputs: "Inputs", types: Types) -> Typed:
    """The type of every request as it is known at its arrival.

    Centres are those of what was done before the cut, by true lengths. A request's type is of its input and predicted
    output: of the training part, too, whose predictions are of a predictor that has seen it (arrivals are counted and
    replicas are sized by the type that a request would have been taken for).
    """
    known = ready.requests.filter(pl.col("done_s") < ready.cut_s)
    early = ready.requests.filter(pl.col("arrival_s") < ready.start_s)
    output = np.concatenate([_early(early, ready, inputs, types), inputs.lengths(types.lengths, types.length_error)])
    service, lengths = ready.requests["service"].to_numpy(), ready.requests["input_tokens"].to_numpy()
    found, kinds = np.zeros(len(output), np.int64), {}
    for name in ready.services:
        own = known.filter(pl.col("service") == name)
        kinds[name] = Kinds.fit(
            own["input_tokens"].to_numpy(), own["output_tokens"].to_numpy(), types.count, ready.seed
        )
        mine = service == name
        if mine.any():
            found[mine] = kinds[name].of(lengths[mine], output[mine])
    return Typed(ready.requests.with_columns(type=pl.Series(found)), kinds)


def _early(early: pl.DataFrame, ready: Prepared, inputs: "Inputs", types: Types) -> np.ndarray:
    """What is said of the outputs of requests that are not replayed, as of those that are."""
    if types.lengths == TRUE:
        true = early["output_tokens"].to_numpy().astype(np.float64)
        return np.maximum(off(true, types.length_error, ready.seed + 1), 1.0) if types.length_error else true
    if types.lengths == MEDIAN:
        return inputs.medians(early)
    return np.asarray(inputs.predictor(types.lengths).predict(early)) if early.height else np.zeros(0)


def mixes(training: pl.DataFrame, count: int) -> list[Mix]:
    """The lengths and limits of each type's requests, to load-test with; training: of one service, with `type`."""
    parts = [training.filter(pl.col("type") == j) for j in range(count)]
    return [
        Mix(
            part["input_tokens"].to_numpy().astype(np.int64),
            part["output_tokens"].to_numpy().astype(np.int64),
            part["limit_ttft_s"].to_numpy(),
            part["limit_tpot_s"].to_numpy(),
            part["limit_e2e_s"].to_numpy(),
            part["scored_tier"].replace_strict({t: k for k, t in enumerate(TIERS)}, return_dtype=pl.Int64).to_numpy(),
        )
        for part in parts
    ]


def widened(extension: Extension, ready: Prepared) -> Extension:
    """The extension table with a row a kind of request, which is of one service; as it is where kinds are services."""
    if not ready.kinds:
        return extension
    rows = len(extension.edges) + 1
    table = np.asarray(extension.tokens).reshape(-1, rows, len(extension.generated))
    of = np.array([ready.services.index(name) for name in ready.kinds]) % len(table)  # one for all: nobody outlives it
    return Extension(extension.generated, table[of].reshape(-1, len(extension.generated)), extension.edges)

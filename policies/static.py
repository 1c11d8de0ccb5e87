"""Fleets that never change: of a given size, or sized for the training part's peak or mean demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.fleet import DECODE, PREFILL, Fleet
from lmaas.replay.fleetfile import FleetSpec
from lmaas.replay.protocol import History

from .knobs import REPLICAS, Knob, check_headroom
from .planning import common_start, mu_table, own_counts, placed, pool_counts, size

MOST = 10_000  # replicas a pool: a gigabyte of state


@dataclass(frozen=True)
class Static:
    """`replicas` in every pool from the first arrival to the last completion, without start-up.

    They are of the pool's own kind; mixed ones stand beside them.
    prefill, decode: instead of `replicas` in the pools of that lane.
    """

    replicas: int
    prefill: int | None = None
    decode: int | None = None
    router: str = "least-requests"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None
    lengths: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("replicas", "prefill", "decode"):
            n = getattr(self, name)
            if (n is not None or name == "replicas") and (not isinstance(n, int) or not 1 <= n <= MOST):
                raise ValueError(f"{name} is {n!r}; a whole number from 1 to {MOST:,}")

    @property
    def knob(self) -> Knob | None:
        """What a matched search turns; none where lanes have counts of their own."""
        return REPLICAS if self.prefill is None and self.decode is None else None

    def start(self, fleet: Fleet, history: History) -> None:
        """Nothing to remember."""

    def initial(self, fleet: Fleet, history: History, state: None) -> Sequence[int]:
        """The same in every pool, or in every pool of a lane."""
        by_lane = {lane: n for lane, n in ((PREFILL, self.prefill), (DECODE, self.decode)) if n is not None}
        for lane in by_lane.keys() - {pool.lane for pool in fleet.pools}:
            raise UserError(f"static: {lane}={by_lane[lane]} and no pool has that lane (docs/fleet.md)", Exit.CONFIG)
        return [by_lane.get(pool.lane, self.replicas) for pool in fleet.pools]


@dataclass(frozen=True)
class CurrentState:
    """notes: where the fleet file does not say how many replicas run."""

    notes: tuple[str, ...]


@dataclass(frozen=True)
class Current:
    """The fleet as the fleet file describes it today, its pools' `replicas` and those mixed in, never changed."""

    router: str = "least-requests"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None
    lengths: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def start(self, fleet: Fleet, history: History) -> CurrentState:
        """What the file leaves open."""
        silent = [str(pool) for pool in fleet.pools if pool.initial is None]
        note = f"the fleet file names no replicas of {', '.join(silent)}; sized as other policies begin"
        return CurrentState((note,) if silent else ())

    def initial(self, fleet: Fleet, history: History, state: CurrentState) -> Sequence[int]:
        """The file's counts, else the common start's."""
        return common_start(fleet, history)


def described(spec: FleetSpec) -> bool:
    """Whether a fleet file says how many replicas run today, of at least one pool."""
    return any(pool.replicas is not None for pool in spec.pools)


@dataclass(frozen=True)
class _Sized:
    headroom: float = 0.0  # share added to the training demand
    router: str = "least-requests"

    foresight: ClassVar[bool] = False
    forecaster: ClassVar[str | None] = None
    lengths: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_headroom(self.headroom)

    def start(self, fleet: Fleet, history: History) -> None:
        """Nothing to remember."""

    def initial(self, fleet: Fleet, history: History, state: None) -> Sequence[int]:
        """What the summarised training demand needs at μ, beside the mixed ones."""
        series = history.window_demand.group_by("service", "origin", "metric")
        sized = series.agg(self._summary(pl.col("value"))).with_columns(
            start_s=pl.lit(history.start_s), length_s=pl.lit(history.window_s)
        )
        totals = pool_counts(size(placed(sized, fleet), mu_table(history.rates), self.headroom), fleet)
        # a pool without training demand and a minimum of 0 would serve nobody ever
        return [max(n, 0 if p.beside else 1) for n, p in zip(own_counts(fleet, totals), fleet.pools, strict=True)]

    def _summary(self, value: pl.Expr) -> pl.Expr:
        raise NotImplementedError


@dataclass(frozen=True)
class StaticPeak(_Sized):
    """Enough for the busiest window of the training part."""

    def _summary(self, value: pl.Expr) -> pl.Expr:
        return value.max()


@dataclass(frozen=True)
class StaticMean(_Sized):
    """Enough for the training part's mean demand."""

    def _summary(self, value: pl.Expr) -> pl.Expr:
        return value.mean()

"""What policies are fed: forecasts and length predictions, made once for all policies that ask alike."""

from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.windows import PRIOR_OUTPUT_TOKENS
from lmaas.replay.engine import NO_EXTENSION, Extension
from lmaas.replay.prefixes import Prefixes

from .ahead import Horizon, forecast_ahead, of_horizon
from .prepare import Prepared
from .rows import prefixes_of
from .sessions import Chains, chains
from .told import MEDIAN, TRUE, TRUTH, demand_off, off
from .typed import Typed, Types, typed


class Inputs:
    """Forecasts by (model, lead) and predictions by kind, computed on first use."""

    def __init__(self, ready: Prepared) -> None:
        self.ready = ready
        self._made: dict[Any, Any] = {}
        self._notes: set[str] = set()
        self._lock = Lock()
        self._locks: dict[Any, Lock] = {}  # by key: while one is made, others can be

    def _once(self, key: Any, make: Any) -> Any:
        with self._lock:
            mine = self._locks.setdefault(key, Lock())
        with mine:  # predictions ask for their predictor, never the other way round
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def demand(self, model: str, lead_s: float, error: float = 0.0) -> pl.DataFrame:
        """Rolling-origin forecasts of every window of the evaluated part, or the truth.

        error: of the truth, as told.demand_off injects it.
        """
        if error:
            key = ("truth", error)
            return self._once(key, lambda: demand_off(self.demand(TRUTH, 0.0), error, self.ready.seed))  # type: ignore[no-any-return]
        lead_s = 0.0 if model == TRUTH else lead_s  # known whenever it is asked for
        return self._once((model, lead_s), lambda: self._forecast(model, lead_s))  # type: ignore[no-any-return]

    def _forecast(self, model: str, lead_s: float) -> pl.DataFrame:
        from lmaas.analysis.forecasting.notes import by_kind
        from lmaas.analysis.forecasting.rolling import issue, truth

        ready = self.ready
        window_s, cut_s, end_s = ready.window_s, ready.cut_s, ready.horizon_s
        if model == TRUTH:
            return truth(ready.requests, window_s=window_s, cut_s=cut_s, end_s=end_s)
        made = issue(ready.requests, window_s=window_s, cut_s=cut_s, end_s=end_s, leads_s=[lead_s], model=model)
        self._notes |= by_kind(made.notes, model, window_s, made.series)
        return made.rows

    def ahead(self, model: str, horizon: Horizon, error: float = 0.0) -> pl.DataFrame:
        """Forecasts of a horizon (ahead.forecast_ahead), or the truth, off by `error`."""
        return self._once((model, horizon, error), lambda: self._ahead(model, horizon, error))  # type: ignore[no-any-return]

    def _ahead(self, model: str, horizon: Horizon, error: float) -> pl.DataFrame:
        from lmaas.analysis.forecasting.rolling import truth

        ready = self.ready
        requests = ready.requests if horizon.types is None else self.typed(horizon.types).requests
        if model != TRUTH:
            return forecast_ahead(
                requests, horizon, cut_s=ready.cut_s, end_s=ready.horizon_s, model=model, notes=self._notes
            )
        counted = of_horizon(requests, horizon)
        parts = [counted] if horizon.types is None else counted.sort("type").partition_by("type", maintain_order=True)
        table = pl.concat(
            truth(part, window_s=horizon.window_s, cut_s=ready.cut_s, end_s=ready.horizon_s).with_columns(
                type=pl.lit(None if horizon.types is None else str(part["type"][0]), pl.String)
            )
            for part in parts
        )
        table = demand_off(table, error, ready.seed) if error else table
        return table.filter(pl.col("metric") == horizon.metric)

    def typed(self, types: Types) -> Typed:
        """Every request's type (typed.typed)."""
        return self._once(("typed", types), lambda: typed(self.ready, self, types))  # type: ignore[no-any-return]

    def once(self, key: tuple[Any, ...], make: Any) -> Any:
        """What a policy makes of the training part, made on first use; key: of all that it depends on."""
        return self._once(("own", *key), make)

    def predictor(self, kind: str = "trees") -> Any:
        """The length predictor of told.LENGTHS trained on what was done before the cut."""
        from lmaas.analysis.lengths import strangers, train

        ready = self.ready

        def made() -> Any:
            predictor = train(ready.requests, cut_s=ready.cut_s, kind=kind, seed=ready.seed)
            if predictor.note:
                self._notes.add(f"output lengths: {predictor.note}")
            self._say_strangers(strangers(ready.replayed, predictor.services))
            return predictor

        return self._once(("predictor", kind), made)

    def _say_strangers(self, said: str | None) -> None:
        if said:
            self._notes.add(f"output lengths: {said}")

    def chains(self) -> Chains | None:
        """Which turn follows which among the replayed requests; None where sessions are open."""
        if self.ready.fleet.sessions != "closed":
            return None

        def link() -> Chains:
            found = chains(self.ready.replayed)
            self._notes |= set(found.notes)
            return found

        return self._once("chains", link)  # type: ignore[no-any-return]

    def prefixes(self) -> Prefixes | None:
        """Hash blocks of the replayed requests, where any are cached."""
        ready = self.ready
        if ready.prefixes is None:
            return None
        whole = ready.prefixes
        return self._once("prefixes", lambda: prefixes_of(ready.replayed, whole).packed())  # type: ignore[no-any-return]

    @property
    def notes(self) -> list[str]:
        """Where less was known than a policy asks for, a sentence each."""
        return sorted(self._notes)

    def lengths(self, kind: str | None, error: float = 0.0) -> np.ndarray:
        """f8 by replayed request: by a predictor of told.LENGTHS (None: the median), or true, off by `error`."""
        if kind == TRUE:
            true = self.ready.replayed["output_tokens"].to_numpy().astype(np.float64)
            # at least one token, as every answer has
            return np.maximum(off(true, error, self.ready.seed), 1.0) if error else true
        return self._once(("lengths", kind or MEDIAN), lambda: self._predicted(kind or MEDIAN))  # type: ignore[no-any-return]

    def _predicted(self, kind: str) -> np.ndarray:
        if kind == MEDIAN:
            return self.medians(self.ready.replayed)
        return np.asarray(self.predictor(kind).predict(self.ready.replayed))

    def medians(self, rows: pl.DataFrame) -> np.ndarray:
        """f8 by row: the median output of its service's requests that were done before the cut."""
        from lmaas.analysis.lengths import capped, strangers

        ready = self.ready
        known = ready.requests.filter(pl.col("done_s") < ready.cut_s)
        overall = known["output_tokens"].median() if known.height else PRIOR_OUTPUT_TOKENS
        if not known.height:
            self._notes.add(
                f"no request was done before the cut: outputs are taken to be {PRIOR_OUTPUT_TOKENS:g} tokens"
            )
        medians = known.group_by("service").agg(median=pl.col("output_tokens").median())
        self._say_strangers(strangers(rows, medians["service"].cast(pl.String)))
        joined = rows.join(medians, on="service", how="left", maintain_order="left")
        return capped(rows, joined["median"].fill_null(overall).to_numpy().astype(np.float64))

    def extension(self, kind: str | None, error: float = 0.0) -> Extension:
        """What outlived predictions grow by: the expected rest, learned before the cut.

        By service, and where a predictor tells requests of a service apart also by the bucket of what it says.
        """
        if kind == TRUE and not error:
            return NO_EXTENSION  # never outlived
        parted = kind if kind not in (None, TRUE, MEDIAN) else None
        return self._once(("extension", parted), lambda: self._rest(parted))  # type: ignore[no-any-return]

    def _rest(self, kind: str | None) -> Extension:
        from lmaas.analysis.lengths import known_by, residual_by_bucket, residual_table

        ready = self.ready
        if kind is None:
            edges: tuple[float, ...] = ()
            grid, tokens = residual_table(ready.requests.filter(pl.col("done_s") < ready.cut_s), ready.services)
        else:
            predictor = self.predictor(kind)
            known, edges = known_by(ready.requests, ready.cut_s), predictor.edges
            grid, tokens = residual_by_bucket(known, predictor.predict(known), edges, ready.services)
        rows = np.maximum(1, np.rint(tokens)).astype(np.int64).reshape(-1, len(grid))
        return Extension(grid.astype(np.int64), rows, np.floor(np.array(edges)).astype(np.int64))


class Varied(Inputs):
    """For other arrivals of the same requests: what was learned and forecast stays, the rest is made again."""

    def __init__(self, ready: Prepared, before: Inputs) -> None:
        super().__init__(ready)
        self.before = before

    def demand(self, model: str, lead_s: float, error: float = 0.0) -> pl.DataFrame:
        """As before."""
        return self.before.demand(model, lead_s, error)

    def ahead(self, model: str, horizon: Horizon, error: float = 0.0) -> pl.DataFrame:
        """As before."""
        return self.before.ahead(model, horizon, error)

    def once(self, key: tuple[Any, ...], make: Any) -> Any:
        """As before: made of the training part."""
        return self.before.once(key, make)

    def predictor(self, kind: str = "trees") -> Any:
        """As before."""
        return self.before.predictor(kind)

    def extension(self, kind: str | None, error: float = 0.0) -> Extension:
        """As before."""
        return self.before.extension(kind, error)

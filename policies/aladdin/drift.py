"""The relations of all services, and the lengths they were fitted to: fitted again where the mean lengths drift."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from lmaas.replay.fleet import DECODE, PREFILL, Fleet, Pool
from lmaas.replay.protocol import History, Seen

from .limits import Placement
from .relation import Relation, relations

ENOUGH = 500  # requests seen before their mean lengths are compared
FEW = 20  # known requests below which there is no relation


@dataclass
class Mix:
    """A service's lengths: known before the start, and how much longer those seen since are.

    times_in, times_out: the factors that the relation in use was fitted with. seen: requests, their input tokens,
    completions, their output tokens, since the last comparison that had ENOUGH.
    """

    known: pl.DataFrame
    worker_s: float
    running: float
    times_in: float = 1.0
    times_out: float = 1.0
    seen: np.ndarray = field(default_factory=lambda: np.zeros(4))
    fits: int = 0

    def drifted(self, share: float) -> tuple[float, float] | None:
        """(times_in, times_out) where a mean length is off by more than `share` of what was fitted; None: it is not."""
        requests, inputs, completions, outputs = self.seen.tolist()
        if min(requests, completions) < ENOUGH:
            return None
        self.seen = np.zeros(4)
        now_in = inputs / requests / float(self.known["input_tokens"].mean())  # type: ignore[arg-type]
        now_out = outputs / completions / float(self.known["output_tokens"].mean())  # type: ignore[arg-type]
        off = max(abs(now_in / self.times_in - 1), abs(now_out / self.times_out - 1))
        return (now_in, now_out) if off > share else None

    def lengths(self) -> pl.DataFrame:
        """The known requests, as much longer as those seen."""
        return self.known.with_columns(
            (pl.col(name).cast(pl.Float64) * times).round().clip(1).cast(pl.Int64)
            for name, times in (("input_tokens", self.times_in), ("output_tokens", self.times_out))
        )


@dataclass
class Mixes:
    """Every service's mix and relations, the latter by lane."""

    fleet: Fleet
    placement: Placement
    cover: float
    drift: float
    of_service: dict[str, Mix]
    relations: dict[tuple[str, str], Relation] = field(default_factory=dict)
    looked_s: float = -np.inf

    @classmethod
    def of(cls, fleet: Fleet, history: History, placement: Placement, cover: float, drift: float) -> "Mixes":
        """Of the training part; nothing is fitted yet."""
        rates = {(row["service"], row["lane"]): row for row in history.rates.iter_rows(named=True)}
        found = {}
        for service in placement.limits:
            known = history.known
            known = known.filter(pl.col("service") == service) if known.height else known
            lane = next(pool.lane for pool in fleet.pools if pool.service == service and pool.lane != PREFILL)
            row = rates[service, lane]
            if known.height >= FEW:
                found[service] = Mix(known, float(row["requests_s"]), float(row["mean_running"]))
        return cls(fleet, placement, cover, drift, found)

    def fit(self, service: str | None = None) -> None:
        """Simulate and fit the relations of a service, or of all."""
        for name, mix in self.of_service.items():
            if service in (None, name):
                pools = self.pools(name)
                alone = self.placement.alone(name)
                worker_s = mix.worker_s / max(mix.times_in, mix.times_out)
                found = relations(self.fleet, pools, mix.lengths(), alone, worker_s, mix.running, self.cover)
                self.relations |= {(name, pool.lane): one for pool, one in zip(pools, found, strict=True)}
                mix.fits += 1

    def pools(self, service: str) -> list[Pool]:
        """One of each of the service's lanes, prefill before decode; of a service with both only these."""
        by_lane = {pool.lane: pool for pool in reversed(self.fleet.pools) if pool.service == service}
        if PREFILL in by_lane:
            return [by_lane[PREFILL], by_lane[DECODE]]
        return [next(iter(by_lane.values()))]

    def workers(self, p: int, requests_s: float) -> int:
        """What the relation of pool p says; 0 where there is none."""
        pool = self.fleet.pools[p]
        relation = self.relations.get((pool.service, pool.lane))
        return relation.workers(requests_s) if relation else 0

    def look(self, t: float, seen: Seen) -> None:
        """Count what came and completed since the last look; a plan and a step at one instant see the same."""
        if t == self.looked_s:
            return
        self.looked_s = t
        for p, pool in enumerate(self.fleet.pools):
            mix = self.of_service.get(pool.service)
            if mix is None:
                continue
            if pool.lane != DECODE:
                mix.seen[:2] += seen.arrivals[p], seen.arrived_input_tokens[p]
            if pool.lane != PREFILL:
                mix.seen[2:] += seen.completions[p], seen.completed_output_tokens[p]

    def refit(self) -> None:
        """Fit anew where lengths have drifted."""
        for service, mix in self.of_service.items():
            found = mix.drifted(self.drift)
            if found is not None:
                mix.times_in, mix.times_out = found
                self.fit(service)

    def said(self) -> list[str]:
        """The relations in sentences."""
        lines = []
        for (service, lane), one in self.relations.items():
            times = self.of_service[service].fits
            lines.append(
                f"{service}/{lane}: N = ceil({one.k5:.3g} r + {one.c5:.2g}) workers at r requests/s, off by "
                f"{one.off:.2g} over {len(one.rates)} simulated rates; fitted {times} time{'s' if times > 1 else ''}"
            )
        return lines

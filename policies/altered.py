"""What of the world is otherwise than the trace and the fleet file say, for the whole trace: learned from, too."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from lmaas.replay.fleet import Fleet
from lmaas.replay.profile import Profile


@dataclass(frozen=True)
class Altered:
    """Factors, 1: as it is. load: of the arrivals (load.scale_load); output: of output lengths; slo: of all limits.

    startup: of all start-up times; startup_s: these instead, where there are none to multiply. price: of the GPUs
    called `gpu`; None: of all.
    """

    load: float = 1.0
    output: float = 1.0
    startup: float = 1.0
    startup_s: float | None = None
    slo: float = 1.0
    price: float = 1.0
    gpu: str | None = None

    def lengths(self, requests: pl.DataFrame) -> pl.DataFrame:
        """The requests with their output_tokens (whole, at least 1) and max_tokens."""
        if self.output == 1:
            return requests
        names = [name for name in ("output_tokens", "max_tokens") if name in requests.columns]
        longer = [(pl.col(name) * self.output).round().clip(1).cast(requests.schema[name]) for name in names]
        return requests.with_columns(longer)

    def limits(self, requests: pl.DataFrame) -> pl.DataFrame:
        """The requests with their limits."""
        return requests if self.slo == 1 else requests.with_columns(pl.col("^limit_.*_s$") * self.slo)

    def fleet(self, fleet: Fleet) -> Fleet:
        """The fleet with its profiles' start-up times and prices."""
        if (self.startup, self.startup_s, self.price) == (1, None, 1):
            return fleet
        return with_profiles(fleet, self._profile)

    def _profile(self, profile: Profile) -> Profile:
        start, price = profile.startup_s, profile.usd_per_gpu_hour
        if self.startup_s is not None:
            times = dict.fromkeys(("cold", "warm", "swap"), self.startup_s)
        else:
            times = {name: getattr(start, name) * self.startup for name in ("cold", "warm", "swap")}
        if price is not None and self.gpu in (None, profile.gpu):
            price *= self.price
        return profile.model_copy(update={"startup_s": start.model_copy(update=times), "usd_per_gpu_hour": price})


AS_IT_IS = Altered()


def with_profiles(fleet: Fleet, other: Callable[[Profile], Profile]) -> Fleet:
    """The fleet with every profile replaced."""
    pools = [
        replace(pool, profile=other(pool.profile), mixed=tuple((other(kind), n) for kind, n in pool.mixed))
        for pool in fleet.pools
    ]
    return replace(fleet, pools=tuple(pools))

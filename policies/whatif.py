"""A replay with one thing changed that the policy does not know of: what its misses would have been without it."""

from bisect import bisect_right
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from lmaas.replay.engine import Controller
from lmaas.replay.fleet import Fleet
from lmaas.replay.profile import Profile
from lmaas.replay.protocol import Actions, Seen

from .altered import with_profiles

Script = tuple[tuple[float, tuple[int, ...]], ...]  # (from s, replicas a pool), rising
BALANCED = "least-outstanding"


@dataclass(frozen=True)
class WhatIf:
    """instant_start: replicas are ready when asked for, at the times they were; unlimited_kv: no cache is ever full.

    balanced: to the replica with the fewest outstanding tokens, lengths known, whatever the policy's router. script:
    this fleet instead of what the policy decides, ready at once and unbounded.
    """

    instant_start: bool = False
    unlimited_kv: bool = False
    balanced: bool = False
    script: Script | None = None

    def fleet(self, fleet: Fleet, requests: pl.DataFrame) -> Fleet:
        """That the replay runs on, for these requests; the policy decides by its own."""
        if self.unlimited_kv:
            tokens = sum(requests[name].to_numpy().astype(np.int64) for name in ("input_tokens", "output_tokens"))
            longest = int(np.max(tokens))

            def roomy(profile: Profile) -> Profile:
                each = (longest // profile.block + 1) * profile.block  # whole blocks for every sequence that may run
                return profile.model_copy(update={"kv_tokens": max(profile.kv_tokens, each * profile.max_seqs)})

            return with_profiles(fleet, roomy)
        if self.script is not None:
            pools = tuple(replace(pool, minimum=0, maximum=None) for pool in fleet.pools)
            return replace(fleet, pools=pools, inventory={})
        return fleet

    def controller(self, begin_s: float) -> tuple[list[int], Controller] | None:
        """(replicas a pool to begin with, who changes them); None: the policy."""
        if self.script is None:
            return None
        times = [t for t, _ in self.script]
        first = max(0, bisect_right(times, begin_s) - 1)

        def after(t: float) -> float:
            at = bisect_right(times, t)
            return times[at] if at < len(times) else np.inf

        def act(t: float, seen: Seen) -> Actions:
            return Actions(dict(enumerate(self.script[bisect_right(times, t) - 1][1])))  # type: ignore[index]

        return list(self.script[first][1]), Controller(after, act)


AS_IT_WAS = WhatIf()


def script_of(spans: pl.DataFrame, pools: int, times: int = 1) -> Script:
    """Active replicas a pool from every moment on at which they change, `times` as many (Outcome.spans).

    The last ones stay: that they go when all is done says nothing.
    """
    active = spans.filter(pl.col("state") == "active")
    steps = pl.concat([
        active.select("pool", at_s="from_s", step=pl.lit(1)), active.select("pool", at_s="to_s", step=pl.lit(-1)),
    ]).filter(pl.col("at_s") < active["to_s"].max())  # fmt: skip
    counts, found = np.zeros(pools, np.int64), []
    for (at_s,), group in steps.sort("at_s").group_by("at_s", maintain_order=True):
        np.add.at(counts, group["pool"].to_numpy(), group["step"].to_numpy())
        found.append((float(at_s), tuple(int(times * n) for n in counts)))  # type: ignore[arg-type]
    return tuple(found)

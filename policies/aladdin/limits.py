"""What Aladdin's placement holds requests to: TTFT and average time a token by service and tier, and its parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from lmaas.analysis.trace import TIERS
from lmaas.replay.fleet import Fleet
from lmaas.replay.protocol import History

NONE_S = 1e9  # no limit: a number the router takes
TTFT_S, ATGT_S = 1.0, 0.1  # where neither the policy nor an SLO of a known request says one


@dataclass(frozen=True)
class Placement:
    """The router's parameters: shares theta to plan with, gamma (mean progress), limits by service and tier; no_harm.

    limits: service -> [(ttft_s, atgt_s) by tier], in the order of the fleet's services.
    """

    theta_ttft: float
    theta_atgt: float
    gamma: float
    heartbeat_s: float
    limits: dict[str, list[tuple[float, float]]]
    no_harm: bool = True  # constraint (c)

    @property
    def router(self) -> str:
        """The router as users write it."""
        rows = [[x for pair in pairs for x in pair] for pairs in self.limits.values()]
        return (
            f"aladdin(theta_ttft={self.theta_ttft!r}, theta_atgt={self.theta_atgt!r}, gamma={self.gamma!r}, "
            f"heartbeat_s={self.heartbeat_s!r}, no_harm={int(self.no_harm)}, limits={rows!r})"
        )

    def of(self, service: str, tier: int) -> tuple[float, float]:
        """(ttft_s, atgt_s)."""
        return self.limits[service][tier]

    def alone(self, service: str) -> "Placement":
        """The same, of one service only: what a fleet of it alone takes."""
        return replace(self, limits={service: self.limits[service]})


def limits_of(
    fleet: Fleet, history: History, ttft_s: float | None, atgt_s: float | None
) -> dict[str, list[tuple[float, float]]]:
    """(TTFT, time a token) by service and tier: what is given, else the SLO's, less the engine's overhead.

    SLOs are those of the training part's requests; a tier that none of them has takes the tightest of its service.
    """
    found = {}
    for service in dict.fromkeys(pool.service for pool in fleet.pools):
        overhead_s = max(pool.profile.overhead_s for pool in fleet.pools if pool.service == service)
        known = _by_tier(history.known, service)
        tightest = tuple(min((pair[k] for pair in known.values()), default=default) for k, default in enumerate(
            (TTFT_S, ATGT_S)
        ))  # fmt: skip
        pairs = [known.get(tier, tightest) for tier in TIERS]
        found[service] = [
            (
                ttft_s if ttft_s is not None else max(min(ttft, NONE_S) - overhead_s, 1e-3),
                atgt_s if atgt_s is not None else min(atgt, NONE_S),
            )
            for ttft, atgt in pairs
        ]
    return found


def _by_tier(known: pl.DataFrame, service: str) -> dict[str, Sequence[float]]:
    if not known.height:
        return {}
    own = known.filter(pl.col("service") == service)
    limits = own.group_by("scored_tier").agg(pl.min("limit_ttft_s"), pl.min("limit_tpot_s"))
    return {tier: (ttft, tpot) for tier, ttft, tpot in limits.iter_rows()}

"""A fleet as the resolved configuration tells it."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .fleet import Fault, Fleet
from .profile import Profile


def describe(fleet: Fleet) -> list[Mapping[str, Any]]:
    """One row a pool for the resolved configuration: pool, profile, provenance, GPUs, price, start, bounds."""
    return [
        {
            "pool": str(pool),
            "service": pool.service,
            **_described(pool.profile),
            "initial": pool.initial,
            "mixed": [{"replicas": n, **_described(profile)} for profile, n in pool.mixed],
            "minimum": pool.minimum,
            "maximum": pool.maximum,
        }
        for pool in fleet.pools
    ]


def _described(profile: Profile) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "provenance": profile.provenance,
        "error": profile.error,
        "gpu": profile.gpu,
        "gpus_per_replica": profile.gpus_per_replica,
        "usd_per_gpu_hour": profile.usd_per_gpu_hour,
        "startup_s": profile.startup_s.model_dump(),
    }


def conditions(fleet: Fleet) -> dict[str, Any]:
    """The fleet beyond its pools for the resolved configuration; until_s null: for good, latency_s by region's name."""
    return {
        "regions": list(fleet.regions),
        "latency_s": {a: {b: fleet.network_s(a, b) for b in fleet.regions} for a in fleet.regions},
        "inventory": {region: dict(gpus) for region, gpus in fleet.inventory.items()},
        "faults": [_fault(fleet, fault) for fault in fleet.faults],
        "clients": None if fleet.clients is None else asdict(fleet.clients),
        "order": fleet.order,
        "region_choice": asdict(fleet.region_choice),
        "hold": None if fleet.hold is None else {**asdict(fleet.hold), "tiers": list(fleet.hold.tiers)},
        "prefix_cache": fleet.prefix_cache,
        "kv_bandwidth_gb_s": fleet.kv_bandwidth_gb_s,
        "sessions": fleet.sessions,
    }


def _fault(fleet: Fleet, fault: Fault) -> dict[str, Any]:
    pool = None if fault.pool is None else str(fleet.pools[fault.pool])
    until = fault.until_s if math.isfinite(fault.until_s) else None
    return {"at_s": fault.at_s, "until_s": until, "region": fault.region, "pool": pool, "replica": fault.replica}

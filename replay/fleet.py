"""The fleet: pools of replicas, from a fleet file or from the trace's own services and regions."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lmaas.analysis.errors import Exit, UserError

from .profile import Profile, Seconds, Startup, default_profile, find_profile

NO_REGION = "default"


@dataclass(frozen=True)
class Pool:
    """Replicas that serve one service in one region; prints as service/region/lane."""

    service: str
    region: str
    profile: Profile
    lane: str = "shared"
    initial: int | None = None  # None: sized for the last training window's demand
    minimum: int = 1
    maximum: int | None = None

    def __str__(self) -> str:
        return f"{self.service}/{self.region}/{self.lane}"

    def clamp(self, replicas: float) -> int:
        """The count nearest to `replicas` that the pool's bounds allow."""
        n = max(self.minimum, int(replicas))
        return n if self.maximum is None else min(n, self.maximum)


@dataclass(frozen=True)
class Fleet:
    """All pools, in the order the replay numbers them."""

    pools: tuple[Pool, ...]

    def index(self) -> dict[tuple[str, str], int]:
        """(service, region) -> number of its pool."""
        return {(pool.service, pool.region): i for i, pool in enumerate(self.pools)}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSpec(_Strict):
    """What a fleet file says of a service."""

    profile: str | None = None
    usd_per_gpu_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    startup_s: Seconds | Startup | None = None


class PoolSpec(_Strict):
    """What a fleet file says of one pool; region null: requests without one."""

    service: str
    region: str | None = None
    replicas: int | None = Field(default=None, ge=0)
    min: int = Field(default=1, ge=0)
    max: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _bounds(self) -> "PoolSpec":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        if self.replicas is not None and not self.min <= self.replicas <= (self.max or self.replicas):
            raise ValueError(f"replicas {self.replicas} is outside min {self.min} and max {self.max}")
        return self


class FleetSpec(_Strict):
    """A fleet file: `services` by name, `pools` that differ from the defaults; YAML or TOML."""

    services: dict[str, ServiceSpec] = {}
    pools: tuple[PoolSpec, ...] = ()


def read_fleet(path: Path) -> FleetSpec:
    """A validated fleet file; UserError (exit 5) naming the field and the reason."""
    try:
        text = path.read_text(encoding="utf-8")
        raw: Any = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
        return FleetSpec.model_validate(raw or {})
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", Exit.CONFIG) from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not a fleet file (YAML or TOML): {error}", Exit.CONFIG) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']} (docs/fleet.md)", Exit.CONFIG) from None


def _profile_of(service: str, spec: FleetSpec, given: Profile | None) -> Profile:
    said = spec.services.get(service, ServiceSpec())
    profile = find_profile(said.profile) if said.profile else (given or default_profile(service))
    changes: dict[str, Any] = {}
    if said.usd_per_gpu_hour is not None:
        changes["usd_per_gpu_hour"] = said.usd_per_gpu_hour
    if said.startup_s is not None:
        seconds = said.startup_s
        changes["startup_s"] = (
            seconds if isinstance(seconds, Startup) else Startup(cold=seconds, warm=seconds, swap=seconds)
        )
    return profile.model_copy(update=changes) if changes else profile


def make_fleet(
    served: Sequence[tuple[str, str | None]], spec: FleetSpec | None = None, profile: Profile | None = None
) -> Fleet:
    """A pool for each (service, region) of the trace, with what the fleet file says of it.

    profile: for services the file gives none. UserError (exit 5) where the file names what the trace lacks.
    """
    spec = spec or FleetSpec()
    keys = sorted({(service, region or NO_REGION) for service, region in served})
    services = {service for service, _ in keys}
    for name in spec.services:
        if name not in services:
            raise UserError(
                f"fleet: no service '{name}' in the trace; there are {', '.join(sorted(services))}", Exit.CONFIG
            )
    pools = {key: Pool(key[0], key[1], _profile_of(key[0], spec, profile)) for key in keys}
    for said in spec.pools:
        key = (said.service, said.region or NO_REGION)
        if key not in pools:
            known = ", ".join(f"{s}/{r}" for s, r in keys)
            raise UserError(f"fleet: no pool {key[0]}/{key[1]} in the trace; there are {known}", Exit.CONFIG)
        pools[key] = replace(pools[key], initial=said.replicas, minimum=said.min, maximum=said.max)
    return Fleet(tuple(pools[key] for key in keys))


def describe(fleet: Fleet) -> list[Mapping[str, Any]]:
    """One row a pool for the resolved configuration: pool, profile, provenance, GPUs and price."""
    return [
        {
            "pool": str(pool),
            "profile": pool.profile.name,
            "provenance": pool.profile.provenance,
            "error": pool.profile.error,
            "gpu": pool.profile.gpu,
            "gpus_per_replica": pool.profile.gpus_per_replica,
            "usd_per_gpu_hour": pool.profile.usd_per_gpu_hour,
            "startup_s": pool.profile.startup_s.model_dump(),
            "minimum": pool.minimum,
            "maximum": pool.maximum,
        }
        for pool in fleet.pools
    ]

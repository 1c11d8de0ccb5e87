"""Fleet files: their fields, and how they are read (docs/fleet.md); fleetmake.py makes the fleet."""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from lmaas.analysis.errors import Exit, UserError

from .fleet import LONGEST_S, Clients, Hold, Lane, Order, RegionChoice, Sessions, Time, seconds
from .profile import Startup

Count = Annotated[int, Field(strict=True, ge=0, le=10_000)]  # more replicas than this are a gigabyte of state
Gpus = Annotated[int, Field(strict=True, ge=0, le=10**7)]
Price = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]


def _instant(value: Any) -> float | datetime:
    """A time of the trace, s, or a date (UTC where it says no zone)."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = seconds(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_S:
        raise ValueError("must be seconds of the trace from 0, a duration such as 2d4h, or a date")
    return float(value)


def _startup(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: said if key == "cv" else seconds(said) for key, said in value.items()}
    plain = seconds(value)
    return dict.fromkeys(("cold", "warm", "swap"), plain) if isinstance(plain, int | float) else plain


def _rule(value: Any) -> Any:
    return {"rule": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplicaSpec(_Strict):
    """What a fleet file says of a kind of replica."""

    profile: str | None = None
    usd_per_gpu_hour: Price | None = None
    startup_s: Annotated[Startup, BeforeValidator(_startup)] | None = None


class ServiceSpec(ReplicaSpec):
    """What a fleet file says of a service; regions: where it may run, else where its requests come from."""

    regions: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


class MixedSpec(ReplicaSpec):
    """Replicas of another profile that stand in a pool from the beginning; 0: none yet, a policy may start some."""

    profile: str
    replicas: Count


class PoolSpec(_Strict):
    """What a fleet file says of one pool; region null: requests without one."""

    service: str
    region: str | None = None
    lane: Lane = "shared"
    replicas: Count | None = None
    min: Count = 1
    max: Annotated[Count, Field(ge=1)] | None = None
    mixed: tuple[MixedSpec, ...] = ()

    @model_validator(mode="after")
    def _bounds(self) -> "PoolSpec":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        beside = sum(said.replicas for said in self.mixed)
        if self.replicas is not None and not self.min <= self.replicas + beside <= (self.max or math.inf):
            mixed = f" and {beside} mixed" if beside else ""
            wrong = f"below min {self.min}" if self.replicas + beside < self.min else f"above max {self.max}"
            raise ValueError(f"replicas {self.replicas}{mixed} is {wrong}")
        if beside > (self.max or math.inf):
            raise ValueError(f"{beside} mixed replicas are above max {self.max}")
        return self


class RegionSpec(_Strict):
    """What a fleet file says of a region; gpus null: as many as are asked for."""

    gpus: dict[str, Gpus] | None = None
    latency_s: dict[str, Time] = {}


class FaultSpec(_Strict):
    """A region, or a pool's replica, that is gone from `at` on."""

    at: Annotated[float | datetime, PlainValidator(_instant)]
    region: str | None = None
    pool: str | None = None
    replica: Count | None = None
    lasts_s: Annotated[Time, Field(gt=0)] | None = Field(default=None, alias="for")

    @model_validator(mode="after")
    def _one_thing(self) -> "FaultSpec":
        if (self.region is None) == (self.pool is None):
            raise ValueError("name either a region or a pool with one of its replicas")
        if (self.pool is None) != (self.replica is None):
            raise ValueError("a pool and the number of its replica go together: {pool: chat/us-east, replica: 3}")
        if self.pool is not None and self.lasts_s is not None:
            raise ValueError("'for' goes with a region: a replica does not come back, policies start another")
        return self


class FleetSpec(_Strict):
    """A fleet file (docs/fleet.md): everything is optional."""

    services: dict[str, ServiceSpec] = {}
    pools: tuple[PoolSpec, ...] = ()
    regions: dict[str, RegionSpec] = {}
    faults: tuple[FaultSpec, ...] = ()
    clients: Clients | None = None
    order: Order = "fcfs"
    region_choice: Annotated[RegionChoice, BeforeValidator(_rule)] = RegionChoice()
    hold: Hold | None = None
    prefix_cache: Annotated[bool, Field(strict=True)] = True
    kv_bandwidth_gb_s: Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)] | None = None
    sessions: Sessions = "open"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML that refuses a key given twice, where PyYAML keeps the last one silently."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A dict of the node."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep)


def read_fleet(path: Path | str) -> FleetSpec:
    """A validated fleet file, YAML or TOML; UserError (exit 5) naming the field and the reason."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        raw: Any = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, _Loader)
        return FleetSpec.model_validate({} if raw is None else raw)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", Exit.CONFIG) from None
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)} (docs/fleet.md)", Exit.CONFIG) from None
    # ValueError: dates that do not exist, numbers too long to convert, text that is not UTF-8
    except (ValueError, OverflowError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not a fleet file (YAML or TOML): {error}", Exit.CONFIG) from None


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_KINDS = {  # pydantic's words are Python's; a file has lists and fields
    "tuple_type": "must be a list",
    "too_short": "must name at least one",
    "dict_type": "must be a mapping, name: value",
    "model_type": "must be a mapping, name: value",
    "dataclass_type": "must be a mapping, name: value",
    "missing": "is needed here",
}


def _explain(error: ValidationError) -> str:
    """The first mistake, a mistyped field before a missing one: where, why, and what was found there."""
    mistakes = error.errors(include_url=False)
    first = next((mistake for mistake in mistakes if mistake["type"] in _UNKNOWN), mistakes[0])
    kind, found = first["type"], first["input"]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    if kind in _UNKNOWN:
        name = str(first["loc"][-1])
        return f"{where}: there is no such field here{nearest(name, _fields(first['loc']) - {name})}"
    said = _KINDS.get(kind) or first["msg"].removeprefix("Value error, ").replace("Input should", "must")
    plain = isinstance(found, float | bool | str) or (isinstance(found, int) and abs(found) < 10**15)
    shown = f", not {found!r}"[:60] if plain and kind not in ("value_error", "missing") else ""
    return f"{where}: {said}{shown}"


def _fields(where: tuple[int | str, ...]) -> set[str]:
    """Names of fields at that place of the file."""
    models: dict[str, type[BaseModel]] = {
        "services": ServiceSpec,
        "pools": PoolSpec,
        "regions": RegionSpec,
        "faults": FaultSpec,
    }
    others = {"clients": Clients, "region_choice": RegionChoice, "hold": Hold}
    top = str(where[0])
    if top in others and len(where) > 1:
        return {field.name for field in fields(others[top])}
    model = models[top] if top in models and len(where) > 1 else FleetSpec
    model = MixedSpec if "mixed" in where[:-1] else model
    return {field.alias or name for name, field in model.model_fields.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """What a user who wrote `name` may have meant, as the end of a sentence."""
    names = sorted(known)
    alike = get_close_matches(name, names, n=1)
    inside = [other for other in names if name and name.lower() in other.lower()]
    if alike or inside:
        return f"; did you mean '{(alike or inside)[0]}'?"
    return f"; there are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "; there are none"

"""The parameters of a synthetic trace: what a spec file may say, checked before anything is drawn."""

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import Exit, UserError

MAX_ROWS = 20_000_000  # drawn in memory, about 100 bytes a row at the peak
MAX_TOKENS = 10_000_000
DAY_S = 86_400.0

Name = Annotated[str, Field(min_length=1, max_length=100)]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Weight = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Rhythm(_Section):
    """The mean rate over a local day and week.

    At local hour h the rate is its daily mean times `exp(a cos(2π(h − peak_hour)/24)) / I0(a)` with
    a = ln(peak_to_trough)/2: mean exactly 1, busiest at `peak_hour`, quietest twelve hours later.
    """

    peak_to_trough: float = Field(default=1.0, ge=1, le=10_000)
    peak_hour: float = Field(default=14.0, ge=0, lt=24)  # local time
    weekend: float = Field(default=1.0, ge=0, le=100)  # factor on local Saturdays and Sundays


class Noise(_Section):
    """What the rhythm does not explain: the rate times exp(x − sigma²/2), x an AR(1) path: mean 1."""

    sigma: float = Field(default=0.0, ge=0, le=3)  # standard deviation of ln(rate); 0 leaves Poisson arrivals
    minutes: float = Field(default=20.0, gt=0)  # correlation time of the path


class Bursts(_Section):
    """Episodes in one service and region, each the extra requests of one tenant in one tier.

    Starts are Poisson; durations exponential; an episode adds `Exponential(factor − 1)` times the rate that
    all tiers together have at its start.
    """

    per_day: float = Field(default=0.0, ge=0, le=1000)
    factor: float = Field(default=3.0, gt=1, le=1000)  # mean rate during an episode / rate without it
    minutes: float = Field(default=15.0, gt=0, le=1440)  # mean duration


class Drift(_Section):
    """Slow growth, as a fraction a day: 0.02 is 2 % more each day than the day before."""

    requests: float = Field(default=0.0, gt=-1, le=10)
    input: float = Field(default=0.0, gt=-1, le=10)
    output: float = Field(default=0.0, gt=-1, le=10)


class Length(_Section):
    """Lognormal tokens: `median` over all tenants (tier scale 1), `sigma` of ln(tokens) within a tenant."""

    median: float = Field(gt=0, le=MAX_TOKENS)
    sigma: float = Field(ge=0, le=5)
    min: Tokens = 1
    max: Tokens = MAX_TOKENS  # longer draws are cut here, as a context or token limit does

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.median <= self.max:
            raise ValueError(f"min ({self.min}) <= median ({self.median:g}) <= max ({self.max}) must hold")
        return self


class Tier(_Section):
    """One tier of a service: its part of the requests and how its lengths and rhythm differ."""

    name: Literal["interactive-fast", "interactive-normal", "batch"]
    share: Weight  # relative to the service's other tiers
    input_scale: float = Field(default=1.0, gt=0, le=1000)
    output_scale: float = Field(default=1.0, gt=0, le=1000)
    input_max: Tokens | None = None  # a tighter limit than the service's
    output_max: Tokens | None = None
    rhythm: Rhythm | None = None  # in place of the service's


class Tenants(_Section):
    """Who sends: the i-th tenant's share is proportional to i^−skew, and each has length habits of its own.

    A tenant's inputs are its service's times exp(N(0, input_sigma)), its outputs likewise (centred, so that
    all tenants together keep the service's median); it sends `home` of its requests from one region.
    """

    count: int = Field(default=20, ge=1, le=100_000)
    skew: float = Field(default=1.0, ge=0, le=5)
    input_sigma: float = Field(default=0.0, ge=0, le=3)
    output_sigma: float = Field(default=0.0, ge=0, le=3)
    home: float = Field(default=0.8, ge=0, le=1)


class Region(_Section):
    """Where requests come from; `utc_offset_h` shifts its days and weekends."""

    name: Name
    utc_offset_h: float = Field(default=0.0, ge=-12, le=14)


class Service(_Section):
    """One model or endpoint and all of its traffic."""

    name: Name
    requests_per_s: float = Field(gt=0, le=1e6)  # weekday mean at the start, all regions and tiers, without bursts
    regions: dict[str, Weight]  # region name -> relative share
    tiers: list[Tier] = Field(min_length=1)
    input: Length
    output: Length
    correlation: float = Field(default=0.0, ge=-1, le=1)  # of ln(input) and ln(output) within a tenant
    rhythm: Rhythm = Rhythm()
    noise: Noise = Noise()
    bursts: Bursts = Bursts()
    drift: Drift = Drift()
    tenants: Tenants = Tenants()

    def expected_rows(self, days: float) -> float:
        """Mean number of rows over `days` weekdays, bursts included."""
        growth = math.log1p(self.drift.requests)  # the rate is exp(growth · day)
        grown_days = math.expm1(min(growth * days, 700.0)) / growth if growth else days
        burst = self.bursts.per_day * self.bursts.minutes / 1440 * (self.bursts.factor - 1)
        return self.requests_per_s * DAY_S * grown_days * (1 + burst)


class SynthSpec(_Section):
    """A whole synthetic trace. Every number is a parameter of the model in `sample_traces/README.md`."""

    name: Name = "synthetic"
    seed: int = Field(default=0, ge=0, lt=2**63)
    epoch: AwareDatetime  # the instant of arrival_s = 0; weekday and local hour follow from it
    days: float = Field(gt=0, le=3660)
    regions: list[Region] = Field(min_length=1)
    services: list[Service] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        regions = [r.name for r in self.regions]
        _unique("region", regions)
        _unique("service", [s.name for s in self.services])
        for s in self.services:
            _unique(f"tier of {s.name}", [t.name for t in s.tiers])
            if not s.regions:
                raise ValueError(
                    f"service {s.name} has no region; give shares, e.g. regions = {{ {regions[0]} = 1.0 }}"
                )
            unknown = [r for r in s.regions if r not in regions]
            if unknown:
                raise ValueError(
                    f"service {s.name} names unknown region {unknown[0]!r}; there are {', '.join(regions)}"
                )
        rows = sum(s.expected_rows(self.days) for s in self.services)
        if rows > MAX_ROWS:
            raise ValueError(f"about {rows:,.0f} rows expected, at most {MAX_ROWS:,} are drawn; lower days or rates")
        return self

    @classmethod
    def load(cls, path: Path) -> "SynthSpec":
        """Read a TOML file; UserError (exit 5) naming file, field and what was found if it is not a spec."""
        try:
            with path.open("rb") as file:
                content = tomllib.load(file)
        except OSError as error:
            raise UserError(f"{path}: cannot read this spec: {error.strerror}", Exit.CONFIG) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a TOML file: {error}", Exit.CONFIG) from None
        return cls.check(content, str(path))

    @classmethod
    def check(cls, content: dict[str, Any], source: str) -> "SynthSpec":
        """A spec from plain values; UserError (exit 5) naming `source` and the first faults."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            said = "; ".join(_fault(f["loc"], f["msg"], f["input"]) for f in faults[:3])
            more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
            raise UserError(f"{source}: {said}{more}", Exit.CONFIG) from None


def _unique(kind: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{kind} {name!r} is given twice")


def _fault(where: tuple[int | str, ...], message: str, found: object) -> str:
    place = ".".join(map(str, where))
    # a whole table is no help to the reader; a single value is
    value = f", found {found!r:.60}" if not isinstance(found, dict | list) else ""
    message = message.removeprefix("Value error, ")
    return f"{place}: {message}{value}" if place else f"{message}{value}"

"""What a capacity plan adds: replicas to spare, months with reserved and spot GPUs."""

from typing import Literal

from pydantic import Field

from .parts import Open, Share


class Spare(Open):
    """The busiest hour with a replica of a pool lost, its spot GPUs, or a region (N+1)."""

    policy: str
    lost: Literal["replica", "spot", "region"] = Field(description="spot: all replicas beyond the pool's steady base")
    service: str | None = Field(description="of the pool; null: a region is lost")
    region: str
    lane: str | None
    start_s: float
    length_s: float
    arrived: int = Field(description="requests of that hour, at the pool or anywhere")
    taken: int | None = Field(None, description="replicas lost")
    replicas: float | None = Field(description="active as it begins, mean, without the loss")
    attained: Share
    attained_lost: Share
    holds: bool


class Commitment(Open):
    """A policy's month with the number of reserved GPUs that is cheapest at one price of a reservation."""

    policy: str
    ratio: Share = Field(description="price of a reserved GPU-hour over the on-demand price")
    reserved_gpus: int
    reserved_share: Share = Field(description="of the policy's GPU-hours that run on them")
    usd_per_month: float
    saving: float = Field(description="of the on-demand cost")


class Spot(Open):
    """A policy's month with what it has beyond its steady base on spot, at one price and never interrupted."""

    policy: str
    ratio: Share = Field(description="price of a spot GPU-hour over the on-demand price")
    base_gpus: int = Field(description="provisioned in every window, on demand")
    spot_gpus: float = Field(description="the most beyond them at once")
    spot_share: Share = Field(description="of the policy's GPU-hours that are beyond them")
    base_usd_per_month: float = Field(description="of the base, on demand")
    usd_per_month: float
    saving: float = Field(description="of the on-demand cost")

"""metrics.json of `lmaas forecast`."""

from typing import Any

from pydantic import Field

from .parts import Open, Rows, Share, Version


class ForecastScores(Open):
    """One model at one horizon; definitions: docs/forecasts.md."""

    model: str
    horizon_s: float = Field(description="from issue to the end of the window that is forecast")
    metric: str
    service: str | None = None
    origin: str | None = None
    tier: str | None = Field(None, description="null: all tiers")
    type: str | None = Field(None, description="of request; null: all types")
    windows: int
    wape: float | None
    mape: float | None
    rrmse: float | None
    bias: float | None
    pinball: float | None
    coverage_80: Share
    coverage_95: Share
    to_last_value: float | None = Field(description="wape over that of last-value; below 1 is better")


class ForecastMetrics(Open):
    """metrics.json of `lmaas forecast`: the same bytes for the same trace and settings."""

    schema_version: Version
    trace: Rows
    settings: dict[str, Any]
    remarks: list[str]
    scores: list[ForecastScores] = Field(description="over all services and origins")
    series: list[ForecastScores]
    weights: list[dict[str, Any]] = Field(description="how models that weigh others did at the last issue")
    notes: list[dict[str, Any]] = Field(description="series of which little could be known, and what was done instead")

"""metrics.json of `lmaas train` and `lmaas predict`."""

from typing import Any

from pydantic import Field

from .parts import Open, Rows, Version


class LengthMetrics(Open):
    """metrics.json of `lmaas train` and `lmaas predict`; columns: `lmaas.analysis.lengths`' scores and result."""

    schema_version: Version
    trace: Rows
    settings: dict[str, Any]
    trained: dict[str, Any] = Field(description="what the predictor was trained on")
    notes: list[str]
    scores: list[dict[str, Any]]
    calibration: list[dict[str, Any]]
    buckets: list[dict[str, Any]]
    importance: list[dict[str, Any]]
    rest: list[dict[str, Any]]

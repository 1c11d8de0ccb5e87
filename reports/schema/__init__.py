"""The published form of metrics.json. Within a major version fields are only added, never renamed or dropped.

python -m lmaas.reports.schema evaluate > metrics.schema.json
"""

from typing import Any

from pydantic import BaseModel

from .analyze import AnalysisMetrics
from .evaluate import EvaluationMetrics
from .forecast import ForecastMetrics
from .lengths import LengthMetrics

KINDS: dict[str, type[BaseModel]] = {
    "evaluate": EvaluationMetrics,
    "analyze": AnalysisMetrics,
    "forecast": ForecastMetrics,
    "train": LengthMetrics,
    "predict": LengthMetrics,
}


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of the metrics of a verb (KINDS)."""
    return KINDS[kind].model_json_schema()

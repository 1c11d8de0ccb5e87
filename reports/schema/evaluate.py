"""metrics.json of `lmaas evaluate`."""
# ruff: noqa: RUF012 (pydantic copies defaults; ruff does not see through Open)

from typing import Any

from pydantic import Field

from .capacity import Commitment, Spare, Spot
from .deep import BreakEven, Counterfactual, Matched, Seed, Sensitivity, WorstHour, Worth
from .parts import Open, Rows, Version
from .scored import Backtest, Difference, Equal, Gate, Group, Missed, Scores, WorstWindow


class EvaluationMetrics(Open):
    """metrics.json of `lmaas evaluate`: the same bytes for the same trace, settings and seed."""

    schema_version: Version
    trace: Rows
    settings: dict[str, Any]
    notes: list[str]
    failures: dict[str, str] = Field(description="policy -> why it has no scores")
    results: list[Scores]
    groups: list[Group]
    gates: list[Gate]
    matched: list[Matched] = []
    worth: list[Worth] = []
    equal: list[Equal] = []
    differences: list[Difference] = []
    worst: list[WorstWindow] = []
    misses: list[Missed] = []
    causes: list[Counterfactual] = []
    worst_hours: list[WorstHour] = []
    seeds: list[Seed] = []
    sensitivity: list[Sensitivity] = []
    break_even: list[BreakEven] = []
    backtest: list[Backtest] = []
    spare: list[Spare] = []
    commitment: list[Commitment] = []
    spot: list[Spot] = []

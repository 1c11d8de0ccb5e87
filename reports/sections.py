"""Which sections a report has, in reading order: a literal table a kind, entry points for what others add."""

from typing import Any

from lmaas.analysis.registry import Registry

from .section import Section

ANALYZE = Registry(
    "section",
    group="lmaas.analyze_sections",
    builtin={
        "overview": "lmaas.reports.analyze.overview:section",
        "compare": "lmaas.reports.analyze.compare:section",
        "rewards": "lmaas.reports.analyze.rewards:section",
        "load": "lmaas.reports.analyze.load:section",
        "arrivals": "lmaas.reports.analyze.arrivals:section",
        "rhythm": "lmaas.reports.analyze.rhythm:section",
        "lengths": "lmaas.reports.analyze.lengths:section",
        "types": "lmaas.reports.analyze.types:section",
        "tails": "lmaas.reports.analyze.tails:section",
        "heterogeneity": "lmaas.reports.analyze.heterogeneity:section",
        "breakdown": "lmaas.reports.analyze.breakdown:section",
        "pooling": "lmaas.reports.analyze.pooling:section",
        "latency": "lmaas.reports.analyze.latency:section",
        "reuse": "lmaas.reports.analyze.reuse:section",
        "sessions": "lmaas.reports.analyze.sessions:section",
        "quality": "lmaas.reports.analyze.quality:section",
        "method": "lmaas.reports.analyze.method:section",
    },
)
EVALUATE = Registry(
    "section",
    group="lmaas.evaluate_sections",
    builtin={
        "summary": "lmaas.reports.evaluate.summary:section",
        "fidelity": "lmaas.reports.evaluate.fidelity:section",
        "backtest": "lmaas.reports.evaluate.backtest:section",
        "gates": "lmaas.reports.evaluate.gates:section",
        "alternatives": "lmaas.reports.evaluate.alternatives:section",
        "policies": "lmaas.reports.evaluate.policies:section",
        "differences": "lmaas.reports.evaluate.differences:section",
        "workload": "lmaas.reports.evaluate.workload:section",
        "forecast": "lmaas.reports.evaluate.forecast:section",
        "capacity": "lmaas.reports.evaluate.capacity:section",
        "frontier": "lmaas.reports.evaluate.frontier:section",
        "commitment": "lmaas.reports.evaluate.commitment:section",
        "matched": "lmaas.reports.evaluate.matched:section",
        "latency": "lmaas.reports.evaluate.latency:section",
        "attainment": "lmaas.reports.evaluate.attainment:section",
        "sensitivity": "lmaas.reports.evaluate.sensitivity:section",
        "worst": "lmaas.reports.evaluate.worst:section",
        "spare": "lmaas.reports.evaluate.spare:section",
        "assumptions": "lmaas.reports.evaluate.assumptions:section",
        "definitions": "lmaas.reports.evaluate.definitions:section",
        "configuration": "lmaas.reports.evaluate.configuration:section",
    },
)
FORECAST = Registry(
    "section",
    group="lmaas.forecast_sections",
    builtin={
        "accuracy": "lmaas.reports.forecast.accuracy:section",
        "intervals": "lmaas.reports.forecast.bands:section",
        "series": "lmaas.reports.forecast.by_series:section",
    },
)


LENGTHS = Registry(
    "section",
    group="lmaas.lengths_sections",
    builtin={
        "errors": "lmaas.reports.lengths.errors:section",
        "calibration": "lmaas.reports.lengths.calibration:section",
        "buckets": "lmaas.reports.lengths.buckets:section",
        "importance": "lmaas.reports.lengths.importance:section",
        "rest": "lmaas.reports.lengths.rest:section",
        "method": "lmaas.reports.lengths.method:section",
    },
)


def sections(registry: Registry, result: Any) -> tuple[Section, ...]:
    """Every section of `registry` that has something to say about `result`."""
    found = (registry.load(name)(result) for name in registry)
    return tuple(section for section in found if section is not None)

"""metrics.json of `lmaas analyze`."""

from typing import Any, Literal

from pydantic import Field

from .parts import Open, Rows, Version


class Compared(Open):
    """What the trace was compared with; the tables compare, compare_mix, compare_values and compare_cdf say how far."""

    before: str = Field(description="what it is compared with, in words")
    after: str
    block_s: float = Field(description="length of the blocks of time by which chance is judged")
    blocks: list[int] = Field(description="how many of them before and after")
    trace: Rows
    findings: list[str]


class Quality(Open):
    """The verdict on a trace."""

    verdict: Literal["GOOD", "FAIR", "POOR"]
    findings: list[str]


class AnalysisMetrics(Open):
    """metrics.json of `lmaas analyze`; columns of the tables are documented in `lmaas.analysis.workload.columns`."""

    schema_version: Version
    trace: Rows
    quality: Quality
    window_s: float
    findings: list[str]
    comparison: Compared | None = None
    tables: dict[str, list[dict[str, Any]]]

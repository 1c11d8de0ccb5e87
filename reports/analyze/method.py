"""Method and definitions of a workload analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..evaluate.definitions import definitions
from ..section import Section

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

TERMS = {
    "ISL, OSL": "input and output tokens of a request; over answered requests with at least one token",
    "Answered": "status ok or not stated; counts are of all requests, lengths and latencies of answered ones",
    "Percentiles": "exact, linear between ranks; of traces too large for memory from histograms, within 1 %, "
    "and marked; p99.9 only from 10,000 values",
    "Rate": "arrivals of a window / its length; windows that the trace covers in part are left out of peaks and means",
    "Peak / mean": "rate of the busiest window / mean rate over the same windows; it grows as windows shrink",
    "Variance / mean": "of requests per window: 1 for Poisson arrivals, more for bursts",
    "Rhythm, explained": "share of the variance around each day's (week's) mean that its hour (weekday) explains",
    "TTFT": "observed: first output token - arrival, as the source states it",
    "TPOT": "tpot = (e2e - ttft)/(output_tokens - 1), per request; none for a single token",
    "E2E": "observed: last output token - arrival",
    "Prefix reuse": "prompt tokens in whole leading blocks that earlier requests of the service had / all",
}


def section(result: Analysis) -> Section:
    """The same for every analysis."""
    return Section(
        "method",
        "Method and definitions",
        "Every statistic is over all of the rows named; what is approximate or sampled says so.",
        tables=(definitions(TERMS),),
    )

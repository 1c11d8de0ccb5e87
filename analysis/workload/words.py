"""Times as the findings say them."""

from datetime import timedelta

from lmaas.analysis.trace import TraceMeta
from lmaas.analysis.windows import DAY_S


def duration(seconds: float) -> str:
    """The largest unit of which there are two: 90 s, 3.5 h."""
    for unit, size in (("days", DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{seconds:.3g} s"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def moment(at_s: float, meta: TraceMeta) -> str:
    """An instant: a date where the trace's epoch is known, else what `arrival_s` says."""
    if meta.epoch is None:
        return f"at {duration(at_s)} on the trace's clock"
    return f"on {meta.epoch + timedelta(seconds=at_s):%Y-%m-%d at %H:%M} UTC"

"""Instants and periods of a trace as users write them: `2024-05-10`, `2024-05-10T12:00Z`, `2h`, `-1d`, `A..B`.

A date counts in UTC; a length of time counts from the trace's first arrival, one below zero from its last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from .errors import Exit, UserError
from .formats.source import shown
from .units import parse_duration
from .workload.words import duration

if TYPE_CHECKING:
    from .trace import TraceMeta


@dataclass(frozen=True)
class At:
    """An instant as a trace counts it."""

    arrival_s: float


Instant = datetime | float | At  # UTC; or seconds from the first arrival (below zero: from the last)
EXAMPLES = "a date (2024-05-10), a time with its zone (2024-05-10T12:00Z), or a length of time such as 2h"
BETWEEN = ".."


@dataclass(frozen=True)
class Period:
    """[since, until) of a trace; None is open."""

    since: Instant | None = None
    until: Instant | None = None

    @classmethod
    def parse(cls, since: str | None, until: str | None) -> Period:
        """Of the values of `--since` and `--until`; UserError (exit 2) where one is no instant."""
        ends = [
            None if text is None else parse_instant(text, what)
            for text, what in ((since, "--since"), (until, "--until"))
        ]
        return cls(*ends)

    @classmethod
    def between(cls, text: str) -> Period | None:
        """Of `A..B` (`A..` and `..B` are open); None where the text is something else, such as a path."""
        if text.count(BETWEEN) != 1 or text == BETWEEN:
            return None
        try:
            return cls(*(parse_instant(end, "period") if end else None for end in text.split(BETWEEN)))
        except UserError:
            return None

    def __bool__(self) -> bool:
        return self.since is not None or self.until is not None


def parse_instant(text: str, what: str) -> Instant:
    """A date (UTC midnight), a time with its zone, or a length of time; UserError (exit 2) opening with `what`."""
    stripped = text.strip()
    try:
        return datetime.combine(date.fromisoformat(stripped), time(), UTC)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(stripped)
    except ValueError:
        pass
    else:
        if found.tzinfo is None:
            raise UserError(f"{what}: '{shown(text)}' has no zone; write {shown(stripped)}Z for UTC", Exit.USAGE)
        try:
            return found.astimezone(UTC)
        except OverflowError:
            raise UserError(f"{what}: '{shown(text)}' is out of range", Exit.USAGE) from None
    if not stripped.lstrip("+-.")[:1].isdigit() or "-" in stripped[1:] or ":" in stripped:
        raise UserError(f"{what}: '{shown(text)}' is no instant; write {EXAMPLES}", Exit.USAGE)
    return parse_duration(stripped, what)


def at_s(instant: Instant, meta: TraceMeta, ends: tuple[float, float], what: str) -> float:
    """`instant` as `arrival_s` of a trace whose first and last arrival are `ends`; UserError (exit 2) opening with
    `what` where it is a date and the trace has none.
    """
    if isinstance(instant, At):
        return instant.arrival_s
    if not isinstance(instant, datetime):
        return ends[math.copysign(1, instant) < 0] + instant
    if meta.epoch is None:
        hint = "write a length of time from its start, such as 2h"
        raise UserError(f"{what}: this trace has no dates, its times are relative; {hint}", Exit.USAGE)
    return (instant - meta.epoch.astimezone(UTC)).total_seconds()


def moment(at: float, meta: TraceMeta, first_s: float) -> str:
    """`arrival_s` as a person says it: a date where the trace has one, else the time since its first arrival."""
    if meta.epoch is None:
        return f"{duration(at - first_s)} after its start"
    try:
        found = meta.epoch.astimezone(UTC) + timedelta(seconds=at)
    except OverflowError:
        return f"{at:.6g} s after {meta.epoch:%Y-%m-%d}"
    if found.time() == time():
        return f"{found:%Y-%m-%d}"
    return f"{found:%Y-%m-%d %H:%M:%S}"

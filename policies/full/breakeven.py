"""Where the recommendation no longer holds: between which two tested points, and about where."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from .sensitivity import SENSITIVITY

HOLDS, MISSES, ATTAINS, CHEAPER = "holds", "misses the target", "attains the target", "another costs less"
BREAK_EVEN: dict[str, Any] = {
    "factor": pl.String,  # factor, gpu and unit as in SENSITIVITY
    "gpu": pl.String,
    "unit": pl.String,
    "policy": pl.String,  # the recommended one; where none attains the target, the closest to it
    "event": pl.String,  # what comes first on the way from the evaluation's own value: one of these four
    "low": pl.Float64,  # it comes between low and high; where it holds these are the least and the most tested
    "high": pl.Float64,  # low null: already at the least tested
    "at": pl.Float64,  # interpolated, linear between the two replays; null: it holds, or what crosses is not known
    "other": pl.String,  # what is recommended then; null: the same, or nothing attains
}
Row = Mapping[str, Any]
State = tuple[bool, str | None]  # whether the policy attains, who is recommended


def break_even(sensitivity: pl.DataFrame, subject: str, recommended: bool, attain: float, cost: str) -> pl.DataFrame:
    """Columns BREAK_EVEN, up to two rows a factor, one a direction.

    recommended: whether the subject is, else it is only the closest; cost: the column that decides.
    """
    assert sensitivity.schema == pl.Schema(SENSITIVITY)
    rows = []
    for (factor, gpu), group in sensitivity.group_by("factor", "gpu", maintain_order=True):
        points: list[list[Row]] = [
            [*part.iter_rows(named=True)] for _, part in group.group_by("value", maintain_order=True)
        ]
        whole = [point for point in points if _of(point, subject)["slo_attainment"] is not None]
        if len(whole) < 2:
            continue
        names = {"factor": factor, "gpu": gpu, "unit": whole[0][0]["unit"], "policy": subject}
        start: State = (recommended, subject if recommended else None)
        events = [_walk(path, subject, start, attain, cost) for path in _paths(whole)]
        found = [event for event in events if event is not None]
        if not found:
            ends = (whole[0][0]["value"], whole[-1][0]["value"])
            found = [{"event": HOLDS, "low": ends[0], "high": ends[1], "at": None, "other": None}]
        rows += [names | event for event in found]
    return pl.DataFrame([[row[name] for name in BREAK_EVEN] for row in rows], schema=BREAK_EVEN, orient="row")


def _paths(points: Sequence[list[Row]]) -> list[list[list[Row]]]:
    """From the evaluation's own point down and up; without one, from the least up."""
    own = next((k for k, point in enumerate(points) if point[0]["as_evaluated"]), None)
    if own is None:
        return [list(points)]
    return [list(points[own::-1]), list(points[own:])]


def _walk(path: Sequence[list[Row]], subject: str, start: State, attain: float, cost: str) -> dict[str, Any] | None:
    """The first event on a path; None: it holds."""
    before: list[Row] | None = None
    for point in path:
        state = _state(point, subject, attain)
        if state != start:
            return _event(before, point, subject, start, state, attain, cost)
        before = point
    return None


def _state(point: Sequence[Row], subject: str, attain: float) -> State:
    best = next((row["policy"] for row in point if row["recommended"]), None)
    return _of(point, subject)["slo_attainment"] >= attain, best


def _event(
    before: Sequence[Row] | None,
    after: Sequence[Row],
    subject: str,
    start: State,
    state: State,
    attain: float,
    cost: str,
) -> dict[str, Any]:
    other = state[1] if state[1] != subject else None
    event = CHEAPER if state[0] == start[0] else (ATTAINS if state[0] else MISSES)
    values = [None if before is None else before[0]["value"], after[0]["value"]]
    at = None
    if before is not None:
        mine = _of(before, subject), _of(after, subject)
        if event != CHEAPER:
            at = _crossing(mine, [row["slo_attainment"] - attain for row in mine])
        elif other is not None:
            at = _taken_over(mine, (_of(before, other), _of(after, other)), attain, cost)
        values.sort()
    return {"event": event, "low": values[0], "high": values[1], "at": at, "other": other}


def _taken_over(mine: tuple[Row, Row], theirs: tuple[Row, Row], attain: float, cost: str) -> float | None:
    """Where the other costs as much, or, where it did not attain before, where it does."""
    if any(row[name] is None for row in (*mine, *theirs) for name in ("slo_attainment", cost)):
        return None
    if theirs[0]["slo_attainment"] < attain:
        return _crossing(theirs, [row["slo_attainment"] - attain for row in theirs])
    return _crossing(mine, [a[cost] - b[cost] for a, b in zip(mine, theirs, strict=True)])


def _crossing(rows: tuple[Row, Row], apart: Sequence[float]) -> float | None:
    """The value at which a line through both is 0; None where it is between them nowhere."""
    if apart[0] == apart[1] or apart[0] * apart[1] > 0:
        return None
    low, high = (row["value"] for row in rows)
    return float(low + (high - low) * apart[0] / (apart[0] - apart[1]))


def _of(point: Sequence[Row], policy: str) -> Row:
    return next(row for row in point if row["policy"] == policy)

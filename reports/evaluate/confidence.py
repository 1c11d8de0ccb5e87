"""How far the recommendation can be trusted: a grade, and the reasons that keep it from a better one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmaas.policies.backtest import CLOSE, ROUGH, worst_error
from lmaas.policies.choice import Choice

from ..format import share, span, text

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

DAY_S, WEEK_S = 86_400.0, 7 * 86_400.0
FEW = 300  # requests: at 99 % three may miss
GRADES = "ABCD"


def confidence(result: Evaluation, choice: Choice, attain: float) -> tuple[str, list[str]]:
    """(A to D, why not better): the worst of the reasons counts."""
    reasons = [*_length(result, choice), *_model(result), *_chance(result, choice, attain)]
    grade = max((mark for mark, _ in reasons), default=0)
    return GRADES[grade], [why for mark, why in reasons if mark == grade and mark]


def said(result: Evaluation, choice: Choice, attain: float) -> str:
    """The grade in a sentence."""
    grade, reasons = confidence(result, choice, attain)
    if not reasons:
        reasons = ["a week and more was replayed, no profile is an estimate, and no chance decides about the target"]
    return f"Confidence {grade}: {'; '.join(reasons)}."


def _length(result: Evaluation, choice: Choice) -> list[tuple[int, str]]:
    evaluated_s = result.settings["end_s"] - result.settings["cut_s"]
    arrived = choice.subject["arrived"] if choice.subject else 0
    if arrived < FEW:
        return [(3, f"only {arrived:,} requests were evaluated")]
    if evaluated_s < DAY_S:
        return [(2, f"{span(evaluated_s)} were evaluated, less than one daily rhythm")]
    if evaluated_s < WEEK_S:
        return [(1, f"{span(evaluated_s)} were evaluated, less than one weekly rhythm")]
    return []


def _model(result: Evaluation) -> list[tuple[int, str]]:
    """What latencies rest on."""
    if result.settings.get("fidelity") == "window":
        return [(2, "estimated from windows, not replayed")]
    rough = {pool["profile"] for pool in result.settings.get("pools", []) if pool["provenance"] == "estimated"}
    return [*_backtest(result), *((2, f"the profile of {text(name)} is an estimate") for name in sorted(rough))]


def _backtest(result: Evaluation) -> list[tuple[int, str]]:
    worst = worst_error(result.backtest) if result.backtest.height else None
    if worst is None or abs(worst[0]) <= CLOSE:
        return []
    off, which = worst
    return [(2 if abs(off) > ROUGH else 1, f"the replay of the recorded fleet is off by {off:+.0%} ({which})")]


def _chance(result: Evaluation, choice: Choice, attain: float) -> list[tuple[int, str]]:
    subject, made = choice.subject, result.settings.get("intervals")
    if subject is None:
        return []
    if made is not None and "why" in made:
        return [(2, made["why"])]
    low, high = subject.get("slo_attainment_low"), subject.get("slo_attainment_high")
    if low is None or high is None or not low < attain <= high:
        return []
    return [(1, f"the target lies within the 90 % interval of its attainment, {share(low)} to {share(high)}")]

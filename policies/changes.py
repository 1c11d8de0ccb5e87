"""Conditions on what changed between two runs: `gpu_hours>+2%`, `attain<-0.5pp @ tier=batch`, `ttft_p99 worse`."""

import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.units import parse_duration
from lmaas.replay.slo import parse_scope

from .differences import BETTER, OVERALL
from .gates import ALIASES, LATENCIES, PLAIN, SHARES, no_score

_CHANGE = re.compile(r"(?P<score>[\w.-]+?)\s*(?P<op><=|>=|<|>)\s*(?P<value>[^<>=]+)")
_WORSE = re.compile(r"(?P<score>[\w.-]+)\s+(is\s+)?worse")
_SIGNED = re.compile(r"(?P<number>[+-]\s*(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?P<unit>%|pp|[a-z]*)")
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
CONDITIONS: dict[str, Any] = {
    "condition": pl.String,
    "policy": pl.String,
    "before": pl.Float64,
    "after": pl.Float64,
    "value": pl.Float64,  # the change, as the condition counts it; null: undefined, or the condition is on a verdict
    "verdict": pl.String,  # of the policy after, where it is known
    "passed": pl.Boolean,
}
Unit = Literal["share", "absolute", "verdict"]


@dataclass(frozen=True)
class Condition:
    """Fails where the change of `score` is `op` `by`: a share of the value before, or a difference (s; of shares 1).

    of: the tier or service that it is of, as `tier=batch`; "": of all requests.
    """

    text: str
    score: str
    op: str
    by: float
    unit: Unit
    of: str = ""

    @property
    def metric(self) -> str:
        """As in differences.DIFFERENCES."""
        return f"{self.score} @ {self.of}" if self.of else self.score


def parse_conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Conditions of `--fail-if 'gpu_hours>+2%, slo_attainment<-0.5pp @ tier=batch'`; UserError (exit 2) if wrong.

    A scope is of the one condition before it.
    """
    return tuple(_scoped(part.strip()) for whole in texts for part in re.split("[,;]", whole))


def _scoped(text: str) -> Condition:
    test, at, scope = text.partition("@")
    found = _condition(test.strip())
    if not at:
        return found
    ((key, name),) = parse_scope(scope, text, "--fail-if").items()
    if found.score != "slo_attainment":
        raise UserError(f"--fail-if '{text}': of one {key}, only slo_attainment is compared", Exit.USAGE)
    return replace(found, text=f"{found.text} @ {key}={name}", of=f"{key}={name}")


def check_groups(conditions: Sequence[Condition], rows: pl.DataFrame) -> None:
    """UserError (exit 2) for a tier or service that `rows` (differences.DIFFERENCES) do not have."""
    known = rows["metric"].unique().sort()
    for condition in (c for c in conditions if c.metric not in known and c.of):
        key = condition.of.partition("=")[0]
        names = [name.partition("=")[2] for name in known if name.startswith(f"{condition.score} @ {key}=")]
        have = f"there are {', '.join(names[:8])}" if names else "the runs do not both keep attainment by it"
        raise UserError(f"--fail-if '{condition.text}': no such {key} was compared; {have}", Exit.USAGE)


def _condition(text: str) -> Condition:
    worse, change = _WORSE.fullmatch(text), _CHANGE.fullmatch(text)
    if worse is not None:
        score = _score(text, worse["score"])
        if score not in (*BETTER, OVERALL):
            judged = ", ".join((*BETTER, OVERALL))
            raise UserError(f"--fail-if '{text}': verdicts are on {judged}; give a change instead", Exit.USAGE)
        return Condition(text, score, "", 0.0, "verdict")
    if change is None:
        said = "is not SCORE OP CHANGE, such as gpu_hours>+2%, nor SCORE worse"
        raise UserError(f"--fail-if '{text}' {said}", Exit.USAGE)
    score, value = _score(text, change["score"]), change["value"].strip()
    found = _SIGNED.fullmatch(value)
    if found is None or score == OVERALL:
        what = "overall is a verdict; write overall worse" if score == OVERALL else f"'{value}' is not a change"
        raise UserError(f"--fail-if '{text}': {what}, and a change has a sign: +2%, -0.5pp, +50ms", Exit.USAGE)
    by, unit = _by(text, score, found["number"].replace(" ", ""), found["unit"])
    return Condition(text, score, change["op"], by, unit)


def _score(text: str, name: str) -> str:
    score = ALIASES.get(name, name)
    if score in LATENCIES or f"{score}_s" in BETTER:
        return f"{score}_s"
    if score not in (*PLAIN, OVERALL):
        raise no_score(f"--fail-if '{text}'", name, (OVERALL,))
    return score


def _by(text: str, score: str, number: str, unit: str) -> tuple[float, Unit]:
    """The change in the unit it is counted in; UserError (exit 2) where the score has another."""
    if score in SHARES:
        if unit != "pp":
            raise UserError(f"--fail-if '{text}': {score} is a share, its change is in points: {number}pp", Exit.USAGE)
        return float(number) / 100, "absolute"
    if unit == "%":
        return float(number) / 100, "share"
    if score.endswith("_s"):
        return parse_duration(number + unit, f"--fail-if '{text}'"), "absolute"
    if unit:
        raise UserError(f"--fail-if '{text}': {score} changes by a number or a %, not by {unit}", Exit.USAGE)
    return float(number), "absolute"


def judged(
    condition: Condition, label: str, before: Mapping[str, Any], after: Mapping[str, Any], rows: pl.DataFrame
) -> Iterator[tuple[Any, ...]]:
    """A row of CONDITIONS: one policy's; what is undefined, or has no verdict where one is asked, does not pass."""
    mine = rows.filter((pl.col("policy") == label) & (pl.col("metric") == condition.metric))
    verdict = mine["verdict"][0] if mine.height else None
    was, now = before.get(condition.metric), after.get(condition.metric)
    if condition.of and mine.height:
        was, now = mine["reference"][0], mine["value"][0]
    if condition.unit == "verdict":
        yield condition.text, label, was, now, None, verdict, verdict in ("better", "no difference")
        return
    value = None if was is None or now is None else float(now - was)
    if value is not None and condition.unit == "share":
        value = value / was if was else 0.0 if not value else math.copysign(math.inf, value)
    passed = value is not None and not _OPERATORS[condition.op](value, condition.by)
    yield condition.text, label, was, now, value, verdict, passed

"""Gates: conditions on a policy's scores that decide the exit code, and the percentile tests of the SLOs."""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.units import parse_duration
from lmaas.replay.slo import Slo

_EXPRESSION = re.compile(r"^\s*(?P<score>[a-z0-9_]+)\s*(?P<op><=|>=|<|>)\s*(?P<value>\S+)\s*$")
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_ALIASES = {"attain": "slo_attainment", "gpu_hours": "gpu_hours_provisioned", "cost": "cost_usd"}
PLAIN = (
    "slo_attainment", "gpu_hours_provisioned", "gpu_hours_active", "cost_usd", "usd_per_month", "goodput_rps",
    "goodput_tok_s", "worst_hour_attainment", "preemptions", "rejected", "scale_actions", "utilisation",
)  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """`score op threshold`; seconds where the score is a latency."""

    text: str
    score: str
    op: str
    threshold: float

    def check(self, scores: Mapping[str, Any]) -> tuple[float | None, bool]:
        """(value, passed); a score that is undefined does not pass."""
        value = scores[self.score]
        return value, value is not None and _OPERATORS[self.op](value, self.threshold)


def parse_gates(texts: Sequence[str]) -> tuple[Gate, ...]:
    """Gates of `--gate 'slo_attainment>=0.99, ttft_p95<500ms'`; UserError (exit 2) naming what is wrong."""
    gates = []
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        match = _EXPRESSION.match(text)
        if match is None:
            raise UserError(f"gate '{text}' is not SCORE OP VALUE, such as slo_attainment>=0.99", Exit.USAGE)
        score = _ALIASES.get(match["score"], match["score"])
        if re.fullmatch(r"(ttft|tpot|e2e)_p(50|90|95|99)", score):
            value = parse_duration(match["value"], f"gate '{text}'")
            gates.append(Gate(text, f"{score}_s", match["op"], value))
            continue
        if score not in PLAIN:
            known = ", ".join((*_ALIASES, *PLAIN, "ttft_p95"))
            raise UserError(f"gate '{text}': no score '{match['score']}'; there are {known}", Exit.USAGE)
        gates.append(Gate(text, score, match["op"], _number(match["value"], score, text)))
    return tuple(gates)


SHARES = ("slo_attainment", "worst_hour_attainment", "utilisation")


def _number(value: str, score: str, text: str) -> float:
    """A threshold; shares may be written as 0.99 or 99%, and lie between 0 and 1."""
    try:
        number = float(value.removesuffix("%")) / (100 if value.endswith("%") and score in SHARES else 1)
    except ValueError:
        raise UserError(f"gate '{text}': '{value}' is not a number", Exit.USAGE) from None
    if score in SHARES and not 0 <= number <= 1:
        raise UserError(f"gate '{text}': a share lies between 0 and 1; write 0.99 or 99%", Exit.USAGE)
    return number


def percentile_test(slo: Slo, rows: pl.DataFrame) -> tuple[float | None, bool]:
    """(seconds at the SLO's percentile within its scope, met) over completed requests; nothing measured is not met."""
    mine = rows
    for key, value in slo.scope.items():
        mine = mine.filter(pl.col("scored_tier" if key == "tier" else key) == value)
    measured: float | None = mine[f"{slo.metric}_s"].quantile((slo.percentile or 0) / 100, "linear")
    return measured, measured is not None and measured < slo.limit_s

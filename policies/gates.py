"""Gates: conditions on a policy's scores that decide the exit code, and the percentile tests of the SLOs."""

import math
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.units import parse_duration
from lmaas.replay.slo import Slo, parse_scope

_EXPRESSION = re.compile(r"^\s*(?P<score>[\w.-]+)\s*(?P<op><=|>=|<|>)\s*(?P<value>[^<>=]+)$")
_LATENCY = re.compile(r"(?P<metric>ttft|tpot|e2e)_p(?P<percentile>\d+(\.\d+)?)")
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ALIASES = {"attain": "slo_attainment", "gpu_hours": "gpu_hours_provisioned", "cost": "cost_usd"}
PLAIN = (
    "slo_attainment", "gpu_hours_provisioned", "gpu_hours_active", "cost_usd", "usd_per_month", "goodput_rps",
    "goodput_tok_s", "worst_hour_attainment", "preemptions", "rejected", "scale_actions", "utilisation",
)  # fmt: skip
LATENCIES = tuple(f"{metric}_p{percentile}" for metric in ("ttft", "tpot", "e2e") for percentile in (50, 90, 95, 99))


@dataclass(frozen=True)
class Gate:
    """`score op threshold`, of all requests or of a scope's (service, tier); seconds where the score is a latency."""

    text: str
    score: str
    op: str
    threshold: float
    scope: Mapping[str, str] = field(default_factory=dict)

    def check(self, scores: Mapping[str, Any], rows: pl.DataFrame | None = None) -> tuple[float | None, bool]:
        """(value, passed); a score that is undefined does not pass. rows: the evaluated requests."""
        value = scores[self.score] if self.score in scores and not self.scope else self._of(rows)
        return value, value is not None and _OPERATORS[self.op](value, self.threshold)

    def _of(self, rows: pl.DataFrame | None) -> float | None:
        if rows is None or not rows.width:
            return None
        mine = within(self.scope, rows)
        latency = _LATENCY.match(self.score)
        if latency is None:
            share: float | None = mine["attained"].mean()  # type: ignore[assignment]
            return share
        seconds: float | None = mine[f"{latency['metric']}_s"].quantile(float(latency["percentile"]) / 100, "linear")
        return seconds


def within(scope: Mapping[str, str], rows: pl.DataFrame) -> pl.DataFrame:
    """The requests of a scope; without a tier they are scored as interactive-fast, and judged so."""
    for key, value in scope.items():
        rows = rows.filter(pl.col("scored_tier" if key == "tier" else key) == value)
    return rows


def parse_gates(texts: Sequence[str]) -> tuple[Gate, ...]:
    """Gates of `--gate 'slo_attainment>=0.99, ttft_p95<500ms @ tier=interactive-fast; gpu_hours<400'`.

    A scope holds for the conditions before it, to the last `;`. UserError (exit 2) naming what is wrong.
    """
    gates: list[Gate] = []
    for clause in (part.strip() for whole in texts for part in whole.split(";")):
        tests, at, scope_text = clause.partition("@")
        if any(_EXPRESSION.match(part) and _OPERATORS.keys() & set(part) for part in scope_text.split(",")):
            raise UserError(f"gate '{clause}': after a scope the next condition follows a ';'", Exit.USAGE)
        scope = parse_scope(scope_text, clause, "gate") if at else {}
        gates += [_gate(part.strip(), scope) for part in tests.split(",")]
    return tuple(gates)


def _gate(test: str, scope: Mapping[str, str]) -> Gate:
    match = _EXPRESSION.match(test)
    if match is None:
        raise UserError(f"gate '{test}' is not SCORE OP VALUE, such as slo_attainment>=0.99 or ttft_p95<1s", Exit.USAGE)
    text = f"{test} @ {', '.join(f'{key}={name}' for key, name in scope.items())}" if scope else test
    score, value = ALIASES.get(match["score"], match["score"]), match["value"].strip()
    latency = _LATENCY.fullmatch(score)
    if latency is not None:
        if not 0 < float(latency["percentile"]) < 100:
            raise UserError(f"gate '{test}': percentile {latency['percentile']} is outside 0 to 100", Exit.USAGE)
        return Gate(text, f"{score}_s", match["op"], parse_duration(value, f"gate '{test}'"), scope)
    if score not in PLAIN:
        raise no_score(f"gate '{test}'", match["score"])
    if scope and score != "slo_attainment":
        raise UserError(
            f"gate '{text}': {score} is of the whole fleet; slo_attainment and latencies can have a scope", Exit.USAGE
        )
    return Gate(text, score, match["op"], _number(value, score, test), scope)


def no_score(where: str, name: str, more: Sequence[str] = ()) -> UserError:
    """The error (exit 2) for a score that is not there, with the nearest that is; more: other names that would do."""
    near = get_close_matches(name.lower(), (*ALIASES, *PLAIN, *LATENCIES, *more), n=1)
    known = ", ".join((*ALIASES, *PLAIN, "ttft_p95", *more))
    hint = f"did you mean '{near[0]}'?" if near else f"there are {known}"
    return UserError(f"{where}: no score '{name}'; {hint}", Exit.USAGE)


def check_services(gates: Sequence[Gate], services: Collection[str]) -> None:
    """UserError (exit 2) for a gate on a service that the trace has not."""
    for gate in gates:
        if (name := gate.scope.get("service", next(iter(services), ""))) not in services:
            near = get_close_matches(name, list(services), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(services)[:8])}"
            raise UserError(f"gate '{gate.text}': no service '{name}' is evaluated; {hint}", Exit.USAGE)


SHARES = ("slo_attainment", "worst_hour_attainment", "utilisation")


def _number(value: str, score: str, text: str) -> float:
    """A threshold; shares may be written as 0.99 or 99%, and lie between 0 and 1."""
    try:
        number = float(value.removesuffix("%")) / (100 if value.endswith("%") and score in SHARES else 1)
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise UserError(f"gate '{text}': '{value}' is not a number", Exit.USAGE) from None
    if score in SHARES and not 0 <= number <= 1:
        raise UserError(f"gate '{text}': a share lies between 0 and 1; write 0.99 or 99%", Exit.USAGE)
    return number


def percentile_test(slo: Slo, rows: pl.DataFrame) -> tuple[float | None, bool]:
    """(seconds at the SLO's percentile within its scope, met) over completed requests; nothing measured is not met."""
    measured: float | None = within(slo.scope, rows)[f"{slo.metric}_s"].quantile((slo.percentile or 0) / 100, "linear")
    return measured, measured is not None and measured < slo.limit_s

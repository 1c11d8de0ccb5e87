"""The SLO grammar: `ttft<1s, tpot<100ms @ tier=interactive-fast; ttft_p95<500ms`, one form everywhere.

A test without percentile is a threshold for each request; `ttft_p95<500ms` is a gate on the percentile, and
its value is each request's threshold too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.trace import TIERS
from lmaas.analysis.units import parse_duration

METRICS = ("ttft", "tpot", "e2e")
NO_TIER = "interactive-fast"  # a request without a tier is scored as one of these, and the output says so
_TEST = re.compile(r"^(?P<metric>[a-z0-9]+?)(_p(?P<percentile>\d+(\.\d+)?))?\s*(<=?)\s*(?P<value>.+)$")
DEFAULTS = (
    "ttft<1s, tpot<100ms @ tier=interactive-fast",
    "ttft<10s, tpot<200ms @ tier=interactive-normal",
    "e2e<24h @ tier=batch",
)


@dataclass(frozen=True)
class Slo:
    """One test: metric (one of METRICS) below limit_s, per request or at a percentile (0 to 100), within a scope."""

    metric: str
    limit_s: float
    percentile: float | None = None
    scope: Mapping[str, str] = field(default_factory=dict)  # service, tier

    def __str__(self) -> str:
        name = self.metric if self.percentile is None else f"{self.metric}_p{self.percentile:g}"
        scope = ", ".join(f"{k}={v}" for k, v in self.scope.items())
        return f"{name}<{_seconds(self.limit_s)}" + (f" @ {scope}" if scope else "")

    def covers(self, service: str, tier: str) -> bool:
        """Whether requests of this service and tier are in the scope."""
        return self.scope.get("service", service) == service and self.scope.get("tier", tier) == tier


def _seconds(value: float) -> str:
    return f"{value * 1000:g}ms" if value < 1 else f"{value:g}s"


def parse_scope(text: str, whole: str, what: str = "SLO") -> dict[str, str]:
    """`service=NAME, tier=NAME` as a mapping; UserError (exit 2), which opens with `what` and `whole`."""
    if not text.strip():
        raise UserError(f"{what} '{whole}' ends after '@'; write @ tier=NAME or @ service=NAME", Exit.USAGE)
    scope: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (x.strip() for x in part.partition("="))
        if not equals or key not in ("service", "tier") or not value:
            raise UserError(
                f"{what} '{whole}': the scope '{part.strip()}' is not service=NAME or tier=NAME", Exit.USAGE
            )
        if key == "tier" and value not in TIERS:
            raise UserError(f"{what} '{whole}': no tier '{value}'; there are {', '.join(TIERS)}", Exit.USAGE)
        scope[key] = value
    return scope


def _test(text: str, scope: Mapping[str, str], whole: str) -> Slo:
    match = _TEST.match(text)
    if match is None:
        if "=" in text:
            name, _, value = (x.strip() for x in text.partition("="))
            united = value if re.search(r"[a-z]$", value) else f"{value}ms"
            raise UserError(f"SLO '{text}' has no '<' or no unit; write {name}<{united} or the like", Exit.USAGE)
        raise UserError(f"SLO '{text}' is not METRIC<VALUE, such as ttft_p95<500ms", Exit.USAGE)
    if match["metric"] not in METRICS:
        raise UserError(f"SLO '{text}': no metric '{match['metric']}'; there are {', '.join(METRICS)}", Exit.USAGE)
    percentile = float(match["percentile"]) if match["percentile"] else None
    if percentile is not None and not 0 < percentile < 100:
        raise UserError(f"SLO '{text}': percentile {percentile:g} is outside 0 to 100", Exit.USAGE)
    value = match["value"].strip()
    if re.fullmatch(r"[\d.eE+-]+", value):
        left = text[: match.start("value")].strip()
        raise UserError(f"SLO '{text}' has no unit; write {left}{value}ms or {left}{value}s", Exit.USAGE)
    limit_s = parse_duration(value, f"SLO '{whole}'")
    if limit_s <= 0:
        raise UserError(f"SLO '{text}': the limit is not above 0", Exit.USAGE)
    return Slo(match["metric"], limit_s, percentile, scope)


def parse_slos(texts: Sequence[str]) -> tuple[Slo, ...]:
    """The tests of all texts, in order; UserError (exit 2) naming what is wrong."""
    slos: list[Slo] = []
    for text in texts:
        for clause in (part.strip() for part in text.split(";")):
            tests, at, scope_text = clause.partition("@")
            scope = parse_scope(scope_text, clause) if at else {}
            parts = [part.strip() for part in tests.split(",")]
            if not all(parts):
                raise UserError(f"SLO '{clause}' has an empty test; write METRIC<VALUE, METRIC<VALUE", Exit.USAGE)
            slos += [_test(part, scope, clause) for part in parts]
    return tuple(slos)


@dataclass(frozen=True)
class Thresholds:
    """What a request of one service and tier must meet, seconds; None: not asked."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def __str__(self) -> str:
        said = [f"{m}<{_seconds(v)}" for m in METRICS if (v := getattr(self, f"{m}_s")) is not None]
        return ", ".join(said)


def thresholds(slos: Sequence[Slo], service: str, tier: str) -> Thresholds:
    """The thresholds of one service and tier: the user's where any covers them, else the tier's defaults.

    Of several on one metric the narrowest scope wins, then the last given.
    """
    covering = [slo for slo in slos if slo.covers(service, tier)]
    if not covering:
        covering = [slo for slo in parse_slos(DEFAULTS) if slo.covers(service, tier)]
    chosen: dict[str, float] = {}
    for slo in sorted(covering, key=lambda slo: len(slo.scope)):  # stable: later ones of equal width overwrite
        chosen[f"{slo.metric}_s"] = slo.limit_s
    return Thresholds(**chosen)

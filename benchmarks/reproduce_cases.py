"""SageServe's policies as they come, in its paper's form and with one thing changed at a time, and by tier."""

from dataclasses import dataclass, replace

from reproduce_replay import Point
from reproduce_rows import SETTINGS, Setting, starting
from reproduce_search import Tuned
from reproduce_text import change, said_hours, table

from lmaas.policies.knobs import knob_of
from lmaas.policies.registry import parse_policy

OF = "sample, busy"  # the setting that cases change
NAMES = ("siloed", "reactive", "lt-i", "lt-u", "lt-ua")
UNIFIED, PLANNED = NAMES[1:], NAMES[2:]


@dataclass(frozen=True)
class Case:
    """One thing changed, in the policies that know it. changes: parameters by policy; setting: where it is played."""

    label: str
    changes: dict[str, str]
    setting: Setting = SETTINGS[OF]

    @property
    def pairs(self) -> list[tuple[Setting, str]]:
        """What is replayed, in the order of NAMES."""
        return [(self.setting, f"sageserve-{name}" + self.changes.get(name, "")) for name in NAMES]


def _in(names: tuple[str, ...], parameters: str) -> dict[str, str]:
    return dict.fromkeys(names, f"({parameters})")


_ARTIFACT = "reroute=false, release=artifact"
_OWN = f"high=0.5, low=0.25, {_ARTIFACT}"
# half of θ is twice the demand; the same factor is on u, and undone by thresholds twice as high
_HALVED = f"headroom=1, high=1, low=0.5, {_ARTIFACT}"
_DEFERRED = "forecaster=truth, defer_in=false"
_BASELINES = {"siloed": "(high=0.5, low=0.25, reroute=false)", "reactive": f"({_OWN})"}
CASES = (
    Case("as they come", {}),
    Case("batch is not held", _in(UNIFIED, "hold_low=1, hold_high=1")),
    Case("`release=artifact`", _in(UNIFIED, "release=artifact")),
    Case("`reroute=false`", _in(NAMES, "reroute=false")),
    Case("`forecaster=truth`", _in(PLANNED, "forecaster=truth")),
    Case("`batch_buffer=1`", _in(PLANNED, "batch_buffer=1")),
    Case("`by_utilisation=false`", _in(PLANNED[1:], "by_utilisation=false")),
    Case("the artifact's thresholds (0.5, 0.25)", _in(NAMES, "high=0.5, low=0.25")),
    Case(
        "all of the artifact's form but for θ",
        _BASELINES | _in(("lt-i",), f"{_OWN}, forecaster=truth") | _in(PLANNED[1:], f"{_OWN}, {_DEFERRED}"),
    ),
    Case(
        "the artifact's form, half of θ",
        _BASELINES
        | _in(("lt-i",), f"{_HALVED}, forecaster=truth")
        | _in(PLANNED[1:], f"{_HALVED}, emergency=1.8, {_DEFERRED}"),
    ),
    Case("starts of 10 s", {}, replace(SETTINGS[OF], fleet=starting(10))),
    Case("starts of 600 s", {}, replace(SETTINGS[OF], fleet=starting(600))),
    Case("a quarter of the load", {}, replace(SETTINGS[OF], load=0.5)),
)


def cases_table(cases: tuple[Case, ...], found: dict[tuple[Setting, str], Point]) -> str:
    """Attained, GPU-hours (instance-hours as the notebook counts), and the changes of both against two baselines."""
    lines = []
    for case in cases:
        siloed, reactive, *planned = (found[pair] for pair in case.pairs)
        lines.append([case.label, _own(siloed), f"{_own(reactive)}, {change(reactive.gpu_hours, siloed.gpu_hours)}"])
        lines[-1] += [
            f"{one.attainment:.1%}; {change(one.gpu_hours, siloed.gpu_hours)}; "
            f"{change(one.gpu_hours, reactive.gpu_hours)}; {change(one.binned_hours, reactive.binned_hours)}"
            for one in planned
        ]
    head = ["", "siloed: attained, GPU-hours (binned)", "reactive: the same, against siloed"]
    of = "attained; against siloed; against reactive; binned, against reactive"
    return table(head + [f"{name}: {of}" for name in PLANNED], lines)


def _own(one: Point) -> str:
    return f"{one.attainment:.1%}, {said_hours(one.gpu_hours)} ({said_hours(one.binned_hours)})"


# --- by tier ---

TIERS = ("interactive-fast", "interactive-normal", "batch")


def tiers_table(found: list[Tuned | str]) -> str:
    """P95 of TTFT of each tier, and what is spent, of each policy as it comes and tuned."""
    lines = []
    for one in found:
        if isinstance(one, str):
            continue
        policy = parse_policy(one.text).policy
        knob = knob_of(policy)
        assert knob is not None
        own = next(at for at in one.tries if at.value == knob.inside(getattr(policy, knob.name)))
        for label, at in ((f"`{one.text}`", own), ("tuned", one.at)):
            if at is not None:
                lines.append([label, *_of_point(at)])
    head = ["", *(f"P95 TTFT, s: {tier}" for tier in TIERS), "P90 TTFT, E2E, s: interactive", "GPU-hours after the end"]
    return table([*head, "binned GPU-hours", "GPU-hours starting", "$ a month"], lines)


def _of_point(at: Point) -> list[str]:
    late = [f"{at.tiers[tier][1]:,.1f}" if tier in at.tiers else "–" for tier in TIERS]
    _, _, ttft_s, e2e_s = at.tiers["interactive"]
    dollars = "–" if at.usd_month is None else f"{at.usd_month:,.0f}"
    hours = (f"{at.tail_hours:,.1f}", said_hours(at.binned_hours), f"{at.wasted_hours:,.1f}")
    return [*late, f"{ttft_s:,.1f}, {e2e_s:,.1f}", *hours, dollars]

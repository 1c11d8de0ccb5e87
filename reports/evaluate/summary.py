"""Executive summary: the recommendation in one sentence, and four numbers beside what they are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..format import cell, change, number, percent, share, span, text, usd
from ..section import Kind, Section, Tile, Tone
from .choice import Choice, Row, choose

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation


def section(result: Evaluation) -> Section:
    """Cheapest policy without foresight that attains the target, or that none does."""
    attain = result.settings["attain"]
    choice = choose(result.scores, attain)
    return Section(
        "summary",
        "Executive summary",
        finding(choice, attain),
        tiles=tiles(choice, attain),
        notes=_notes(result, choice, attain),
        brief=True,
    )


def finding(choice: Choice, attain: float) -> str:
    """The sentence a reviewer takes away; states cost and attainment, good or bad."""
    best, closest = choice.best, choice.closest
    if best is None and closest is None:
        return "No policy was scored, so there is nothing to recommend."
    if best is None:
        assert closest is not None
        return (
            f"No policy without foresight attains {share(attain)}: {text(closest['policy'])} comes closest with "
            f"{share(closest['slo_attainment'])} of requests within their SLOs, for {_cost(closest)}."
        )
    return (
        f"{text(best['policy'])} is the cheapest policy that attains {share(attain)}: {share(best['slo_attainment'])} "
        f"of requests within their SLOs, for {_cost(best)}{_against(best, choice)}."
    )


def _cost(row: Row) -> str:
    hours = f"{number(row['gpu_hours_provisioned'])} GPU-hours"
    return hours if row["cost_usd"] is None else f"{usd(row['cost_usd'])} ({hours})"


def _against(row: Row, choice: Choice) -> str:
    if choice.baseline is None or not choice.baseline[choice.cost]:
        return ""
    relative = row[choice.cost] / choice.baseline[choice.cost] - 1
    if abs(relative) < 5e-4:
        return f", as much as {text(choice.baseline['policy'])}"
    much = f"{percent(abs(relative))} {'less' if relative < 0 else 'more'}"
    return f", {much} than {text(choice.baseline['policy'])} ({share(choice.baseline['slo_attainment'])})"


def tiles(choice: Choice, attain: float) -> tuple[Tile, ...]:
    """Cost, GPU-hours, attainment and TTFT of the policy the headline is about; unknown ones are left out."""
    row, base = choice.subject, choice.baseline
    if row is None:
        return ()
    found = [
        _relative("Cost per month", "usd_per_month", "usd", row, base),
        _relative("GPU-hours provisioned", "gpu_hours_provisioned", "number", row, base),
        _attainment(row, base, attain),
        _relative("TTFT p95", "ttft_p95_s", "duration_s", row, base),
        _relative("E2E p95", "e2e_p95_s", "duration_s", row, base),
    ]
    return tuple(tile for tile in found if tile)[:4]


def _relative(label: str, column: str, kind: Kind, row: Row, base: Row | None) -> Tile | None:
    """A tile of a quantity of which less is better."""
    value = row[column]
    if value is None:
        return None
    written = cell(value, kind)
    before = base[column] if base else None
    if base is None or not before:
        return Tile(label, written)
    relative = value / before - 1
    tone: Tone = "plain" if abs(relative) < 5e-4 else "good" if relative < 0 else "bad"
    delta = change(relative) + {"good": ", better", "bad": ", worse", "plain": ""}[tone]
    return Tile(label, written, f"{text(base['policy'])} {cell(before, kind)}", delta, tone)


def _attainment(row: Row, base: Row | None, attain: float) -> Tile:
    value = row["slo_attainment"]
    tone: Tone = "good" if value >= attain else "bad"
    target = f"{'meets' if value >= attain else 'misses'} {share(attain)}"
    return Tile(
        "SLO attainment",
        share(value),
        f"{text(base['policy'])} {share(base['slo_attainment'])}" if base else "",
        target,
        tone,
    )


def _notes(result: Evaluation, choice: Choice, attain: float) -> tuple[str, ...]:
    """What changes how the headline is read."""
    notes = []
    bounds = result.scores.filter("foresight").to_dicts()
    if choice.best is None and bounds and (bounds[0]["slo_attainment"] or 0) < attain:
        reached = share(bounds[0]["slo_attainment"] or 0)
        notes.append(
            f"Even {text(bounds[0]['policy'])}, which knows the future, reaches only {reached}: "
            "the SLOs are out of reach of this profile or fleet, whatever the policy."
        )
    asked = result.scores.filter((result.scores["role"] == "policy") & ~result.scores["foresight"])
    if choice.best and choice.best["role"] == "baseline" and asked.height:
        notes.append(f"{text(choice.best['policy'])} is a baseline: no policy asked for attains the target for less.")
    if result.failures:
        notes.append(f"Failed, and not compared: {', '.join(map(text, result.failures))}.")
    worst = choice.subject["worst_hour_attainment"] if choice.subject else None
    if choice.subject and worst is not None:
        notes.append(f"In its worst hour {text(choice.subject['policy'])} attained {share(worst)}.")
    length = span(result.settings["end_s"] - result.settings["cut_s"])
    notes.append(f"Evaluated: {length} of the trace in one replay; differences between policies carry no interval.")
    return tuple(notes)

"""Executive summary: the recommendation in one sentence, and four numbers beside what they are compared with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import Choice, Row, choose
from lmaas.policies.results import why_denied

from ..format import cell, listed, number, percent, share, short, span, text, usd
from ..section import Kind, Section, Tile, Tone
from . import equal_hours
from .confidence import said
from .differences import bounds, relative, signed
from .spare import told

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation


HOUR_S = 3600.0
SEVERAL = 3.0  # times the baseline's TTFT p99, from which it is asked whose it is
SHORT_S = 86_400.0  # a daily rhythm is the least a month's cost should rest on


def section(result: Evaluation) -> Section:
    """Cheapest policy without foresight that attains the target, or that none does."""
    attain = result.settings["attain"]
    choice = choose(result.scores, attain)
    return Section(
        "summary",
        "Executive summary",
        finding(choice, attain),
        tiles=tiles(choice, attain, result.differences),
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
        names = listed([closest["policy"], *choice.tied])
        comes = "come closest, alike," if choice.tied else "comes closest"
        return (
            f"No policy without foresight attains {share(attain)}: {names} {comes} with "
            f"{share(closest['slo_attainment'])} of requests within their SLOs, for {_cost(closest)}."
        )
    if not choice.told_apart:
        return (
            f"By cost and attainment this trace cannot tell {listed([best['policy'], *choice.tied])} apart: each "
            f"attains {share(attain)}, with {share(best['slo_attainment'])} of requests within their SLOs, for "
            f"{_cost(best)}."
        )
    return (
        f"{text(best['policy'])} is the cheapest policy that attains {share(attain)}: {share(best['slo_attainment'])} "
        f"of requests within their SLOs, for {_cost(best)}{_against(best, choice)}{_alike(choice)}."
    )


def _alike(choice: Choice) -> str:
    if not choice.tied:
        return ""
    return f"; {listed(choice.tied)} {'come' if choice.tied[1:] else 'comes'} to the same"


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


def tiles(choice: Choice, attain: float, differences: pl.DataFrame) -> tuple[Tile, ...]:
    """Cost, GPU-hours, attainment and TTFT of the policy the headline is about; unknown ones are left out."""
    row, base = choice.subject, choice.baseline
    if row is None:
        return ()
    apart = _apart(row, base, differences)
    found = [
        _relative("Cost per month", "usd_per_month", "usd", row, base, apart.get("cost_usd")),
        _relative(
            "GPU-hours provisioned", "gpu_hours_provisioned", "number", row, base, apart.get("gpu_hours_provisioned")
        ),
        _attainment(row, base, attain, apart.get("slo_attainment")),
        _relative("TTFT p99", "ttft_p99_s", "duration_s", row, base, apart.get("ttft_p99_s")),
        _relative("E2E p99", "e2e_p99_s", "duration_s", row, base, apart.get("e2e_p99_s")),
    ]
    return tuple(tile for tile in found if tile)[:4]


def _apart(row: Row, base: Row | None, differences: pl.DataFrame) -> dict[str, Row]:
    """By score, what is known of the difference between the two."""
    if base is None or differences.is_empty():
        return {}
    pair = (pl.col("policy") == row["policy"]) & (pl.col("against") == base["policy"])
    return {one["metric"]: one for one in differences.filter(pair).iter_rows(named=True)}


def _relative(label: str, column: str, kind: Kind, row: Row, base: Row | None, apart: Row | None) -> Tile | None:
    """A tile of a quantity of which less is better; apart: its difference, with an interval."""
    value = row[column]
    if value is None:
        return None
    written = cell(value, kind)
    before = base[column] if base else None
    if base is None or not before:
        return Tile(label, written)
    by = value / before - 1
    tone: Tone = "plain" if abs(by) < 5e-4 else "good" if by < 0 else "bad"
    if apart and apart["verdict"] == "no difference":
        tone = "plain"
    word = apart["verdict"] if apart and apart["verdict"] else {"good": "better", "bad": "worse", "plain": ""}[tone]
    delta = relative(by) + (f", {word}" if word else "")
    return Tile(label, written, f"{text(base['policy'])} {cell(before, kind)}", delta, _interval(apart), tone)


def _interval(apart: Row | None) -> str:
    """'90 %: [−48.0, −44.1] %'; each end in its own unit where one is a multiple."""
    if apart is None or apart["low"] is None or not apart["reference"]:
        return ""
    low, high = (signed(apart[name], apart) for name in ("low", "high"))
    within = f"[{low}, {high}]" if "×" in low + high else f"{bounds(apart)}\N{NO-BREAK SPACE}%"
    return f"90\N{NO-BREAK SPACE}%: {within}"


def _attainment(row: Row, base: Row | None, attain: float, apart: Row | None) -> Tile:
    value = row["slo_attainment"]
    tone: Tone = "good" if value >= attain else "bad"
    target = f"{'meets' if value >= attain else 'misses'} {share(attain)}"
    return Tile(
        "SLO attainment",
        share(value),
        f"{text(base['policy'])} {share(base['slo_attainment'])}" if base else "",
        target,
        f"{signed(apart['difference'], apart)} {bounds(apart)}" if apart and apart["low"] is not None else "",
        tone,
    )


def _notes(result: Evaluation, choice: Choice, attain: float) -> tuple[str, ...]:
    """What changes how the headline is read."""
    notes = [said(result, choice, attain)] if choice.subject else []
    if choice.best is None:
        notes.append(_why_none(result, choice, attain))
    same = _all_alike(result)
    if choice.best and same:
        notes.append("Every policy ran the same fleet: a higher load may tell them apart (try --load 10x).")
    asked = result.scores.filter((result.scores["role"] == "policy") & ~result.scores["foresight"])
    if choice.best and choice.best["role"] == "baseline" and asked.height and choice.told_apart:
        notes.append(f"{text(choice.best['policy'])} is a baseline: no policy asked for attains the target for less.")
    notes += equal_hours.beaten(result, same)
    if result.failures:
        notes.append(f"Failed, and not compared: {', '.join(map(text, result.failures))}.")
    worst = choice.subject["worst_hour_attainment"] if choice.subject else None
    evaluated_s = result.settings["end_s"] - result.settings["cut_s"]
    if choice.subject and worst is not None and evaluated_s > HOUR_S:
        notes.append(f"In its worst hour {text(choice.subject['policy'])} attained {share(worst)}.")
    if result.spare.height:
        notes.append(f"N+1: {told(result.spare)}.")
    if choice.subject and choice.subject.get("starts_denied"):
        notes.append(
            f"{text(choice.subject['policy'])} was denied {choice.subject['starts_denied']:,} starts of replicas, "
            f"{why_denied(choice.subject)}."
        )
    if choice.subject and choice.subject.get("not_sent"):
        notes.append(
            f"Under {text(choice.subject['policy'])} {choice.subject['not_sent']:,} turns of sessions were never sent, "
            "because one before them did not complete; they miss."
        )
    how = "estimated from windows" if result.settings.get("fidelity") == "window" else "in one replay"
    apart = "" if choice.subject and result.differences.height else "; differences between policies carry no interval"
    notes.append(f"Evaluated: {span(evaluated_s)} of the trace {how}{apart}.")
    if evaluated_s < SHORT_S:
        notes.append("Under a day was evaluated: a month of it is arithmetic, not a forecast.")
    notes += _prefix_cache(result, choice)
    notes += _held(result, choice)
    notes.append(_in_effect(result))
    return tuple(notes)


def _held(result: Evaluation, choice: Choice) -> list[str]:
    """Whose wait a TTFT is that is several times the baseline's, where some requests have no limit on it."""
    row, base = choice.subject, choice.baseline
    if row is None or base is None or not (row["ttft_p99_s"] or 0) > SEVERAL * (base["ttft_p99_s"] or math.inf):
        return []
    limited = {text(slo["tier"]): "ttft" in slo["thresholds"] for slo in result.settings["slos"]}
    free = [tier for tier, has in limited.items() if not has]
    if not free or len(free) == len(limited):
        return []
    return [f"TTFT p99 is of all requests: {listed(free)} has no limit on it, and may be held back by design."]


def _prefix_cache(result: Evaluation, choice: Choice) -> list[str]:
    """Whether prompts were cached, and how much that saved; nothing where the trace has no block hashes."""
    cache = result.settings.get("prefix_cache")
    if cache is None:
        has_hashes = "block_hashes" in result.trace.columns and result.trace.block_size
        off = "Prefix cache off: every prompt is computed in full, though the trace has block hashes."
        recorded = result.settings.get("recorded_hit_share")
        told = (
            f"The trace says that {percent(recorded)} of the evaluated prompt tokens were served from a prefix cache; "
            "the replay computes all of them, so that a fleet with such a cache would need less."
            if recorded
            else ""
        )
        return [*([off] if has_hashes else []), *([told] if told else [])]
    hits = choice.subject["prefix_hit_share"] if choice.subject else None
    if choice.subject is None or hits is None:
        return [f"Prefix cache on for {', '.join(map(text, cache['services']))}."]
    found = f"{text(choice.subject['policy'])} found {share(hits)} of the prompt tokens in it"
    return [f"Prefix cache on (blocks of {cache['block_tokens']:,} tokens): {found}. prefix_cache: false turns it off."]


def _why_none(result: Evaluation, choice: Choice, attain: float) -> str:
    """Whether the SLOs are out of any fleet's reach, or these policies are too small: two different answers."""
    rates = result.settings.get("rates", [])
    beyond = [rate for rate in rates if rate["alone_attainment"] < attain]
    if beyond:
        worst = min(beyond, key=lambda rate: rate["alone_attainment"])
        if worst.get("hit_share") is not None:
            return (
                f"Of {short(worst['service'])}'s requests only {share(worst['alone_attainment'])} can meet their SLOs "
                "on an idle replica of this profile with an empty prefix cache; hits bring in more, as far as they go."
            )
        return (
            f"Of {short(worst['service'])}'s requests only {share(worst['alone_attainment'])} can meet their SLOs on "
            "an idle replica of this profile: no number of replicas attains the target; another profile or SLO would."
        )
    if choice.subject and (denied := choice.subject.get("starts_denied")):
        if denied > (choice.subject.get("starts_denied_down") or 0):
            return "The SLOs are within reach of the profile, but not of as few GPUs as the regions have."
        return "The SLOs are within reach of the profile, but a region was down when replicas were wanted there."
    return (
        "The SLOs are within reach of the profile, but no policy here ran enough replicas; sizing by mean rates misses "
        "bursts. Try headroom, such as 'preserve(headroom=0.5)', or a larger static fleet."
    )


def _all_alike(result: Evaluation) -> bool:
    scores = result.scores.filter(~pl.col("foresight"))
    return scores.height > 1 and all(
        scores[column].n_unique() == 1 for column in ("gpu_hours_provisioned", "slo_attainment", "ttft_p99_s")
    )


def _in_effect(result: Evaluation) -> str:
    """Profiles, prices and SLOs the numbers rest on, where a reader of the terminal sees them."""
    profiles: dict[tuple[str, ...], str] = {}  # by whole names: short ones may be alike
    for pool in result.settings.get("pools", []):
        service = service_of(pool)
        profiles[service, _priced(pool)] = f"{short(service)} on {_priced(pool)}"
        for other in (m for m in pool["mixed"] if m["replicas"]):
            where = pool["pool"].removesuffix("/shared")
            written = f"{other['replicas']:,} of {short(where)} on {_priced(other)}"
            profiles[where, _priced(other), "mixed"] = written
    limits: dict[str, None] = {}
    for slo in result.settings.get("slos", []):
        limits[f"{text(slo['tier'])} {text(slo['thresholds'])}"] = None
    parts = [list(profiles.values()), list(limits)]
    said = [", ".join(part[:6]) + (", ..." if len(part) > 6 else "") for part in parts if part]
    return "In effect: " + "; ".join(said) + "." if said else "In effect: defaults."


def service_of(pool: dict[str, Any]) -> str:
    """A service may hold slashes; earlier runs stored only the pool's name, service/region/lane."""
    return str(pool.get("service") or pool["pool"].rsplit("/", 2)[0])


def _priced(row: dict[str, Any]) -> str:
    price = row["usd_per_gpu_hour"]
    return text(row["profile"]) + ("" if price is None else f" at ${price:g}/GPU-h")

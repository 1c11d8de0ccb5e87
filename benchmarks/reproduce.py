"""The papers' comparisons on the closest traces to be had: `.venv/bin/python benchmarks/reproduce.py [--write]`.

Every policy is tuned to the same attainment before it is compared (policies.search; foresight). Replays are kept in
`.lmaas/reproduction`, by the code they were made with, so that a run which was cut off goes on where it was. --write
puts the sections it made into docs/reproduction.md, in place of those of the same headings. Rows: reproduce_rows.py.
"""

import argparse
import multiprocessing
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date
from importlib.metadata import version

from reproduce_cases import CASES, OF, cases_table, tiers_table
from reproduce_costs import PARTS, costs, overhead
from reproduce_replay import KEPT, ROOT, Point, facts, trace_file
from reproduce_rows import ABLATIONS, FLEETS, PAPERS, ROWS, SETTINGS, Ablation, Row, Setting
from reproduce_search import NEAR, All, Found, Kept, Tuned, as_it_comes, code_digest, explore, tuned
from reproduce_text import change, said_hours, table

from lmaas.policies.knobs import knob_of
from lmaas.policies.registry import parse_policy

Once = Callable[[list[tuple[Setting, str]]], dict[tuple[Setting, str], Point]]  # each as it comes
PAGE, MARK = ROOT / "docs" / "reproduction.md", "<!-- what follows is printed by benchmarks/reproduce.py -->"
FAR = 0.15  # how far GPU-hours may be apart and the tails still be compared
NAMES = {
    "azure-conv": "Azure 2023, conversations", "azure-code": "Azure 2023, code", "sample": "bundled sample",
    "fortnight": "ServeGen, 14 days", "sample, 82 h": "bundled sample, hours 34 to 82",
}  # fmt: skip


# --- words ---


def gpu_hours(ours: Tuned, theirs: Tuned) -> str:
    """Change of GPU-hours at the same attainment."""
    return change(ours.at and ours.at.gpu_hours, theirs.at and theirs.at.gpu_hours)


def tail(ours: Tuned, theirs: Tuned) -> str:
    """Change of the 99th percentile of normalised latency at the GPU-hours that ours attains with."""
    if ours.at is None:
        return "–"
    beside = theirs.closest(ours.at.gpu_hours)
    far = beside.gpu_hours / ours.at.gpu_hours - 1
    if abs(far) > FAR:
        return f"– (its closest: {far:+.0%} GPU-hours)"
    note = "" if abs(far) <= NEAR else f" (at {far:+.0%} GPU-hours)"
    return change(ours.at.norm_p99_s, beside.norm_p99_s) + note


def waste(ours: Tuned, theirs: Tuned) -> str:
    """Change of GPU-hours spent on replicas that start."""
    return change(ours.at and ours.at.wasted_hours, theirs.at and theirs.at.wasted_hours)


def latency(ours: Tuned, theirs: Tuned) -> str:
    """90th percentiles of TTFT and E2E, ours and theirs."""
    pair = (ours.at, theirs.at)
    return " / ".join(f"{one.ttft_p90_s:.2f}, {one.e2e_p90_s:.1f} s" if one else "–" for one in pair)


def decode(ours: Tuned, theirs: Tuned) -> str:
    """Change of the GPU-hours of decode lanes at the same attainment."""
    return change(ours.at and ours.at.decode_hours, theirs.at and theirs.at.decode_hours)


def dollars(ours: Tuned, theirs: Tuned) -> str:
    """Difference a month."""
    pair = [one.at.usd_month if one.at else None for one in (ours, theirs)]
    return "–" if None in pair else f"{pair[0] - pair[1]:+,.0f} $"  # type: ignore[operator]


MEASURES = {
    "GPU-hours": gpu_hours,
    "tail": tail,
    "waste": waste,
    "latency": latency,
    "dollars": dollars,
    "decode": decode,
}


def of_policy(text: str, found: Tuned | str) -> list[str]:
    """What a policy came to at its own value of the knob, and tuned (POLICY_HEAD)."""
    if isinstance(found, str):
        return [f"`{text}`", found, *[""] * (len(POLICY_HEAD) - 2)]
    policy = parse_policy(text).policy
    one, knob = found.shown, knob_of(policy)
    assert knob is not None
    own = next(at for at in found.tries if at.value == knob.inside(getattr(policy, knob.name)))
    least = one.value == knob.value(knob.factor_least)
    fails = " (its least)" if found.at and least else "" if found.at else " (its most)"
    below = said_hours(found.below.gpu_hours) if found.below else "–"
    between = f"{below}, {said_hours(one.gpu_hours)}" if found.at else "–"
    busiest = f"{one.replicas_min:.1f} to {one.replicas_max:.1f}"
    return [
        f"`{text}`", f"{own.attainment:.2%}, {said_hours(own.gpu_hours)}", f"{knob.name} {one.value:g}",
        f"{one.attainment:.2%}{fails}", said_hours(one.gpu_hours), between,
        f"{1000 * one.norm_p99_s:.0f} ms", busiest, str(len(found.tries)),
    ]  # fmt: skip


POLICY_HEAD = [
    "policy",
    "as it comes: attained, GPU-hours",
    "tuned: knob",
    "attained",
    "GPU-hours",
    "between",
    "P99 of E2E a token",
    "busiest pool",
    "replays",
]


def described(kept: Kept, name: str, setting: Setting) -> str:
    """A setting in a sentence."""
    said = kept.ask(facts, setting)
    profile = "default profiles"
    if setting.profile is not None:
        shipped, changes, times = setting.profile
        with_ = [f"{key} {value:,}" for key, value in changes] + ([f"decode_kv x {times:g}"] if times != 1 else [])
        profile = f"`{shipped}` with {', '.join(with_)}"
    cold = "the profiles' cold starts" if setting.cold_s is None else f"cold start {setting.cold_s:g} s"
    each = " in each tier" if setting.each_tier else ""
    parts = [
        f"{said['requests']:,} requests replayed in {said['pools']} pools", profile, f"load {setting.load:g}x",
        "SLO " + (", ".join(setting.slo) or "by tier"),
        "default windows" if setting.window_s is None else f"windows of {setting.window_s:g} s",
        *([] if "startup_s" in (setting.fleet or "") else [cold]),
        *(words for words, text in FLEETS.items() if text == setting.fleet),
        f"target {setting.attain:.0%}{each} (at most {said['possible']:.2%} can be attained)",
    ]  # fmt: skip
    return f"**{name}**: {NAMES[setting.trace]}; " + "; ".join(parts) + "."


# --- sections ---


def comparisons(kept: Kept, all_: All, names: list[str], papers: list[str]) -> Iterator[str]:
    """A section a setting and paper: every policy tuned, then each row against the others."""
    for name in names:
        setting = SETTINGS[name]
        rows = [row for row in ROWS if row.setting == name and row.paper in papers]
        if not rows:
            continue
        if trace_file(setting.trace) is None:
            print(f"{name}: the trace is not there", file=sys.stderr)
            continue
        found = all_([(setting, text) for text in _texts(rows)])
        explore(kept, found, setting, rows)
        for paper in papers:
            own = [row for row in rows if row.paper == paper]
            if own:
                body = table(POLICY_HEAD, [of_policy(text, found[setting, text]) for text in _texts(own)])
                tiers = [tiers_table([found[setting, text] for text in _texts(own)])] if setting.each_tier else []
                against = [_against(setting, row, found) for row in own]
                parts = [described(kept, name, setting), body, *tiers, *against]
                yield section(f"{name}, {paper}", *parts)


def _texts(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(text for row in rows for text in (row.policy, *row.against)))


def _against(setting: Setting, row: Row, found: Found) -> str:
    ours = found[setting, row.policy]
    if isinstance(ours, str):
        return f"`{row.policy}`: {ours}. {row.paper}'s figures: {row.figure}."
    if ours.at is None:
        return f"`{row.policy}` attained the target at none of the values tried. {row.paper}'s figures: {row.figure}."
    lines = []
    for text in row.against:
        theirs = found[setting, text]
        if isinstance(theirs, Tuned):
            lines.append([f"`{text}`", *(MEASURES[measure](ours, theirs) for measure in row.measures)])
    head = [f"`{row.policy}` against", *row.measures]
    return f"{row.paper}'s figures: {row.figure}. Ours:\n\n{table(head, lines)}"


def ablations(all_: All, chosen: tuple[Ablation, ...]) -> Iterator[str]:
    """A section an ablation."""
    for one in chosen:
        if any(trace_file(setting.trace) is None for _, _, setting in one.cases):
            print(f"{one.name}: the trace is not there", file=sys.stderr)
            continue
        found = all_([(setting, text) for _, text, setting in one.cases])
        base = found[one.cases[0][2], one.cases[0][1]]
        lines = []
        for label, text, setting in one.cases:
            here = found[setting, text]
            against = gpu_hours(here, base) if isinstance(here, Tuned) and isinstance(base, Tuned) else ""
            lines.append([label, *of_policy(text, here), against])
        yield section(one.name, table(["", *POLICY_HEAD, "GPU-hours, change"], lines))


def overhead_said(kept: Kept, name: str) -> str:
    """PreServe's overhead beside ours."""
    found = kept.ask(costs, SETTINGS[name])
    parts = ", ".join(f"{key} {1e6 * found[key]:,.2f} µs" for key in (PARTS[0], "batch", *PARTS[1:]))
    said = (
        f"PreServe's figure: 0.23 % of the service time. Ours on {name}, CPU time a request: {parts} "
        "(length predicted alone, or with all others in a batch; what the router adds to a replay with round robin; "
        "what the load anticipator and Tier-2's looks add to that, on the same fleet at every instant; its share of "
        f"forecasts and of Tier-1). Mean service time {found['service']:.2f} s: all of it with lengths predicted alone "
        f"{overhead(found):.3%}, in a batch {overhead(found, 'batch'):.5%}."
    )
    return section("Overhead", said)


def machine() -> str:
    """What was asked, where and with what it was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("polars", "numba", "statsforecast", "xgboost-cpu"))
    where = f"{date.today()}, {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    asked = shlex.join(("reproduce.py", *sys.argv[1:]))
    return f"`{asked}`: {where}, {versions}; code {code_digest()}"


def section(heading: str, *parts: str) -> str:
    """A section of the page, with the machine and the code it was made with."""
    return "\n\n".join((f"### {heading}", *parts, f"By {machine()}.")) + "\n"


def written(page: str, made: list[str]) -> str:
    """The page with these sections below MARK, each in place of the one of its heading, else after all others."""
    head, _, below = page.partition(MARK)
    lead, *there = re.split(r"(?m)^(?=### )", below)
    sections = {one.splitlines()[0]: one.strip() for one in (*there, *made)}
    return head + MARK + "\n\n" + "".join(f"{one}\n\n" for one in (lead.strip(), *sections.values()) if one)[:-1]


def sections(kept: Kept, all_: All, once: Once, given: argparse.Namespace) -> Iterator[str]:
    """All that was asked for; settings before ablations, which show what was found there."""
    names = given.settings or list(SETTINGS)
    yield from comparisons(kept, all_, names, given.papers)
    if not given.no_ablations:
        yield from ablations(all_, tuple(one for one in ABLATIONS if one.paper in given.papers and one.of in names))
        if "SageServe" in given.papers and OF in names:
            found = once([pair for case in CASES for pair in case.pairs])
            yield section(f"{OF}: what SageServe's figures depend on", cases_table(CASES, found))
    if "PreServe" in given.papers and "conversations" in names and trace_file("azure-conv"):
        yield overhead_said(kept, "conversations")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", choices=[*SETTINGS, []], help="all, if none is named")
    parser.add_argument("--papers", nargs="*", choices=PAPERS, default=list(PAPERS))
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--write", action="store_true", help="into docs/reproduction.md, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=context) as pool, ThreadPoolExecutor(given.jobs) as searches:
        kept, found = Kept(KEPT / "replays.jsonl", pool), Found()

        def all_(asked: list[tuple[Setting, str]]) -> Found:
            new = [pair for pair in dict.fromkeys(asked) if pair not in found]
            found.update(zip(new, searches.map(lambda pair: tuned(kept, *pair), new), strict=True))
            return found

        def once(asked: list[tuple[Setting, str]]) -> dict[tuple[Setting, str], Point]:
            new = list(dict.fromkeys(asked))
            return dict(zip(new, searches.map(lambda pair: as_it_comes(kept, *pair), new), strict=True))

        made = []
        for text in sections(kept, all_, once, given):
            made.append(text)
            print(text, flush=True)
        print(f"{kept.made} replays, {time.perf_counter() - began:,.0f} s", file=sys.stderr)
    if given.write:
        PAGE.write_text(written(PAGE.read_text(), made))


if __name__ == "__main__":
    main()

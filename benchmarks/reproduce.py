"""The papers' comparisons on the closest traces to be had: `.venv/bin/python benchmarks/reproduce.py [--write]`.

Every policy is tuned to the same attainment before it is compared (policies.search; foresight). Replays are kept in
`.lmaas/reproduction.jsonl`, by the code they were made with, so that a run which was cut off goes on where it was.
--write puts the tables into docs/reproduction.md. Rows: reproduce_rows.py.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

from reproduce_replay import FORTNIGHT, KEPT, ROOT, Point, costs, facts, replayed, trace_file
from reproduce_rows import ABLATIONS, PAPERS, ROWS, SETTINGS, Ablation, Row, Setting

from lmaas.analysis.errors import UserError
from lmaas.policies.knobs import knob_of
from lmaas.policies.registry import parse_policy
from lmaas.policies.search import search

PAGE, MARK = ROOT / "docs" / "reproduction.md", "<!-- what follows is printed by benchmarks/reproduce.py -->"
TOLERANCE, MOST_REPLAYS = 0.02, 9
All = Callable[[list[tuple[Setting, str]]], dict[Any, Any]]  # tunes these policies
NEAR, FAR = 0.02, 0.15  # how close GPU-hours come to count as equal, and to be compared at all
NAMES = {
    "azure-conv": "Azure 2023, conversations", "azure-code": "Azure 2023, code", "sample": "bundled sample",
    "fortnight": "ServeGen, 14 days",
}  # fmt: skip


# --- what was replayed before ---


class Kept:
    """Results by what they depend on, in a file that only grows; anything not there is made by `pool`."""

    def __init__(self, path: Path, pool: ProcessPoolExecutor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.pool, self.lock, self.made = path, pool, Lock(), 0
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = dict(_pairs(lines))
        self.code = code_digest()

    def ask(self, what: Callable[..., Any], setting: Setting, *arguments: Any) -> Any:
        """what(setting, *arguments), from the file or a process."""
        said = json.dumps([self.code, what.__name__, asdict(setting), *arguments])
        key = hashlib.sha256(said.encode()).hexdigest()
        if key not in self.known:
            found = self.pool.submit(what, setting, *arguments).result()
            with self.lock, self.path.open("a") as file:
                self.known[key] = asdict(found) if isinstance(found, Point) else found
                self.made += 1
                file.write(json.dumps({"key": key, "of": arguments, "found": self.known[key]}) + "\n")
        return Point(**self.known[key]) if what is replayed else self.known[key]


def _pairs(lines: list[str]) -> Iterator[tuple[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # cut off while it was written
            continue
        yield row["key"], row["found"]


def code_digest() -> str:
    """Of everything that decides what a replay gives."""
    digest = hashlib.sha256()
    for room in ("analysis", "replay", "policies"):
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in (".py", ".json"):
                digest.update(path.read_bytes())
    digest.update(" ".join(FORTNIGHT).encode())
    return digest.hexdigest()[:16]


# --- tuned to the same attainment, or to the same GPU-hours ---


@dataclass(frozen=True)
class Tuned:
    """A search's replays; at: the least value that attains, None where none does."""

    text: str
    tries: tuple[Point, ...]
    at: Point | None

    @property
    def shown(self) -> Point:
        """What attains, else what comes closest."""
        return self.at or max(self.tries, key=lambda one: one.attainment)


def tuned(kept: Kept, setting: Setting, text: str) -> Tuned | str:
    """The policy at the setting's attainment, or why there is nothing to say."""
    try:
        named = parse_policy(text)
    except UserError:
        return "not in this version"
    knob = knob_of(named.policy)
    if knob is None:
        return "no knob"
    try:
        ran, _ = search(
            lambda value: kept.ask(replayed, setting, text, value), knob, getattr(named.policy, knob.name),
            setting.attain, tolerance=TOLERANCE, most_replays=MOST_REPLAYS, step=1.4,
        )  # fmt: skip
    except Exception as error:  # a policy's own: the others are still told
        return f"failed: {str(error)[:80]}"
    points = [one for one in ran if isinstance(one, Point)]
    met = [one for one in points if one.attainment >= setting.attain]
    return Tuned(text, tuple(points), min(met, key=lambda one: knob.factor(one.value), default=None))


def at_hours(kept: Kept, setting: Setting, found: Tuned, hours: float) -> Point:
    """The replay whose GPU-hours come closest to these: of those there are, and of up to four more."""
    knob = knob_of(parse_policy(found.text).policy)
    assert knob is not None
    tries = list(found.tries)
    for _ in range(4):
        near = min(tries, key=lambda one: abs(one.gpu_hours / hours - 1))
        value = knob.value(knob.factor(near.value) * hours / near.gpu_hours)
        if abs(near.gpu_hours / hours - 1) <= NEAR or any(value == one.value for one in tries):
            break
        tries.append(kept.ask(replayed, setting, found.text, value))
    return min(tries, key=lambda one: abs(one.gpu_hours / hours - 1))


# --- words ---


def change(ours: float | None, theirs: float | None) -> str:
    """Ours against theirs."""
    return f"{ours / theirs - 1:+.1%}" if ours is not None and theirs else "–"


def gpu_hours(kept: Kept, setting: Setting, ours: Tuned, theirs: Tuned) -> str:
    """Change of GPU-hours at the same attainment."""
    return change(ours.at and ours.at.gpu_hours, theirs.at and theirs.at.gpu_hours)


def tail(kept: Kept, setting: Setting, ours: Tuned, theirs: Tuned) -> str:
    """Change of the 99th percentile of normalised latency at the GPU-hours that ours attains with."""
    if ours.at is None:
        return "–"
    beside = at_hours(kept, setting, theirs, ours.at.gpu_hours)
    far = beside.gpu_hours / ours.at.gpu_hours - 1
    if abs(far) > FAR:
        return f"– (its closest: {far:+.0%} GPU-hours)"
    note = "" if abs(far) <= NEAR else f" (at {far:+.0%} GPU-hours)"
    return change(ours.at.norm_p99_s, beside.norm_p99_s) + note


def waste(kept: Kept, setting: Setting, ours: Tuned, theirs: Tuned) -> str:
    """Change of GPU-hours spent on replicas that start."""
    return change(ours.at and ours.at.wasted_hours, theirs.at and theirs.at.wasted_hours)


def latency(kept: Kept, setting: Setting, ours: Tuned, theirs: Tuned) -> str:
    """90th percentiles of TTFT and E2E, ours and theirs."""
    return " / ".join(f"{one.shown.ttft_p90_s:.2f}, {one.shown.e2e_p90_s:.1f} s" for one in (ours, theirs))


def decode(kept: Kept, setting: Setting, ours: Tuned, theirs: Tuned) -> str:
    """Change of the GPU-hours of decode lanes at the same attainment."""
    return change(ours.at and ours.at.decode_hours, theirs.at and theirs.at.decode_hours)


def dollars(kept: Kept, setting: Setting, ours: Tuned, theirs: Tuned) -> str:
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


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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
    busiest = f"{one.replicas_min:.1f} to {one.replicas_max:.1f}"
    return [
        f"`{text}`", f"{own.attainment:.2%}, {own.gpu_hours:,.1f}", f"{knob.name} {one.value:g}",
        f"{one.attainment:.2%}{fails}", f"{one.gpu_hours:,.1f}",
        f"{1000 * one.norm_p99_s:.0f} ms", busiest, str(len(found.tries)),
    ]  # fmt: skip


POLICY_HEAD = [
    "policy",
    "as it comes: attained, GPU-hours",
    "tuned: knob",
    "attained",
    "GPU-hours",
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
    parts = [
        f"{said['requests']:,} requests replayed in {said['pools']} pools", profile, f"load {setting.load:g}x",
        "SLO " + (", ".join(setting.slo) or "by tier"),
        "default windows" if setting.window_s is None else f"windows of {setting.window_s:g} s",
        "the profiles' cold starts" if setting.cold_s is None else f"cold start {setting.cold_s:g} s",
        *(["prefill and decode lanes, 50 GB/s"] if setting.fleet else []),
        f"target {setting.attain:.0%} (at most {said['possible']:.2%} can be attained)",
    ]  # fmt: skip
    return f"**{name}**: {NAMES[setting.trace]}; " + "; ".join(parts) + "."


# --- sections ---


def comparisons(kept: Kept, all_: All, names: list[str], papers: list[str]) -> Iterator[str]:
    """A section a setting: every policy tuned, then each row against the others."""
    for name in names:
        setting = SETTINGS[name]
        rows = [row for row in ROWS if row.setting == name and row.paper in papers]
        if not rows:
            continue
        if trace_file(setting.trace) is None:
            yield f"### {name}\n\nThe trace is not there.\n"
            continue
        texts = list(dict.fromkeys(text for row in rows for text in (row.policy, *row.against)))
        found = all_([(setting, text) for text in texts])
        body = table(POLICY_HEAD, [of_policy(text, found[setting, text]) for text in texts])
        yield f"### {name}\n\n{described(kept, name, setting)}\n\n{body}\n"
        for row in rows:
            yield from _against(kept, setting, row, found)


def _against(kept: Kept, setting: Setting, row: Row, found: dict[Any, Any]) -> Iterator[str]:
    ours = found[setting, row.policy]
    if isinstance(ours, str):
        yield f"`{row.policy}`: {ours}. {row.paper}'s figures: {row.figure}.\n"
        return
    lines = []
    for text in row.against:
        theirs = found[setting, text]
        if isinstance(theirs, Tuned):
            lines.append([f"`{text}`", *(MEASURES[m](kept, setting, ours, theirs) for m in row.measures)])
    head = [f"`{row.policy}` against", *row.measures]
    yield f"{row.paper}'s figures: {row.figure}. Ours:\n\n{table(head, lines)}\n"


def ablations(kept: Kept, all_: All, chosen: tuple[Ablation, ...]) -> Iterator[str]:
    """A section an ablation."""
    for one in chosen:
        cases = [case for case in one.cases if trace_file(case[2].trace) is not None]
        found = all_([(setting, text) for _, text, setting in cases])
        base = found[cases[0][2], cases[0][1]] if cases else "no trace"
        lines = []
        for label, text, setting in cases:
            here = found[setting, text]
            against = (
                gpu_hours(kept, setting, here, base) if isinstance(here, Tuned) and isinstance(base, Tuned) else ""
            )
            lines.append([label, *of_policy(text, here), against])
        yield f"### {one.name}\n\n{table(['', *POLICY_HEAD, 'GPU-hours, change'], lines)}\n"


def overhead_said(kept: Kept, name: str) -> str:
    """PreServe's overhead beside ours."""
    found = kept.ask(costs, SETTINGS[name])
    parts = ", ".join(f"{key} {1e6 * found[key]:,.1f} µs" for key in ("alone", "batch", "route", "forecast"))
    cost = found["alone"] + found["route"] + found["forecast"]
    batched = cost - found["alone"] + found["batch"]
    return (
        f"### Overhead\n\nPreServe's figure: 0.23 % of the service time. Ours on {name}, CPU time a request: {parts} "
        "(length predicted alone, or with all others in a batch; what the router adds to a replay with round robin; "
        f"its share of forecasts). Mean service time {found['service']:.2f} s: with lengths predicted alone "
        f"{cost / found['service']:.3%}, in a batch {batched / found['service']:.5%}.\n"
    )


def machine() -> str:
    """What was asked, where and with what it was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("polars", "numba", "statsforecast", "xgboost-cpu"))
    where = f"{date.today()}, {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    asked = " ".join(("reproduce.py", *sys.argv[1:]))
    return f"`{asked}`: {where}, {versions}; code {code_digest()}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", choices=[*SETTINGS, []], help="all, if none is named")
    parser.add_argument("--papers", nargs="*", choices=PAPERS, default=list(PAPERS))
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--write", action="store_true", help="into docs/reproduction.md, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    began, names = time.perf_counter(), given.settings or list(SETTINGS)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=context) as pool, ThreadPoolExecutor(given.jobs) as searches:
        kept = Kept(KEPT / "replays.jsonl", pool)

        def all_(asked: list[tuple[Setting, str]]) -> dict[Any, Any]:
            found = searches.map(lambda pair: tuned(kept, *pair), asked)
            return dict(zip(asked, found, strict=True))

        parts = [f"{machine()}.\n"]
        print(parts[0], flush=True)
        sections = [partial(comparisons, kept, all_, names, given.papers)]
        if not given.no_ablations:
            chosen = tuple(one for one in ABLATIONS if one.paper in given.papers)
            sections.append(partial(ablations, kept, all_, chosen))
        for section in sections:
            for text in section():
                parts.append(text)
                print(text, flush=True)
        if "conversations" in names and trace_file("azure-conv"):
            parts.append(overhead_said(kept, "conversations"))
            print(parts[-1], flush=True)
        print(f"{kept.made} replays, {time.perf_counter() - began:,.0f} s", file=sys.stderr)
    if given.write:
        head = re.split(re.escape(MARK), PAGE.read_text())[0]
        PAGE.write_text(head + MARK + "\n\n" + "\n".join(parts))


if __name__ == "__main__":
    main()

"""What benchmarks/reproduce.py replays: each policy tuned to the same attainment, nothing replayed twice."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

from reproduce_replay import FORTNIGHT, ROOT, Point, replayed
from reproduce_rows import Row, Setting

from lmaas.analysis.errors import UserError
from lmaas.policies.knobs import Knob, knob_of
from lmaas.policies.registry import parse_policy
from lmaas.policies.search import search

TOLERANCE, MOST_REPLAYS = 0.02, 15
FEWER = {"fortnight": 9}  # replays of a trace that takes half a minute each
ROUNDS = 3  # of replays at the others' GPU-hours: any of them may attain with less than the search found
NEAR = 0.02  # how close GPU-hours come to count as equal


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
    """A policy's replays with its knob at several values, and the attainment asked for."""

    text: str
    attain: float
    tries: tuple[Point, ...]

    @property
    def at(self) -> Point | None:
        """The fewest GPU-hours that attain; None where none does."""
        met = [one for one in self.tries if one.attainment >= self.attain]
        return min(met, key=lambda one: (one.gpu_hours, -one.attainment), default=None)

    @property
    def shown(self) -> Point:
        """What attains, else what comes closest."""
        return self.at or max(self.tries, key=lambda one: one.attainment)

    @property
    def below(self) -> Point | None:
        """Of what does not attain with fewer GPU-hours than the one shown: the most."""
        least = self.shown.gpu_hours
        failed = [one for one in self.tries if one.attainment < self.attain and one.gpu_hours < least]
        return max(failed, key=lambda one: one.gpu_hours, default=None)

    def closest(self, hours: float) -> Point:
        """The replay whose GPU-hours come closest to these."""
        return min(self.tries, key=lambda one: abs(one.gpu_hours / hours - 1))


Found = dict[tuple[Setting, str], Tuned | str]
All = Callable[[list[tuple[Setting, str]]], Found]  # what was found so far, with these policies tuned


def as_it_comes(kept: Kept, setting: Setting, text: str) -> Point:
    """The policy with its own value of the knob."""
    policy = parse_policy(text).policy
    knob = knob_of(policy)
    assert knob is not None
    found: Point = kept.ask(replayed, setting, text, knob.inside(getattr(policy, knob.name)))
    return found


def tuned(kept: Kept, setting: Setting, text: str) -> Tuned | str:
    """The policy at the setting's attainment, or why there is nothing to say."""
    try:
        named = parse_policy(text)
    except UserError:
        return "not in this version"
    knob = knob_of(named.policy)
    if knob is None:
        return "no knob"
    most = FEWER.get(setting.trace, MOST_REPLAYS)
    try:
        ran, _ = search(
            lambda value: kept.ask(replayed, setting, text, value), knob, getattr(named.policy, knob.name),
            setting.attain, tolerance=TOLERANCE, most_replays=most, step=1.4,
        )  # fmt: skip
    except Exception as error:  # a policy's own: the others are still told
        return f"failed: {str(error)[:80]}"
    found = Tuned(text, setting.attain, tuple(one for one in ran if isinstance(one, Point)))
    return found if setting.trace in FEWER else widened(kept, setting, found, knob)


def widened(kept: Kept, setting: Setting, found: Tuned, knob: Knob) -> Tuned:
    """Where none attains: with up to MOST_REPLAYS, each amid the widest gap of what was tried, until one does."""
    while found.at is None and len(found.tries) < MOST_REPLAYS:
        tried = sorted(knob.factor(one.value) for one in found.tries)
        low, high = max(pairwise(tried), key=lambda gap: gap[1] / gap[0], default=(tried[0], tried[0]))
        value = knob.value(math.sqrt(low * high))
        if any(value == one.value for one in found.tries):
            break
        found = replace(found, tries=(*found.tries, kept.ask(replayed, setting, found.text, value)))
    return found


def toward(kept: Kept, setting: Setting, found: Tuned, hours: float) -> Tuned:
    """With up to four more replays, until one comes within NEAR of these GPU-hours."""
    knob = knob_of(parse_policy(found.text).policy)
    assert knob is not None
    for _ in range(4):
        near = found.closest(hours)
        value = knob.value(knob.factor(near.value) * hours / near.gpu_hours)
        if abs(near.gpu_hours / hours - 1) <= NEAR or any(value == one.value for one in found.tries):
            break
        found = replace(found, tries=(*found.tries, kept.ask(replayed, setting, found.text, value)))
    return found


def explore(kept: Kept, found: Found, setting: Setting, rows: list[Row]) -> None:
    """Adds to `found` the replays that `tail` compares, again where one of them attains with fewer GPU-hours."""
    for _ in range(ROUNDS):
        before = dict(found)
        for row in rows:
            ours = found[setting, row.policy]
            if "tail" not in row.measures or isinstance(ours, str):
                continue
            for text in row.against:
                theirs = found[setting, text]
                if ours.at is not None and isinstance(theirs, Tuned):
                    found[setting, text] = toward(kept, setting, theirs, ours.at.gpu_hours)
        if found == before:
            break

"""`--depth full`: what takes many replays, after the evaluation proper: searches, causes, sensitivity, seeds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.conservation import ConservationError

from .choice import choose
from .differences import differences, drawn, own_intervals
from .equal import Equals
from .full import seeds, sensitivity
from .full.bench import Bench
from .full.breakeven import BREAK_EVEN, break_even
from .full.causes import attributed, changes_of, counterfactuals, hours
from .full.counterfactual import Change
from .full.crew import Crew
from .full.searches import Search
from .full.seeds import MOST_SEEDS, SEEDS, Seeded
from .full.sensitivity import Moved
from .knobs import knob_of
from .matched import Matched, table
from .planning import Planned
from .registry import Named
from .results import Evaluation
from .runner import Run
from .search import Try
from .spread import Spread

DEPTHS = ("default", "full")
REPLAYS = 10  # of a search, as a rule: two or three to bracket, five or six to halve, two probes
FORESIGHT = (
    "foresight: matched headrooms were searched on the evaluated part itself; GPU-hours at matched attainment compare "
    "policies and predictors, and no headroom found there could have been known before"
)


def check_depth(depth: str, fidelity: str, seeds: int | None = None) -> int:
    """How many seeds; UserError (exit 2) for a depth that is none, one that windows do not have, seeds without it."""
    if depth not in DEPTHS:
        raise UserError(f"no depth '{depth}'; there are {', '.join(DEPTHS)}", Exit.USAGE)
    if depth == "full" and fidelity == "window":
        raise UserError("--depth full searches by replays; use --fidelity request", Exit.USAGE)
    if seeds is None:
        return SEEDS if depth == "full" else 1
    if not 1 <= seeds <= MOST_SEEDS:
        raise UserError(f"--seeds {seeds}: from 1 to {MOST_SEEDS}", Exit.USAGE)
    if seeds > 1 and depth != "full":
        raise UserError(f"--seeds {seeds} takes as many replays of everything: add --depth full", Exit.USAGE)
    return seeds


@dataclass(frozen=True)
class Deep:
    """What an evaluation in depth starts from: every policy that ran, with its run; what a replay of it took.

    seconds: by policy. attain: the target; seeds: how many in all.
    """

    result: Evaluation
    policies: Sequence[Named]
    runs: Mapping[str, Run]
    equal: Equals
    seconds: Mapping[str, float]
    prepare_s: float
    bench: Bench
    attain: float
    jobs: int
    seeds: int

    @property
    def fair(self) -> list[Named]:
        """Those without foresight."""
        return [named for named in self.policies if not named.policy.foresight]


def deepen(deep: Deep, say: Callable[[str], None], progress: Callable[[str, float], None]) -> Evaluation:
    """The result with `matched` and `worth`, causes by replay, sensitivity, seeds and the intervals that know of them.

    say: is told beforehand how long it takes. worth: of the predictors of the first policy asked for that takes a
    forecaster's word without foresight. The exit code becomes 6 where a policy asked for attains at no headroom.
    """
    result, bench, (ready, _) = deep.result, deep.bench, deep.bench.base
    tuned = [named for named in deep.policies if knob_of(named.policy)]
    base = _base(result, deep.policies)
    causes = [task for one in deep.fair for task in changes_of(one, deep.runs[one.name], result.worst, ready)]
    beside = [one.run for one in deep.equal.fleets]
    fleets = list({run.name: run for run in beside}.values())
    seeded = seeds.tasks_of(deep.policies, deep.equal.fleets, ready.seed, deep.seeds)
    moved = sensitivity.tasks_of(deep.fair, ready)
    say(estimate(deep, tuned, base, causes, moved, seeded))
    with Crew(bench, deep.jobs) as crew:
        done = counterfactuals(causes, crew, partial(progress, "causes"))
        varied = seeds.by_seed(seeded, [*deep.runs.values(), *fleets], ready.seed, crew, partial(progress, "seeds"))
        moves = sensitivity.sensitivity(
            moved, result.scores, deep.attain, ready, crew, partial(progress, "sensitivity")
        )
        result = _matched(deep, tuned, base, crew, progress)
    result = _between_seeds(deep, result, varied)
    choice = choose(result.scores, deep.attain)
    breaks = pl.DataFrame(schema=BREAK_EVEN)
    if choice.subject is not None:
        breaks = break_even(moves, choice.subject["policy"], choice.best is not None, deep.attain, choice.cost)
    return replace(
        result, worst=attributed(result.worst, done), causes=done, worst_hours=hours(done), seeds=varied,
        sensitivity=moves, break_even=breaks, settings={**result.settings, "depth": "full", "seeds": deep.seeds},
    )  # fmt: skip


def _matched(
    deep: Deep, tuned: Sequence[Named], base: Named | None, crew: Crew, progress: Callable[[str, float], None]
) -> Evaluation:
    """The result with `matched` (every policy that ran and has a knob), `worth` and their scores."""
    result, attain = deep.result, deep.attain
    runs = {row["policy"]: row for row in result.scores.to_dicts()}
    searches = [Search(named, attain, _known(named, runs[named.name])) for named in tuned]
    ended = crew.each(searches, partial(progress, "matched attainment"))
    found = [one for one in ended if isinstance(one, Matched)]
    failed = [
        f"{named.name}: the search for its headroom failed: {one}"
        for named, one in zip(tuned, ended, strict=True) if isinstance(one, str)
    ]  # fmt: skip
    worths, about = _worths(deep, base, crew, partial(progress, "worth of predictors"))
    asked = {row["policy"] for row in runs.values() if row["role"] == "policy"}
    lost = any(one.at is None and one.policy in asked for one in found)
    matched = table(found)
    return replace(
        result,
        scores=result.scores.join(
            matched.select("policy", "headroom_matched", "gpu_hours_matched"),
            on="policy",
            how="left",
            maintain_order="left",
        ),
        matched=matched,
        worth=worths,
        notes=(*result.notes, FORESIGHT, *said(found), *failed, *about),
        exit_code=Exit.INFEASIBLE if lost and result.exit_code in (Exit.OK, Exit.GATE) else result.exit_code,
    )


def _worths(
    deep: Deep, base: Named | None, crew: Crew, progress: Callable[[float], None]
) -> tuple[pl.DataFrame, list[str]]:
    """(the worth of predictors, notes on it)."""
    if base is None:
        return pl.DataFrame(), []
    from . import worth

    def each(wanted: Sequence[tuple[Named, float | None]]) -> list[Matched]:
        search = partial(Search, attain=deep.attain, tolerance=worth.TOLERANCE, step=worth.STEP)
        ended = crew.each([search(named, first=first) for named, first in wanted], progress)
        if failed := next((one for one in ended if isinstance(one, str)), None):
            raise RuntimeError(failed)
        return [one for one in ended if isinstance(one, Matched)]

    about = f"worth of predictors: of {base.name}, its other settings as given, its headroom searched for each"
    try:
        return worth.worth(*deep.bench.base, deep.attain, base.policy, each=each), [about]
    except (UserError, ConservationError):
        raise
    except Exception as error:  # what was found before is worth keeping
        return pl.DataFrame(), [f"worth of predictors: the search for {base.name} failed: {error}"]


def _between_seeds(deep: Deep, result: Evaluation, varied: pl.DataFrame) -> Evaluation:
    """The result with intervals that allow for the spread between seeds."""
    seed = deep.bench.base[0].seed
    draws = drawn(list(deep.runs.values()), seed)
    if deep.seeds == 1 or not draws:
        return result
    spread = Spread.of(varied)
    scores = own_intervals(result.scores, draws, spread)
    return replace(
        result,
        scores=scores,
        differences=differences(scores, deep.attain, draws, deep.equal.fleets, seed, spread),
        settings={**result.settings, "intervals": {**result.settings["intervals"], "seeds": deep.seeds}},
    )


def _base(result: Evaluation, policies: Sequence[Named]) -> Named | None:
    """Whose predictors are judged."""
    asked = result.scores.filter((pl.col("role") == "policy") & ~pl.col("foresight"))["policy"].to_list()
    fit = (named for named in policies if named.name in asked and isinstance(named.policy, Planned))
    return next(fit, None)


def _known(named: Named, scores: Mapping[str, Any]) -> dict[float, Try]:
    """The policy's own run as a replay of the search."""
    knob = knob_of(named.policy)
    if knob is None or scores["slo_attainment"] is None:
        return {}
    value = getattr(named.policy, knob.name)
    cost = scores["gpu_hours_provisioned"], scores["cost_usd"], scores["starts_denied"]
    return {value: Try(value, scores["slo_attainment"], *cost)}


def estimate(
    deep: Deep, tuned: Sequence[Named], base: Named | None, causes: Sequence[Change], moved: Sequence[Moved],
    seeded: Sequence[Seeded],
) -> str:  # fmt: skip
    """What is to come, in a sentence, from what one replay of each policy took, less what is kept.

    Planned policies replay alike, and the first of them also made what the others share: the fastest counts for all.
    """
    kept = deep.bench.kept
    planned = min((deep.seconds[n.name] for n in deep.policies if isinstance(n.policy, Planned)), default=0.0)

    def once_s(named: Named) -> float:
        # static fleets at equal GPU-hours have no time of their own
        return (
            planned if isinstance(named.policy, Planned) else deep.seconds.get(named.name, min(deep.seconds.values()))
        )

    what, searched = [f"matched attainment of {len(tuned)} policies"], [once_s(named) for named in tuned]
    if base is not None:
        from .worth import cases

        predictors = len({case.policy for case in cases(base.policy)})
        what[0] += f" and {predictors} predictors of {base.name}"
        searched += [planned] * predictors
    singles: list[Change | Seeded] = [*causes, *seeded]
    single = [(once_s(task.named), task.asked) for task in singles]
    single += [(once_s(named), task.asked(named)) for task in moved for named in task.policies]
    left = [time_s for time_s, asked in single if kept.get(asked) is None]
    time_s = REPLAYS * sum(searched) + sum(left) + deep.prepare_s * len(moved)
    what.append(f"causes of the worst windows of {len({task.named.name for task in causes})}")
    what.append(f"sensitivity at {len(moved)} points")
    what.append(f"{deep.seeds} seeds" if deep.seeds > 1 else "one seed")
    minutes, replays = math.ceil(time_s / deep.jobs / 60), REPLAYS * len(searched) + len(left)
    again = f" ({len(single) - len(left)} more are kept from before)" if len(left) < len(single) else ""
    return f"--depth full: {', '.join(what)}: about {replays} replays{again}, {minutes} min, {deep.jobs} at a time"


def said(found: Sequence[Matched]) -> list[str]:
    """What a reader must know of the searches, a sentence each."""
    notes = []
    for one in found:
        if one.at is None:
            notes.append(
                f"{one.policy}: no {one.knob.name} attains {one.attain:.2%}: {one.why}; the most reached is "
                f"{one.best.attainment:.2%}, at {one.knob.name} {one.best.value:g}"
            )
        elif not one.steady:
            notes.append(
                f"{one.policy}: attainment does not rise steadily with {one.knob.name}: around "
                f"{one.at.value:g} some {'less' if one.knob.falls else 'more'} of it attains less"
            )
    return notes

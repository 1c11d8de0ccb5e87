"""`--depth full`: what takes many replays, after the evaluation proper: matched attainment, the worth of predictors."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.replay.conservation import ConservationError

from .inputs import Inputs
from .knobs import knob_of
from .matched import Matched, match, table
from .planning import Planned
from .prepare import Prepared
from .registry import Named
from .results import Evaluation
from .search import Try

DEPTHS = ("default", "full")
REPLAYS = 10  # of a search, as a rule: two or three to bracket, five or six to halve, two probes
FORESIGHT = (
    "foresight: matched headrooms were searched on the evaluated part itself; GPU-hours at matched attainment compare "
    "policies and predictors, and no headroom found there could have been known before"
)


def check_depth(depth: str, fidelity: str) -> None:
    """UserError (exit 2) for a depth that is none, or one that windows do not have."""
    if depth not in DEPTHS:
        raise UserError(f"no depth '{depth}'; there are {', '.join(DEPTHS)}", Exit.USAGE)
    if depth == "full" and fidelity == "window":
        raise UserError("--depth full searches by replays; use --fidelity request", Exit.USAGE)


def deepen(
    result: Evaluation,
    policies: Sequence[Named],
    seconds: Mapping[str, float],
    ready: Prepared,
    inputs: Inputs,
    attain: float,
    jobs: int,
    say: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> Evaluation:
    """The result with `matched` (every policy that ran and has a knob), `worth` and their scores.

    seconds: what one replay took, by policy. worth: of the predictors of the first policy asked for that takes a
    forecaster's word without foresight. The exit code becomes 6 where a policy asked for attains at no headroom.
    """
    tuned = [named for named in policies if named.name in seconds and knob_of(named.policy)]
    base = _base(result, policies)
    say(estimate(tuned, base, seconds, jobs))
    runs = {row["policy"]: row for row in result.scores.to_dicts()}

    def one(named: Named) -> Matched | str:
        known = _known(named, runs[named.name])
        label = f"{named.name}, matched"
        try:
            return match(named, ready, inputs, attain, known=known, say=lambda share: progress(label, share))
        except (UserError, ConservationError):  # none of the policy's
            raise
        except Exception as error:
            return f"{named.name}: the search for its headroom failed: {error}"
        finally:
            progress(label, 1.0)

    with ThreadPoolExecutor(max_workers=jobs) as pool:  # the kernel holds no interpreter lock
        ended = list(pool.map(one, tuned))
    found = [one for one in ended if isinstance(one, Matched)]
    notes = [FORESIGHT, *said(found), *(one for one in ended if isinstance(one, str))]
    worths = pl.DataFrame()
    if base is not None:
        from .worth import worth

        about = f"worth of predictors: of {base.name}, its other settings as given, its headroom searched for each"
        try:
            worths = worth(ready, inputs, attain, base.policy, jobs=jobs, say=progress)
        except (UserError, ConservationError):
            raise
        except Exception as error:  # what was found before is worth keeping
            about = f"worth of predictors: the search for {base.name} failed: {error}"
        notes.append(about)
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
        settings={**result.settings, "depth": "full"},
        notes=(*result.notes, *notes),
        exit_code=Exit.INFEASIBLE if lost and result.exit_code in (Exit.OK, Exit.GATE) else result.exit_code,
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


def estimate(tuned: Sequence[Named], base: Named | None, seconds: Mapping[str, float], jobs: int) -> str:
    """What is to come, in a sentence, from what one replay of each policy took.

    Planned policies replay alike, and the first of them also made what the others share: the fastest counts for all.
    """
    planned = min((seconds[named.name] for named in tuned if isinstance(named.policy, Planned)), default=0.0)
    once = [planned if isinstance(named.policy, Planned) else seconds[named.name] for named in tuned]
    replays, time_s = REPLAYS * len(tuned), REPLAYS * sum(once)
    what = f"{len(tuned)} policies"
    if base is not None:
        from .worth import cases

        predictors = len({case.policy for case in cases(base.policy)})
        what += f" and {predictors} predictors of {base.name}"
        replays += REPLAYS * predictors
        time_s += REPLAYS * predictors * planned
    minutes = math.ceil(time_s / jobs / 60)
    return f"--depth full: matched attainment of {what}, about {replays} replays, {minutes} min"


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

"""Several policies run one after the other, or at once: what each found, or why it failed."""

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from lmaas.analysis.errors import UserError
from lmaas.replay.conservation import ConservationError

from .registry import Named
from .runner import Run

Progress = Callable[[str, float], None]  # (policy, share done)
RunOne = Callable[[Named, Callable[[float], None]], Run]


@dataclass(frozen=True)
class Replays:
    """runs: by policy, in the order asked; failures: why the others have none; seconds: what each run took."""

    runs: dict[str, Run]
    failures: dict[str, str]
    seconds: dict[str, float]


def run_all(policies: Sequence[Named], run_one: RunOne, jobs: int, say: Progress) -> Replays:
    """Every policy's run, `jobs` at once. A policy's own fault costs the others nothing; UserErrors are raised."""

    def timed(named: Named) -> tuple[Run | str, float]:
        began_s = perf_counter()
        return _ended(named, run_one, say), perf_counter() - began_s

    if jobs == 1:
        ended = [timed(named) for named in policies]
    else:
        with ThreadPoolExecutor(max_workers=jobs) as pool:  # the kernel holds no interpreter lock
            ended = list(pool.map(timed, policies))
    by_name = {named.name: (run, took_s) for named, (run, took_s) in zip(policies, ended, strict=True)}
    runs = {name: run for name, (run, _) in by_name.items() if isinstance(run, Run)}
    failures = {name: why for name, (why, _) in by_name.items() if isinstance(why, str)}
    return Replays(runs, failures, {name: by_name[name][1] for name in runs})


def _ended(named: Named, run_one: RunOne, say: Progress) -> Run | str:
    say(named.name, 0.0)
    try:
        return run_one(named, partial(say, named.name))
    except (UserError, ConservationError):  # none of the policy's
        raise
    except Exception as error:
        where = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
        what = str(error) if error.__cause__ else f"{type(error).__name__}: {error}"  # the cause is named in it
        return f"{what} ({Path(where.filename).name}:{where.lineno})"
    finally:
        say(named.name, 1.0)

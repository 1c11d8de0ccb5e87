"""`lmaas calibrate`: a log with observed latencies -> a profile fitted to its first part and judged by the rest."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.progress import Tell, rising, silent
from lmaas.replay.estimating.estimate import estimate
from lmaas.replay.estimating.facts import find_gpu
from lmaas.replay.profile import Profile, shipped

from .coefficients import Engine
from .engine import ROOM, Given, Inferred, infer, polished
from .fit import Objective
from .judge import compared, observed, replayed
from .log import LEAST, Log

MOST_FIT, MOST_TEST = 1000, 2000  # requests: a fit replays them a thousand times
POLISH = 700  # replays of the last steps


@dataclass(frozen=True)
class Calibration:
    """A profile with what it was fitted to: tables of `judge.compared` for the fitted part and for the rest.

    engine: each parameter and how it was come by; fitted_n, tested_n: requests compared; replays: how many it took.
    """

    profile: Profile
    engine: tuple[Inferred, ...]
    fitted: pl.DataFrame
    held_out: pl.DataFrame
    fitted_n: int
    tested_n: int
    replays: int
    aside: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


def calibrate(
    log: Log,
    given: Given,
    name: str,
    fit_requests: int | None = None,
    progress: Tell = silent,
) -> Calibration:
    """Fit the first `fit_requests` (default: half) and judge by what follows; UserError (exit 2, 4): too few of either.

    Observed latencies of the rest are not looked at before the profile stands; their arrivals and lengths are replayed
    in the fit as well, since they load the engine while requests of the first part still run.
    `progress` is told the share that is done, a `Share` of the requests.
    """
    n = min(len(log) // 2, MOST_FIT) if fit_requests is None else fit_requests
    if not LEAST // 2 <= n <= len(log) - LEAST // 3:
        raise UserError(
            f"--fit-requests {n}: of {len(log):,} requests {LEAST // 2} or more are to fit and {LEAST // 3} to judge",
            Exit.USAGE,
        )
    log = log.first(min(len(log), n + max(MOST_TEST, n)))
    first = np.arange(len(log)) < n
    for part, rows, least in (("first", first, LEAST // 2), ("last", ~first, LEAST // 3)):
        if (log.seen & rows).sum() < least:
            raise UserError(f"the {part} part has {(log.seen & rows).sum()} observed requests; it needs {least}")
    told = replace(log, ttft_s=np.where(first, log.ttft_s, np.nan), e2e_s=np.where(first, log.e2e_s, np.nan))
    last_s = float(np.nanmax(told.arrival_s + told.e2e_s))  # later arrivals change nothing that was seen
    reach = int(np.searchsorted(log.arrival_s, last_s, "right"))
    objective = Objective(told.first(reach), first[:reach])
    tell = rising(progress, len(log), "requests")
    best, engine = infer(objective, told, given, tell)
    best = polished(objective, best, POLISH)
    tell(1.0)
    values: dict[str, Any] = {p.name: p.value for p in engine}
    settled = Engine(**values, block=given.block, router=given.router)
    profile = best.coefficients.profile(settled, name)
    said = replayed(log, profile, settled.replicas, settled.router)
    fitted, held_out = (compared(said, observed(log), log.seen & rows) for rows in (first, ~first))
    fitted_n, tested_n = (int((log.seen & rows).sum()) for rows in (first, ~first))
    profile = profile.model_copy(
        update={
            "provenance": "calibrated",
            "source": f"a log: {fitted_n:,} requests fitted, {tested_n:,} judged",
            "error": stored(held_out) | by_request(said.e2e_s, log, ~first),
            "date": date.today().isoformat(),
        }
    )
    return Calibration(
        Profile.model_validate(profile.model_dump()),
        tuple(engine),
        fitted,
        held_out,
        fitted_n,
        tested_n,
        objective.count,
        log.aside,
        log.notes,
    )


def labelled(found: Calibration, model: str | None, gpu: str | None, tp: int) -> Calibration:
    """The same with what it served and ran on; where tables know both, KV that the log does not tell is estimated."""
    update: dict[str, object] = {"model": model, "gpu": gpu, "tp": tp, "gpus_per_replica": tp}
    engine, notes = found.engine, found.notes
    if gpu is not None:
        update["usd_per_gpu_hour"] = price(gpu)
    kv = next(p for p in engine if p.name == "kv_tokens")
    if model is not None and gpu is not None and kv.how == "not identifiable":
        with suppress(UserError):  # names that the tables do not have are names all the same
            tokens = max(estimate(model, gpu, tp).kv_tokens, kv.value // ROOM)
            told = replace(kv, value=tokens, about="never full; kept: what these GPUs have room for, estimated")
            engine = tuple(told if p is kv else p for p in engine)
            update["kv_tokens"] = tokens
    return replace(found, profile=found.profile.model_copy(update=update), engine=engine, notes=notes)


def price(gpu: str) -> float | None:
    """$ a GPU-hour that the shipped profiles have for it; None where they have not."""
    try:
        full = find_gpu(gpu).name
    except UserError:
        return None
    return next((p.usd_per_gpu_hour for p in shipped().values() if p.gpu == full), None)


def stored(held_out: pl.DataFrame) -> dict[str, float]:
    """The held-out errors as a profile carries them: METRIC_p50, METRIC_p95 (of the percentiles), METRIC_median."""
    found = {}
    for row in held_out.iter_rows(named=True):
        for name in ("p50_error", "p95_error", "median_error"):
            if np.isfinite(row[name]):
                found[f"{row['metric']}_{name.removesuffix('_error')}"] = round(abs(row[name]), 4)
    return found


def by_request(e2e_s: np.ndarray, log: Log, rows: np.ndarray) -> dict[str, float]:
    """mape and p95 of the E2E errors of single requests, which reports quote beside those of step times."""
    seen = rows & log.seen
    off = np.nan_to_num(np.abs(e2e_s[seen] / log.e2e_s[seen] - 1), nan=1.0)
    return {"mape": round(float(off.mean()), 4), "p95": round(float(np.quantile(off, 0.95)), 4)}

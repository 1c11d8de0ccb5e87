"""Measured step times -> the coefficients of an iteration, by non-negative least squares on relative errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from lmaas.analysis.errors import UserError
from lmaas.analysis.progress import Tell, rising, silent
from lmaas.replay.profile import Latency, Profile

from .steptable import StepTimes

APART = 2.0  # knots of G are measured sizes, each at least so many times the one before
FOLDS = 5
SCALE = 0.05  # relative errors beyond this count less and less: tables hold rows that went wrong
WRONG = 0.3  # a step off by more is named
TERMS = ("attn_pair", "prefix_kv", "decode_seq", "decode_kv")


@dataclass(frozen=True)
class StepFit:
    """The coefficients, and the relative errors of steps left out: of each, predicted by a fit to the other folds."""

    latency: Latency
    held_out: np.ndarray  # f8 by step, signed
    outliers: np.ndarray  # i8, steps off by more than WRONG

    @property
    def error(self) -> dict[str, float]:
        """mape and p95, as a profile carries them."""
        off = np.abs(self.held_out)
        return {"mape": round(float(off.mean()), 4), "p95": round(float(np.quantile(off, 0.95)), 4)}


def fit_steps(steps: StepTimes, progress: Tell = silent) -> StepFit:
    """The coefficients of all steps; the error over FOLDS, in which a configuration is held out whole.

    `progress` is told the share that is done: every fit takes about as long as another. UserError where the steps
    cannot tell a positive duration for every iteration.
    """
    groups = np.unique(steps.group)
    rng = np.random.default_rng(0)
    fold = dict(zip(groups[rng.permutation(len(groups))], np.arange(len(groups)) % FOLDS, strict=True))
    of = np.array([fold[g] for g in steps.group])
    held_out = np.full(len(steps), np.nan)
    folds = min(FOLDS, len(groups))
    tell = rising(progress, len(steps), "steps")
    for k in range(folds):
        tell(k / (folds + 1))
        test = of == k
        if (~test).sum() >= 3:
            knots = _knots(steps.n[~test])
            found = _solved(_rows(steps, knots)[~test], steps.seconds[~test])
            held_out[test] = _rows(steps, knots)[test] @ found / steps.seconds[test] - 1
    if np.isnan(held_out).any():
        raise UserError(f"{len(groups)} configurations measured: too few to hold some out and judge the fit by them")
    tell(folds / (folds + 1))
    knots = _knots(steps.n)
    found = _solved(_rows(steps, knots), steps.seconds)
    tell(1.0)
    off = _rows(steps, knots) @ found / steps.seconds - 1
    slopes = found[1 : 1 + len(knots)]
    if found[0] == 0 and slopes[0] == 0:
        raise UserError("these step times make an iteration last 0 s: measure small batches, too")
    latency = Latency(
        base=float(found[0]),
        token_knots=tuple(knots),
        token_slopes=tuple(float(s) for s in slopes),
        **{name: float(v) for name, v in zip(TERMS, found[1 + len(knots) :], strict=True)},
    )
    return StepFit(latency, held_out, np.flatnonzero(np.abs(off) > WRONG))


def fitted_profile(
    steps: StepTimes,
    name: str,
    engine: Mapping[str, int],
    whose: Mapping[str, str | int | None],
    progress: Tell = silent,
) -> tuple[Profile, StepFit]:
    """The profile of these steps; engine: kv_tokens, max_seqs, max_batch_tokens; whose: model, gpu, tp where known."""
    found = fit_steps(steps, progress)
    known: dict[str, Any] = {key: value for key, value in whose.items() if value is not None}
    sizes: dict[str, Any] = dict(engine)
    profile = Profile(
        name=name,
        **sizes,
        **known,
        gpus_per_replica=int(whose.get("tp") or 1),
        latency=found.latency,
        provenance="fitted",
        source=f"{len(steps)} measured steps, medians of {steps.rows:,} rows",
        error=found.error,
        date=date.today().isoformat(),
    )
    return profile, found


def _knots(n: np.ndarray) -> list[float]:
    """0 and measured sizes: a size is a knot only where something larger was measured, too."""
    knots = [0.0]
    for size in np.unique(n)[:-1]:
        if size >= APART * max(knots[-1], 8.0):
            knots.append(float(size))
    return knots


def _rows(steps: StepTimes, knots: list[float]) -> np.ndarray:
    """f8[steps, 1 + knots + 4]: what each coefficient is multiplied by."""
    ends = np.array([*knots[1:], np.inf])
    tokens = np.maximum(0.0, np.minimum(steps.n[:, None], ends) - np.array(knots))
    one = np.ones(len(steps))
    return np.column_stack([one, tokens, steps.pairs, steps.prefix, steps.decodes, steps.context])


def _solved(rows: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Coefficients >= 0 with the least relative errors, too long and too short alike (logarithms), robustly.

    From non-negative least squares to a loss that grows linearly, which rows that went wrong sway less.
    """
    from scipy.optimize import least_squares, nnls

    relative = rows / seconds[:, None]
    scale = np.maximum(relative.max(axis=0), 1e-300)
    relative = relative / scale
    start = nnls(relative, np.ones(len(seconds)))[0]

    def off(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(relative @ x))

    def slope(x: np.ndarray) -> np.ndarray:
        return np.asarray(relative / (relative @ x)[:, None])

    robust = least_squares(off, start + 1e-6, jac=slope, bounds=(0, np.inf), loss="soft_l1", f_scale=SCALE)
    found: np.ndarray = np.where(robust.x < 1e-5, 0.0, robust.x) / scale
    found[relative.max(axis=0) == 0] = 0.0
    return found

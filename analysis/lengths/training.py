"""`lmaas train`: a predictor of output lengths learned on the first part of a trace, and judged on the rest."""

import polars as pl

from ..errors import Exit, UserError
from ..formats.shown import shown
from ..instants import Period
from ..progress import Tell, rising, silent, steps
from ..progress import part as step
from ..selection import selected
from ..trace import Trace
from .kinds import PREDICTORS
from .modelform import Facts
from .overlap import sketch
from .predictor import LengthPredictor, known_by
from .requests import requests_of
from .result import Lengths, by_bucket, calibration, importance, rest
from .scores import scored_rows, scores
from .strangers import strangers

FLOORS = ("input-bin", "median")
# shares of the time of a million requests with trees, measured: read, the kinds learned, all predicted by the first
READ, LEARNED, TOLD = 0.02, 0.6, 0.74
FEW = 100  # held-out requests below which scores say little


def train(
    trace: Trace,
    *,
    kind: str = "trees",
    train_fraction: float = 0.5,
    until: str | None = None,
    seed: int = 0,
    progress: Tell = silent,
) -> Lengths:
    """Learn on the first `train_fraction` of the trace's time, score on the rest beside the floors.

    `until` (a date, a time with its zone, or a length of time from the start) leaves out what is later. Scores are
    never in-sample: a fraction of 1 has none. UserError (exit 2) for an unknown kind or a fraction that is none, 4
    where no request has an output before the cut. `progress` is told the share of the time that is done, a `Share` of
    the requests.
    """
    PREDICTORS.load(kind)
    if not 0 < train_fraction <= 1:
        raise UserError(f"--train-fraction {train_fraction:g}: must be above 0 and at most 1", Exit.USAGE)
    with selected(trace, Period.parse(None, until)) as part:
        requests, note = requests_of(part)
        meta = part.meta
    tell = rising(progress, requests.height, "requests")
    tell(READ)
    first, last = float(requests["arrival_s"][0]), float(requests["arrival_s"][-1])
    # all of it: the last answers count as well, whenever they came
    ends = float(requests["done_s"].max() or last) if train_fraction == 1 else last  # type: ignore[arg-type]
    cut_s = first + train_fraction * (last - first) if train_fraction < 1 else max(ends, last) + 1.0
    known = known_by(requests, cut_s)
    if known.is_empty():
        raise UserError(
            f"{shown(meta.name)}: none of its {requests.height:,} requests has an output that was there before the "
            "cut; there is nothing to learn from",
            Exit.INPUT,
        )
    asked = [kind, *(floor for floor in FLOORS if floor != kind)]
    learning = zip(steps(step(tell, READ, LEARNED), [8.0, *[1.0] * (len(asked) - 1)]), asked, strict=True)
    trained = {
        name: LengthPredictor.train(requests, cut_s=cut_s, kind=name, seed=seed, intervals=True, tell=told)
        for told, name in learning
    }
    predictor = trained[kind]
    facts = Facts(
        trace_id=meta.trace_id,
        trace_name=meta.name,
        epoch=meta.epoch.isoformat() if meta.epoch else None,
        from_s=float(known["arrival_s"][0]),
        to_s=float(known["arrival_s"][-1]),
        cut_s=cut_s,
        rows=known.height,
        kind=kind,
        seed=seed,
        note=predictor.note,
        sketch=sketch(known),
    )
    mask = (pl.col("arrival_s") >= cut_s) & (pl.col("output_tokens") >= 1)
    told = {kind: predictor.told(requests, step(tell, LEARNED, TOLD))}
    rows = scored_rows(predictor, requests, mask, told[kind])
    unknown = strangers(requests.filter(mask), predictor.services)
    notes = [note, predictor.note, unknown, _held_out(rows.height, train_fraction)]
    settings = {"kind": kind, "train_fraction": train_fraction, "until": until, "seed": seed, "cut_s": cut_s}
    judged = scores(trained, requests, mask, seed=seed, told=told, tell=step(tell, TOLD, 0.98))
    calibrated, buckets = calibration(rows), by_bucket(rows, predictor.edges)
    again = rest(known, requests.filter(mask))
    tell(1.0)
    return Lengths(
        "train", meta, predictor, facts, settings,
        judged, calibrated, buckets, importance(predictor), again, pl.DataFrame(),
        tuple(said for said in notes if said),
    )  # fmt: skip


def _held_out(n: int, train_fraction: float) -> str | None:
    if train_fraction == 1:
        return "all of the trace was trained on, so nothing is scored: errors on what was learned from say nothing"
    if n < FEW:
        return f"only {n} requests with an output arrive after the cut: their scores say little"
    return None
